"""JSON that others may have written: it is of the type that is asked for, or it is damaged."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


class DamagedJsonError(ValueError):
    """A text is not JSON, or not of the type that was asked for; the message says where."""


def decoded(content: bytes, kind: type[T]) -> T:
    """Return what a JSON text says.

    Args:
        content: The text in UTF-8, whoever wrote it.
        kind: What it is to be: a `msgspec.Struct`, with the ranges of its numbers.

    Raises:
        DamagedJsonError: it is none, whatever else it is.

    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DamagedJsonError(str(error)) from None
    except RecursionError:
        raise DamagedJsonError("lists or mappings within each other without end") from None
