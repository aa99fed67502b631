"""Fingerprints that were found out before, so that a large file is read once.

A file counts as unchanged while its size, times and inode are; an object in a bucket while its
ETag is, or its size and time where the store tells no ETag.
"""

import contextlib
import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lima.common.filelock import held
from lima.errors import StorageError

SETTLED_S = 2.0
"""A file that changed this shortly ago may change again without another time of change: clocks of
file systems are coarse. It is not remembered."""
TABLE = "create table if not exists files (place text primary key, mark text, fingerprint text)"


@dataclass(frozen=True)
class Unknown:
    """A fingerprint that is not known, and why; it is said and never guessed.

    Args:
        why: In words.
        size: Bytes of what is there all the same; None: nobody knows.
        is_absent: Whether its store, or this machine, says that it is not there.

    """

    why: str
    size: int | None = None
    is_absent: bool = False


@dataclass(frozen=True)
class State:
    """What tells a changed file or object from an unchanged one."""

    mark: str
    changed_at: float
    """Seconds since 1970."""

    @classmethod
    def of_file(cls, path: Path) -> "State":
        """Return the state of a file of this machine."""
        stat = path.stat()
        mark = f"{stat.st_size} {stat.st_mtime_ns} {stat.st_ctime_ns} {stat.st_ino}"
        return cls(mark, max(stat.st_mtime, stat.st_ctime))


def cache_folder() -> Path:
    """Return the user's folder for what can be found out again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lima-k8s"


class Memory:
    """Remembers fingerprints in a file; where it cannot be used, nothing is remembered."""

    def __init__(self, file: Path | None = None) -> None:
        """Use `file`; None: the one of this user."""
        self.file = file

    def get(self, place: str, state: State) -> str | None:
        """Return the fingerprint of a place that is in this state."""
        with self._open() as table:
            if table is None:
                return None
            query = "select fingerprint from files where place = ? and mark = ?"
            row = table.execute(query, (place, state.mark)).fetchone()
            return str(row[0]) if row else None
        return None

    def put(self, place: str, state: State, fingerprint: str) -> None:
        """Remember a fingerprint, unless the place may change without being seen to."""
        if time.time() - state.changed_at < SETTLED_S:
            return
        with self._open() as table:
            if table is not None:
                row = (place, state.mark, fingerprint)
                table.execute("insert or replace into files values (?, ?, ?)", row)

    @contextlib.contextmanager
    def alone(self, place: str) -> Iterator[None]:
        """Let one process of this machine at a time find out about a place; others then know."""
        name = hashlib.sha256(place.encode()).hexdigest()[:16]
        with contextlib.ExitStack() as stack:
            # Where there is no place for a lock, each finds out for itself.
            with contextlib.suppress(StorageError, RuntimeError):
                stack.enter_context(held(self._place().parent / "locks" / name))
            yield

    def _place(self) -> Path:
        return self.file or cache_folder() / "fingerprints.sqlite"

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection | None]:
        try:
            file = self._place()
            file.parent.mkdir(parents=True, exist_ok=True)
            table = sqlite3.connect(file, timeout=10)
        except (OSError, RuntimeError, sqlite3.Error):  # no home, no right to write there
            yield None
            return
        with contextlib.closing(table), contextlib.suppress(sqlite3.Error), table:
            table.execute(TABLE)
            yield table
