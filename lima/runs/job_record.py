"""Jobs on one machine, as records of the storage that they write to: others find them there.

    STORAGE/jobs/NAME.json

Whoever starts a job writes its record, and again when it has ended. One whose end nobody wrote has
ended with its process.
"""

import os
import socket
from pathlib import Path
from typing import Any

import msgspec

from lima.common.clock import now
from lima.common.process import began
from lima.errors import LimaError, StorageError
from lima.spec import CellSpec
from lima.spec.codec import decode, encode
from lima.store.storage import Storage

FOLDER = "jobs"


class JobRecord(msgspec.Struct, frozen=True):
    """A job.

    Args:
        name: Of the record.
        host: The machine.
        pid: Of its process there.
        began: When that began, seconds since 1970; 0: not known.
        at: When the record was made, ISO 8601.
        log: Path of its log on that machine.
        cells: The specs of its cells.
        exit_code: How it ended; None: nobody has written that yet.

    """

    name: str
    host: str
    pid: int
    began: float
    at: str
    log: str
    cells: list[dict[str, Any]]
    exit_code: int | None = None

    @classmethod
    def of(cls, pid: int, log: Path, cells: "list[CellSpec]") -> "JobRecord":
        """Return the record of a process of this machine."""
        at = now()
        name = f"{at:%Y%m%dT%H%M%S%f}-{pid}"
        specs = [encode(cell) for cell in cells]
        where = str(log.absolute())
        return cls(name, socket.gethostname(), pid, began(pid), at.isoformat(), where, specs)

    @property
    def is_here(self) -> bool:
        """Whether it is of this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether its process lives, as far as can be seen from here."""
        if self.exit_code is not None or not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass  # it is there, of another user
        return not self.began or abs(began(self.pid) - self.began) < 1.0

    def read_cells(self) -> list[CellSpec]:
        """Return its cells, without those of another version of this software."""
        return [cell for spec in self.cells if (cell := decoded(spec))]


def decoded(spec: Any) -> CellSpec | None:
    """Return a cell from its encoded form; None: another version wrote it."""
    try:
        return decode(CellSpec, spec)
    except LimaError:
        return None


def write_job(storage: Storage, record: JobRecord) -> None:
    """Write a record, in the place of an earlier one of the same job; to lose it fails no job."""
    try:
        data = msgspec.json.encode(record)
        storage.write(f"{FOLDER}/{record.name}.json", data, replace=True)
    except StorageError:
        return


def read_jobs(storage: Storage) -> list[JobRecord]:
    """Return the records of a storage, the oldest first.

    Raises:
        StorageError: storage cannot be reached.

    """
    found = []
    for entry in storage.entries(FOLDER):
        try:
            found.append(msgspec.json.decode(storage.read(entry.path), type=JobRecord))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # another version's
    return sorted(found, key=lambda record: record.at)
