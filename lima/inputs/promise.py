"""Checks inputs that are files and folders against the fingerprints in a spec, before their use."""

import logging
import time
from collections.abc import Mapping

from lima.errors import InputError
from lima.inputs.check import check
from lima.inputs.content import Content, Contents, Watch
from lima.inputs.memory import Memory, Unknown
from lima.inputs.places import Place

log = logging.getLogger(__name__)
LARGE = 1 << 30
"""Bytes of a file from which on it is logged how far its reading is."""
SAY_EVERY_S = 10.0
NAMED = 5
"""Files that are named when a folder has changed."""


def check_place(
    place: Place, before: Mapping[str, str] | None = None, contents: Contents | None = None
) -> Content | None:
    """Check an input; return what it contains, None if nothing was promised.

    Args:
        place: The input, with the fingerprint that was promised.
        before: The fingerprints of its files when the run began, if they are known.
        contents: What looks at it.

    Raises:
        ChangedInputError: it is another content.
        InputError: it is not there, or cannot be read.

    """
    if place.fingerprint is None:
        return None
    found = look(place, contents)
    now = {name: file.fingerprint for name, file in found.files.items()}
    changed = _changed(before, now) if before else ""
    check(found.fingerprint, place.fingerprint, ", ".join(place.paths), changed)
    return found


def look(place: Place, contents: Contents | None = None) -> Content:
    """Return what an input contains; the processes of a machine look one after the other.

    Raises:
        InputError: it is not there, or cannot be read.

    """
    memory = Memory()
    with memory.alone(" ".join(place.paths)):
        found = (contents or Contents(memory=memory, watch=_logged())).of(place)
    if isinstance(found, Unknown):
        raise InputError(f"{place.role}: {', '.join(place.paths)}: {found.why}")
    return found


def _logged() -> Watch:
    """Return what logs how far the reading of a large file is."""
    said: dict[str, float] = {}

    def watch(where: str, done: int, total: int) -> None:
        now = time.monotonic()
        if total >= LARGE and now - said.setdefault(where, now) >= SAY_EVERY_S:
            said[where] = now
            log.info("%s: %d %% read for its fingerprint", where, 100 * done // total)

    return watch


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Return which files are others than they were."""
    names = sorted(n for n in {*before, *now} if before.get(n) != now.get(n))
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
