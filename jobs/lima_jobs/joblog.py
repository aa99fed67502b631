"""Keeps the driver's log on storage, where it outlives the pod.

logs/run_id=R/20260131T120000Z.log, one object for each start of the driver
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lima.errors import StorageError
from lima.store.storage import Storage

INTERVAL_S = 10.0
MOST_BYTES = 32 << 20
"""Of a longer log the end is kept: it tells why a run ended."""


def log_path(run: str, started: datetime) -> str:
    """Return where the log of a driver lies that was started for `run`."""
    return f"logs/run_id={run}/{started:%Y%m%dT%H%M%SZ}.log"


@contextlib.contextmanager
def kept_log(storage: Storage, runs: Sequence[str]) -> Iterator[None]:
    """Copy what this process writes to storage, while it runs and at its end.

    Nothing is copied when standard output is not a file: then someone else keeps it.
    """
    file = output_file()
    if file is None:
        yield
        return
    keeper = _Keeper(file, storage, [log_path(run, datetime.now(UTC)) for run in runs])
    thread = threading.Thread(target=keeper.run, name="job-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        keeper.ended.set()
        thread.join()
        keeper.copy()


def output_file() -> Path | None:
    """Return the file that standard output goes to, as under `ray job submit`; None: no file."""
    with contextlib.suppress(OSError):
        path = Path("/proc/self/fd/1").readlink()
        if path.is_file():
            return path
    return None


class _Keeper:
    def __init__(self, file: Path, storage: Storage, paths: Sequence[str]) -> None:
        self.file, self.storage, self.paths = file, storage, paths
        self.ended = threading.Event()
        self.copied = -1

    def run(self) -> None:
        while not self.ended.wait(INTERVAL_S):
            self.copy()

    def copy(self) -> None:
        """Write the log anew if it grew; a log that is lost never fails a run."""
        with contextlib.suppress(OSError, StorageError):
            size = self.file.stat().st_size
            if size == self.copied:
                return
            with self.file.open("rb") as stream:
                stream.seek(max(0, size - MOST_BYTES), os.SEEK_SET)
                data = stream.read()
            for path in self.paths:
                self.storage.write(path, data, replace=True)
            self.copied = size


def set_up_logging() -> None:
    """Write our own messages to standard error, in the driver and in workers."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for room in ("lima", "lima_jobs"):
        logger = logging.getLogger(room)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)
