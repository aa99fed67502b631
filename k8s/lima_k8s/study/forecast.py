"""What a study on this machine would do: which stages are finished, which go on, which are new."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lima.spec import STAGES, CellSpec, Stage, cell_stages, stage_cell
from lima.spec.codec import run_id

if TYPE_CHECKING:
    from lima.preparing.history import Change
    from lima.store.storage import Storage

State = Literal["finished", "goes on", "new"]


@dataclass(frozen=True)
class Forecast:
    """What a stage of a cell would do, and why."""

    stage: Stage
    run: str
    state: State
    why: str


def forecast(storage: "Storage", cells: Sequence[CellSpec]) -> list[list[Forecast]]:
    """Return what each stage of each cell would do.

    Raises:
        StorageError: storage cannot be reached.

    """
    from lima.preparing.history import changes

    changed = changes(storage, cells)
    return [list(_cell(storage, cell, changed)) for cell in cells]


def _cell(storage: "Storage", cell: CellSpec, changed: "Sequence[Change]") -> Iterator[Forecast]:
    fresh: list[Stage] = []
    for stage in cell_stages(cell):
        state, why = _found(storage, stage_cell(cell, stage))
        if state == "new":
            why = _why_new(storage, cell, stage, changed, fresh)
            fresh.append(stage)
        yield Forecast(stage, run_id(cell, stage), state, why)


def _found(storage: "Storage", own: CellSpec) -> tuple[State, str]:
    """Return what the storage says of a stage: the ledger of its attempts."""
    from lima.store.shards import RunTable
    from lima.store.tables import ATTEMPTS, RUNS

    rows = RunTable(storage, ATTEMPTS, own).read(["event", "at", "outcome", "reason"]).to_pylist()
    ended = sorted((r for r in rows if r["event"] == "ended"), key=lambda r: r["at"])
    if any(row["outcome"] == "completed" for row in ended):
        return "finished", "all of its results are in the storage"
    if ended:
        return "goes on", f"its last attempt ended: {ended[-1]['outcome']}, {ended[-1]['reason']}"
    begun = bool(rows) or RunTable(storage, RUNS, own).has("run")
    return ("goes on", "it was begun") if begun else ("new", "")


def _why_new(
    storage: "Storage",
    cell: CellSpec,
    stage: Stage,
    changed: "Sequence[Change]",
    fresh: Sequence[Stage],
) -> str:
    from lima.inputs.places import of_stage

    own = {(place.role, place.fingerprint) for place in of_stage(cell, stage)}
    told = [c.told(storage) for c in changed if (c.now.role, c.now.fingerprint) in own]
    if told:
        return "; ".join(told)
    earlier = [s for s in STAGES if s in fresh]
    if earlier:
        return f"it stands on {earlier[-1]}, which is new"
    return "nothing of it is in the storage"
