"""A lock between processes: a file that one of them holds."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from lima.errors import StorageError


@contextlib.contextmanager
def held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold a lock file, which is made where it is missing and stays.

    Yields whether it is held; it is not where the file system knows no locks.

    Args:
        path: The file.
        wait: Whether to wait for another process that holds it.

    Raises:
        StorageError: the file cannot be made.
        BlockingIOError: another process holds it, and this one would not wait.

    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Network file systems lock only what is open for writing.
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise StorageError(f"cannot write {path.parent}: {error.strerror}") from error
    try:
        yield _locked(handle, wait)
    finally:
        os.close(handle)


def _locked(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
