"""Whether storage holds all results of a cell: what the job says at its end, and what is there."""

from lima.model.checkpoint_manifest import completion_path
from lima.runs.progress import DONE, Progress, read_progress, unscored_text, warnings_of
from lima.spec import CellSpec, Stage, cell_stages, stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import EXAMPLES, GENERATIONS, JUDGMENTS, METRICS, STEPS, Table

TABLES: dict[Stage, tuple[Table, ...]] = {
    "curate": (EXAMPLES,),
    "base": (STEPS, METRICS),
    "train": (STEPS, METRICS),
    "generate": (GENERATIONS,),
    "judge": (JUDGMENTS,),
}


def mark_done(storage: Storage, cell: CellSpec) -> None:
    """Say that all stages of `cell` are finished, and what they left."""
    run = run_id(cell)
    record = read_progress(storage, run) or {}
    unscored, progress = unscored_text(record), Progress(storage, run)
    figures = {"unscored": unscored} if unscored else {}
    for text in warnings_of(record):
        progress.warn(text)
    holds = inventory(storage, cell)
    progress.update(DONE, 1, 1, "cell", force=True, holds=holds, **figures)


def is_done(storage: Storage, cell: CellSpec) -> bool:
    """Say whether `cell` was finished and nothing that it left has been taken away since."""
    record = read_progress(storage, run_id(cell)) or {}
    finished = record.get("stage") == DONE
    return finished and record["figures"].get("holds") == inventory(storage, cell)


def inventory(storage: Storage, cell: CellSpec) -> dict[str, int]:
    """Return the number of shards of each table of each stage, and of marks of completion."""
    held: dict[str, int] = {}
    for stage in cell_stages(cell):
        own = stage_cell(cell, stage)
        for table in TABLES[stage]:
            held[f"{stage}.{table.name}"] = len(RunTable(storage, table, own).shards())
        if stage in ("base", "train"):
            held[f"{stage}.complete"] = int(storage.exists(completion_path(run_id(own))))
    return held
