"""How a job ended, as one line of its log: what those who started it read of it.

    lima-job-end {"exit_code":2,"message":"…","stopped":false,"cells":[…]}

The line is written by every job that ends by itself before its work is done. A log without it is
that of a job that was killed.
"""

from collections.abc import Sequence

import msgspec

from lima.errors import HeldError, Interrupted, LimaError

MARK = "lima-job-end "
MOST_CELLS = 20
LONGEST = 500
"""Characters of a message. KubeRay hands on the last 20,000 characters of a log, and no more."""


class CellEnd(msgspec.Struct, frozen=True):
    """What ended a cell early.

    Args:
        run: Its id.
        name: Its arm and seed.
        message: The error's.
        stopped: Whether it was asked to stop, and is no failure.
        held: Whether another job worked on it, so that this one did not begin.

    """

    run: str
    name: str
    message: str
    stopped: bool
    held: bool = False

    @classmethod
    def of(cls, run: str, name: str, error: LimaError) -> "CellEnd":
        """Return what an error of a cell comes to."""
        stopped, held = isinstance(error, Interrupted), isinstance(error, HeldError)
        return cls(run, name, str(error)[:LONGEST], stopped, held)

    def __str__(self) -> str:
        return f"{self.run}: {self.name}: {self.message}"


class JobEnd(msgspec.Struct, frozen=True):
    """What ended a job early: its worst error, and that of each cell, the first of many."""

    exit_code: int
    message: str
    stopped: bool
    cells: list[CellEnd]

    @classmethod
    def of(cls, error: LimaError, cells: Sequence[CellEnd]) -> "JobEnd":
        """Return what an error of a job comes to."""
        failed_first = sorted(cells, key=lambda cell: cell.stopped)
        stopped = isinstance(error, Interrupted)
        return cls(error.exit_code, str(error)[:LONGEST], stopped, failed_first[:MOST_CELLS])

    @property
    def failures(self) -> list[str]:
        """What failed, in words; nothing where all was stopped."""
        if self.cells:
            return [str(cell) for cell in self.cells if not cell.stopped]
        return [] if self.stopped else [self.message]

    @property
    def any_stopped(self) -> bool:
        """Whether some of its work was stopped."""
        return self.stopped or any(cell.stopped for cell in self.cells)

    @property
    def line(self) -> str:
        """The line of the log."""
        return MARK + msgspec.json.encode(self).decode()


def read_job_end(log: str) -> JobEnd | None:
    """Return how a job ended, of its log or the end of that; None: it does not say."""
    lines = [line for line in log.splitlines() if line.startswith(MARK)]
    try:
        return msgspec.json.decode(lines[-1].removeprefix(MARK), type=JobEnd) if lines else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
