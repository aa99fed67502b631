"""Checks that what is read is what the run was promised."""

from lima.errors import ChangedInputError
from lima.inputs.fingerprint import of_bytes


def check_bytes(data: bytes, promised: str | None, where: str) -> None:
    """Check the bytes of a file that are about to be used.

    Args:
        data: What was read.
        promised: Fingerprint in the spec of the run; None: nothing was promised.
        where: Where it was read.

    Raises:
        ChangedInputError: it is another content.

    """
    if promised is not None:
        check(of_bytes(data), promised, where)


def check(found: str, promised: str | None, where: str, changed: str = "") -> None:
    """Check the fingerprint of what is about to be used.

    Args:
        found: What is there.
        promised: Fingerprint in the spec of the run; None: nothing was promised.
        where: Where it was read.
        changed: Which files of it are others, if that is known.

    Raises:
        ChangedInputError: it is another content.

    """
    if promised is not None and found != promised:
        which = f" ({changed})" if changed else ""
        raise ChangedInputError(
            f"{where}: has changed since this run was submitted{which}: the run was promised "
            f"{promised}, and there is {found} now. Nothing was computed from it. Put the old "
            "content back, and the same command goes on; or submit the study again: the new "
            "content makes a new run"
        )
