"""Temporary folders of which none outlives its process for long.

What a killed process leaves behind may be hundreds of GiB. A folder is locked by whoever works in
it, so that the next process can tell what nobody works in, also from another container.
"""

import contextlib
import fcntl
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

log = logging.getLogger(__name__)
KINDS = (
    "lima-weights-",
    "lima-state-",
    "lima-tokenizer-",
    "lima-run-",
    "lima-board-",
    "lima-vllm-",
    "lima-ranks-",
    "lima-extensions-",
    "lima-ray-",
    "lima-stop-",
)


@contextlib.contextmanager
def temporary_folder(kind: str) -> Iterator[Path]:
    """Make a folder, one of `KINDS`, and remove it in the end."""
    assert kind in KINDS, kind
    folder, handle = _made(kind)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _made(kind: str) -> tuple[Path, int]:
    """Return a folder of ours, and the handle that keeps it locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=kind))
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        # On a disk that knows no locks, what is left behind stays: nobody can tell.
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if folder.exists():
            return folder, handle
        os.close(handle)  # it was taken for one left behind, just before it was locked


def remove_left_behind() -> None:
    """Remove the temporary folders in which nobody works any more."""
    for folder in left_behind():
        with _held(folder) as free:
            if free:
                log.info("removing %s: a process that was killed left it behind", folder)
                shutil.rmtree(folder, ignore_errors=True)


def left_behind() -> list[Path]:
    """Return the temporary folders in which nobody works any more."""
    place = Path(tempfile.gettempdir())
    found = []
    for folder in [f for kind in KINDS for f in place.glob(f"{kind}*") if _is_ours(f)]:
        with _held(folder) as free:
            if free:
                found.append(folder)
    return sorted(found)


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[bool]:
    """Lock a folder for a while; False if somebody works in it, or it is gone."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        yield False
        return
    try:
        free = True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            free = False
        yield free
    finally:
        os.close(handle)


def _is_ours(folder: Path) -> bool:
    try:
        return folder.is_dir() and not folder.is_symlink() and folder.stat().st_uid == os.getuid()
    except OSError:
        return False
