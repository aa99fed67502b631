"""The attempt ledger: why each attempt at a stage ended, and what it cost."""

import contextlib
import os
import socket
import uuid
from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any

from lima.common.clock import now
from lima.common.variables import IMAGE
from lima.data.examples import load_examples
from lima.data.trimming import Lengths
from lima.errors import Interrupted, StorageError
from lima.runs.progress import read_progress
from lima.spec import STAGES, CellSpec, ComputeSpec, Stage, cell_stages, gpus, stage_cell
from lima.spec.codec import canonical_json, encode
from lima.store.scan import Tables
from lima.store.shards import RunTable, read_parquet
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, RUNS

COMPLETED, FAILED, INTERRUPTED, KILLED = "completed", "failed", "interrupted", "killed"


@contextlib.contextmanager
def attempt(
    storage: Storage, cell: CellSpec, stage: Stage, compute: ComputeSpec, run: str
) -> Iterator[dict[str, Any]]:
    """Record the start and the end of an attempt at `stage`, with the reason of its end.

    Yields the row of its end, for what is known only then: `resumed_from`.

    Args:
        storage: Where the ledger lies.
        cell: The whole cell.
        stage: Its stage that is tried.
        compute: What it holds.
        run: Run id of the whole cell, whose progress tells when a killed attempt last lived.

    """
    own = stage_cell(cell, stage)
    close_killed(storage, cell, stage, run)
    table = RunTable(storage, ATTEMPTS, own)
    started = now()
    name = f"{started:%Y%m%dT%H%M%S%fZ}-{uuid.uuid4().hex[:8]}"
    row: dict[str, Any] = {
        "stage": stage,
        "attempt_id": name,
        "host": os.environ.get("HOSTNAME") or socket.gethostname(),
        "workers": compute.workers,
        "gpus": gpus(compute),
        "versions": canonical_json(versions()),
        "image": os.environ.get(IMAGE) or None,
    }
    table.write(f"{name}-started", [{**row, "event": "started", "at": started}])

    def end(outcome: str, reason: str) -> None:
        table.write(f"{name}-ended", [_end(row, outcome, reason, started, now())])

    try:
        yield row
    except BaseException as error:
        # What ended the attempt must be told, not that storage then failed too: one without an
        # end counts as killed.
        with contextlib.suppress(StorageError):
            end(*_outcome(error))
        raise
    end(COMPLETED, "all work of the stage is done")


def completed_runs(storage: Storage, runs: Collection[str] | None = None) -> set[str]:
    """Return the runs, of some or of all, of which an attempt came to its end.

    Raises:
        StorageError: storage does not answer.

    """
    ended = Tables(storage).map(
        ATTEMPTS, ["outcome"], lambda part: COMPLETED in part["outcome"].to_pylist(), runs=runs
    )
    return {run for run, completed in ended if completed}


def _outcome(error: BaseException) -> tuple[str, str]:
    if isinstance(error, Interrupted | KeyboardInterrupt | SystemExit):
        return INTERRUPTED, str(error) or type(error).__name__
    return FAILED, f"{type(error).__name__}: {error}"


def record_run(storage: Storage, cell: CellSpec, stage: Stage) -> None:
    """Write the row of a run, once."""
    own = stage_cell(cell, stage)
    table = RunTable(storage, RUNS, own)
    if table.has("run"):
        return
    row = {
        "stage": stage,
        "parent_run_id": _parent(cell, stage),
        "examples": _examples(cell, stage),
        "spec": canonical_json(encode(own)),
        "versions": canonical_json(versions()),
        "created_at": now(),
    }
    table.write("run", [row])


def record_lengths(storage: Storage, own: CellSpec, lengths: Lengths) -> None:
    """Add to the row of a run of training what is known once its examples are tokens.

    Args:
        storage: Holds the row that `record_run` wrote; without one nothing is added.
        own: The cell up to the stage.
        lengths: Of its examples.

    """
    table = RunTable(storage, RUNS, own)
    if not table.has("run"):
        return
    (row,) = read_parquet(storage, table.path("run")).to_pylist()
    if row.get("example_tokens") is not None:
        return
    known = {
        "trimmed_examples": lengths.trimmed,
        "trimmed_share": lengths.lost_share,
        "ends_trimmed": lengths.lost_ends,
        "example_tokens": list(lengths.tokens),
    }
    table.write("run", [row | known], replace=True)


def versions() -> dict[str, str]:
    """Return the versions of the software that decides the results."""
    import platform
    from importlib import metadata

    found = {"python": platform.python_version()}
    for name in ("lima-k8s", "torch", "transformers", "deepspeed", "ray", "pyarrow"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _examples(cell: CellSpec, stage: Stage) -> int | None:
    spec = {"base": cell.base, "train": cell.train}.get(stage)
    return len(load_examples(spec.data)) if spec else None


def _parent(cell: CellSpec, stage: Stage) -> str | None:
    from lima.spec.codec import run_id

    earlier = [s for s in cell_stages(cell) if STAGES.index(s) < STAGES.index(stage)]
    return run_id(cell, earlier[-1]) if earlier else None


def close_killed(storage: Storage, cell: CellSpec, stage: Stage, run: str) -> None:
    """Write the end of attempts that could not write it themselves.

    Must precede any new progress of `run`: the last one says when a killed attempt last lived.
    """
    table = RunTable(storage, ATTEMPTS, stage_cell(cell, stage))
    shards = set(table.shards())
    open_ones = [
        name.removesuffix("-started")
        for name in shards
        if name.endswith("-started") and f"{name.removesuffix('-started')}-ended" not in shards
    ]
    if not open_ones:
        return
    rows = {r["attempt_id"]: r for r in table.read().to_pylist()}
    for name in open_ones:
        row = rows[name]
        end = _end(
            row,
            KILLED,
            "no end was recorded: the process was killed",
            row["at"],
            _last_life(storage, run, row["at"]),
        )
        table.write(f"{name}-ended", [end])


def _last_life(storage: Storage, run: str, started: datetime) -> datetime:
    progress = read_progress(storage, run)
    seen = datetime.fromisoformat(progress["at"]) if progress else started
    return max(seen, started)


def _end(
    row: dict[str, Any], outcome: str, reason: str, started: datetime, ended: datetime
) -> dict[str, Any]:
    return {
        **row,
        "event": "ended",
        "at": ended,
        "outcome": outcome,
        "reason": reason,
        "seconds": (ended - started).total_seconds(),
    }
