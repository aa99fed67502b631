"""Files on this machine that appear whole or not at all."""

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

PARTIAL = re.compile(r"(^|/)\.[^/]+\.[0-9a-f]{32}$")
"""Names that files have while they are written."""


def write_whole(path: Path, data: bytes, *, replace: bool) -> bool:
    """Write beside the target, then link it into place: never half, never twice.

    Returns:
        Whether it was written: with `replace` always, else only if nothing was there.

    """
    if path.exists():
        if not replace:
            return False
        if not path.is_file():  # the owner of the machine could lose a device
            raise OSError(errno.EEXIST, f"{path} is no regular file")
    if replace:
        with written_beside(path) as stream:
            stream.write(data)
        return True
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with _synced(partial) as stream:
            stream.write(data)
        os.link(partial, path)
    except FileExistsError:
        return False
    finally:
        partial.unlink(missing_ok=True)
    return True


@contextlib.contextmanager
def written_beside(path: Path) -> Iterator[BinaryIO]:
    """Write beside the target, which what is written replaces in the end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        with _synced(partial) as stream:
            yield stream
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _synced(file: Path) -> Iterator[BinaryIO]:
    with file.open("wb") as stream:
        yield stream
        stream.flush()
        os.fsync(stream.fileno())


def _partial(path: Path) -> Path:
    return path.with_name(f".{path.name}.{uuid.uuid4().hex}")


def copy_whole(source: Path, path: Path) -> None:
    """Copy beside the target, which the copy then replaces."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = _partial(path)
    try:
        shutil.copyfile(source, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
