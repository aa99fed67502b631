"""How far a run is, as one small object on storage that the command line reads.

The same object serves a run on this machine and one in a cluster: nothing parses logs.
"""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from lima.errors import StorageError
from lima.store.storage import Storage
from lima.store.values import STATUSES

DONE = "done"
"""Stage name of a cell whose stages are all finished."""
INTERVAL_S = 1.0
"""At most one write in this time: an object store charges for each."""


Told = Callable[[int, int, Mapping[str, Any]], None]
"""Is told what is done, of how much, and the figures of `update`, each time."""


class Progress:
    """Writes how far one run is; losing a write never fails the run."""

    def __init__(self, storage: Storage, run: str, told: Told = lambda *_: None) -> None:
        """Report on `run`, the id of the whole cell, to storage and to `told`."""
        self.storage, self.run, self.told = storage, run, told
        self._next = 0.0
        self._since: dict[str, dict[str, Any]] = {}
        self._warnings: list[str] = []
        self._unsaid: dict[str, Any] | None = None

    def warn(self, text: str) -> None:
        """Have every record from now on tell people something that they should know."""
        if text not in self._warnings:
            self._warnings.append(text)

    def update(
        self, stage: str, done: int, total: int, unit: str, *, force: bool = False, **figures: Any
    ) -> None:
        """Say that `done` of `total` units of `stage` are finished, with figures worth showing."""
        self.told(done, total, figures)
        record = {"stage": stage, "done": done, "total": total, "unit": unit, "figures": figures}
        record["at"] = datetime.now(UTC).isoformat()
        if self._warnings:
            record["warnings"] = self._warnings
        # What this process said first of the stage: work that a resumed one did not do itself
        # must not count when the time that is left is reckoned.
        record["since"] = self._since.setdefault(stage, {"done": done, "at": record["at"]})
        if time.monotonic() < self._next and not force and done != total:
            self._unsaid = record
        else:
            self._write(record)

    def flush(self) -> None:
        """Write what came too soon after the record before: nothing more will."""
        if self._unsaid:
            self._write(self._unsaid)

    def _write(self, record: Mapping[str, Any]) -> None:
        self._next, self._unsaid = time.monotonic() + INTERVAL_S, None
        try:
            self.storage.write(progress_path(self.run), json.dumps(record).encode(), replace=True)
        except StorageError:
            return


def progress_path(run: str) -> str:
    """Return where a run's progress lies."""
    return f"progress/run_id={run}.json"


def progress_runs(storage: Storage) -> list[str]:
    """Return the ids of the runs that have said how far they are.

    Raises:
        StorageError: storage cannot be reached.

    """
    names = (entry.path.rpartition("/")[2] for entry in storage.entries("progress"))
    return [name.removeprefix("run_id=").removesuffix(".json") for name in names]


def read_progress(storage: Storage, run: str) -> dict[str, Any] | None:
    """Return a run's last progress record; None before the first, or if storage fails."""
    try:
        return look_up_progress(storage, run)
    except StorageError:
        return None


def look_up_progress(storage: Storage, run: str) -> dict[str, Any] | None:
    """Return a run's last progress record; None before the first.

    Raises:
        StorageError: storage cannot be reached.

    """
    path = progress_path(run)
    try:
        return dict(json.loads(storage.read(path))) if storage.exists(path) else None
    except ValueError:
        return None


def unscored_text(record: Mapping[str, Any]) -> str:
    """Return how many responses a judge left without a score, of how many; empty: none.

    Args:
        record: The last progress of the judge, or of a cell that is done.

    """
    figures = record.get("figures", {})
    if record.get("stage") == DONE:
        return str(figures.get("unscored", ""))
    failed = figures.get("failed") if record.get("stage") == "judge" else 0
    if not failed:
        return ""
    reasons = ", ".join(f"{figures[name]} {name}" for name in STATUSES if figures.get(name))
    told = f" ({reasons})" if reasons else ""
    return f"{failed} of {record['total']} {record['unit']} unscored{told}"


def warnings_of(record: Mapping[str, Any]) -> list[str]:
    """Return what a progress record tells people that they should know."""
    return list(record.get("warnings", ()))


def eta_seconds(progress: dict[str, Any], now: datetime) -> float | None:
    """Return the seconds until a stage ends, if it goes on as it went since this attempt began.

    `since` in a progress record is the first that this attempt said of the stage, so that what
    earlier attempts did does not count as work of this one.
    """
    since = progress.get("since")
    if not since or progress.get("stage") == DONE:
        return None
    done = progress["done"] - since["done"]
    at = datetime.fromisoformat(progress["at"])
    spent = (at - datetime.fromisoformat(since["at"])).total_seconds()
    if done <= 0 or spent <= 0:
        return None
    left = (progress["total"] - progress["done"]) * spent / done
    return max(float(left) - (now - at).total_seconds(), 0.0)
