"""A lock between processes: a file that one of them holds."""

import contextlib
import fcntl
import math
import os
import time
from collections.abc import Iterator
from pathlib import Path

from lima.errors import StorageError

POLL_S = 0.02


@contextlib.contextmanager
def held(path: Path, *, wait: bool = True, patience_s: float = math.inf) -> Iterator[bool]:
    """Hold a lock file, which is made where it is missing and stays.

    Yields whether it is held; it is not where the file system knows no locks, nor where another
    process keeps it too long: a lock is held for moments, so that one is suspended, or its disk is.

    Args:
        path: The file.
        wait: Whether to wait for another process that holds it.
        patience_s: Seconds that it is waited for.

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
        yield _locked(handle, patience_s) if wait else _taken(handle)
    finally:
        os.close(handle)


def _locked(handle: int, patience_s: float) -> bool:
    give_up = time.monotonic() + patience_s
    while time.monotonic() < give_up:
        with contextlib.suppress(BlockingIOError):
            return _taken(handle)
        time.sleep(POLL_S)
    return False


def _taken(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError:
        return False
    return True
