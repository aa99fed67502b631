"""What runs wrote to their storage about themselves: how far they are, what they cost."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from lima.errors import LimaError
from lima.runs.effort import effort_of
from lima.spec import STAGES, CellSpec, Stage, cell_stages
from lima_k8s.runs.model import Run

if TYPE_CHECKING:
    from lima.store.storage import Storage

THREADS = 16
COLUMNS = ("run_id", "attempt_id", "event", "at", "outcome", "reason", "gpus", "seconds")


@dataclass(frozen=True)
class Records:
    """The records of one run on its storage."""

    progress: dict[str, Any] = field(default_factory=dict)
    """Its last progress record; empty before the first."""
    stage_starts: int = 0
    retries: int = 0
    """Starts of a stage after its first."""
    gpu_hours: float = 0.0
    last_outcome: str = ""
    last_reason: str = ""


@dataclass
class Reader:
    """Reads records; storage that cannot be reached is told once and left out."""

    problems: dict[str, str] = field(default_factory=dict)
    """By storage URI."""

    def read(self, runs: Sequence[Run], now: datetime) -> dict[str, Records]:
        """Return the records of `runs` by their names.

        Args:
            runs: Those whose spec is known; others are left out.
            now: Until when an attempt of a run whose job runs is charged.

        """
        found: dict[str, Records] = {}
        known = [run for run in runs if run.storage and run.cell]
        for uri in sorted({run.storage for run in known} - self.problems.keys()):
            here = [run for run in known if run.storage == uri]
            try:
                found |= _read(uri, here, now)
            except (LimaError, OSError) as error:
                self.problems[uri] = str(error)
        return found


def _read(uri: str, runs: Sequence[Run], now: datetime) -> dict[str, Records]:
    from lima.store.reachable import require_answer
    from lima.store.storage import Storage

    require_answer(uri)  # the cluster may reach what this machine cannot
    return read_records(Storage(uri), runs, now, {run.name for run in runs if run.job_runs})


def read_records(
    storage: "Storage", runs: Sequence[Run], now: datetime, running: Collection[str]
) -> dict[str, Records]:
    """Return the records of runs of one storage by their names.

    Args:
        storage: Of all of them.
        runs: Their specs are known.
        now: Until when an attempt of a run that is `running` is charged.
        running: Names of runs whose job runs.

    Raises:
        LimaError: storage cannot be reached.

    """
    from lima.runs.progress import read_progress

    storage.entries("progress")  # says what is wrong, which a single record does not
    with ThreadPoolExecutor(THREADS) as pool:
        progress = list(pool.map(lambda run: read_progress(storage, run.run_id) or {}, runs))
    rows = _attempt_rows(storage, runs)
    return {
        run.name: attempts_of(
            _counted(run, rows),
            now,
            record,
            running=run.name in running,
        )
        for run, record in zip(runs, progress, strict=True)
    }


def _counted(run: Run, rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the attempts at a run, as `aggregate` counts them: what it shares is nobody's own.

    Until its own stages begin, those at the base model that it waits for.
    """
    from lima.evaluation.cells.measures import OWN_STAGES

    assert run.cell  # others have no records
    return [*_rows_of(run.cell, OWN_STAGES, rows)] or [*_rows_of(run.cell, STAGES, rows)]


def _rows_of(
    cell: CellSpec, stages: Sequence[Stage], rows: dict[str, list[dict[str, Any]]]
) -> Iterator[dict[str, Any]]:
    from lima.spec.codec import run_id

    for name in dict.fromkeys(run_id(cell, s) for s in cell_stages(cell) if s in stages):
        yield from rows.get(name, ())


def stage_ids(cell: CellSpec | None) -> list[str]:
    """Return the run ids of the stages of a cell, under which attempts are recorded."""
    from lima.spec.codec import run_id

    return list(dict.fromkeys(run_id(cell, s) for s in cell_stages(cell))) if cell else []


def attempts_of(
    rows: Iterable[dict[str, Any]],
    now: datetime,
    progress: dict[str, Any] | None = None,
    *,
    running: bool = False,
) -> Records:
    """Return what the rows of the attempts table say together.

    An attempt without an end is charged until `now` if its run is `running`. Else it was killed,
    and is charged until it last lived, as the ledger will when the next attempt closes it.
    """
    listed = list(rows)
    effort = effort_of(listed, now if running else _last_life(progress))
    ended = (row for row in listed if row["event"] == "ended")
    last = max(ended, key=lambda row: row["at"], default=None)
    return Records(
        progress=progress or {},
        stage_starts=effort.stage_starts,
        retries=effort.retries,
        gpu_hours=effort.gpu_hours,
        last_outcome=(last or {}).get("outcome") or "",
        last_reason=(last or {}).get("reason") or "",
    )


def _last_life(progress: dict[str, Any] | None) -> datetime | None:
    return datetime.fromisoformat(progress["at"]) if progress else None


def _attempt_rows(storage: "Storage", runs: Sequence[Run]) -> dict[str, list[dict[str, Any]]]:
    from lima.store.scan import Tables
    from lima.store.tables import ATTEMPTS

    rows: dict[str, list[dict[str, Any]]] = {}
    for experiment in sorted({run.experiment for run in runs}):
        wanted = {s for r in runs if r.experiment == experiment for s in stage_ids(r.cell)}
        parts = Tables(storage, experiment).map(
            ATTEMPTS, COLUMNS, lambda part: part.to_pylist(), runs=wanted
        )
        for run, part in parts:
            rows.setdefault(run, []).extend(part)
    return rows
