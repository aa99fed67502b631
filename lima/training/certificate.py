"""Certifies that a training is what an undisturbed one would have been, from what it left.

The rows of its steps must be those of its spec (data, draws, learning rates), each once, and linked
to each other; and what lost attempts had found of a step must be what its row says.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.common.addresses import draws
from lima.errors import DataError, InputError
from lima.runs.recorded_spec import cell_of
from lima.spec import CellSpec, Stage, TrainSpec, stage_cell
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import RUNS, STEPS
from lima.training.chain import LINKED, link, read_traces
from lima.training.schedule import Plan, learning_rate

ROUNDING = 1e-6
"""Relative difference of losses that other counts of workers may have."""
EXACT, ROUNDED, DIFFERENT = "to the bit", "to rounding", "not"


@dataclass(frozen=True)
class Repeated:
    """A step that several attempts took.

    Args:
        step: 1 is the first.
        attempts: that took it.
        agree: `EXACT`, `ROUNDED` (they had other counts of workers) or `DIFFERENT`.

    """

    step: int
    attempts: int
    agree: str


@dataclass(frozen=True)
class Certificate:
    """What is known of a run of training.

    Args:
        run: its id.
        stage: base or train.
        steps: that have rows.
        total: steps of the whole run.
        starts: attempts that took a step.
        workers: counts of workers, each with the first step that was taken so.
        repeated: steps that were computed more than once.
        problems: why it is not what an undisturbed run would have been; empty: it is.
        end: the last link of the chain, which stands for all of it; empty: there is none.

    """

    run: str
    stage: Stage
    steps: int
    total: int
    starts: int
    workers: tuple[tuple[int, int], ...]
    repeated: tuple[Repeated, ...]
    problems: tuple[str, ...]
    end: str

    @property
    def is_complete(self) -> bool:
        """Whether it has all of its steps."""
        return self.steps >= self.total


def certify(storage: Storage, run: str) -> Certificate:
    """Return what can be certified of a run: of its last stage that trains.

    Args:
        storage: Of the study.
        run: Id of the run, or of a later stage of its cell, or how that begins.

    Raises:
        InputError: there is no such run, or it trains nothing.
        DataError: it has no steps, or rows that cannot be read.
        StorageError: storage cannot be reached.

    """
    cell = cell_of(storage, run)
    stage, spec = _trained(cell, run)
    own = stage_cell(cell, stage)
    rows = RunTable(storage, STEPS, own).read().to_pylist()
    (row,) = RunTable(storage, RUNS, own).read(["run_id", "examples"]).to_pylist() or [{}]
    if not rows or not row.get("examples"):
        raise DataError(f"{storage.uri}: run {run} has no steps of training yet")
    plan = Plan(row["examples"], spec.epochs, spec.batch_size, own.seed)
    rows.sort(key=lambda row: row["step"])
    traces = read_traces(storage, row["run_id"])
    repeated = list(_repeated(rows, traces))
    return Certificate(
        run=row["run_id"],
        stage=stage,
        steps=len(rows),
        total=plan.total_steps,
        starts=sum(bool(steps) for steps in traces.values()),
        workers=_changes(rows),
        repeated=tuple(r for r in repeated if r.attempts > 1),
        problems=(
            *_order(rows),
            *_as_specified(rows, spec, plan),
            *_linked(rows),
            *_told(repeated),
        ),
        end=rows[-1]["chain"] or "",
    )


def _trained(cell: CellSpec, run: str) -> tuple[Stage, TrainSpec]:
    if cell.train is not None:
        return "train", cell.train
    if cell.base is not None:
        return "base", cell.base
    raise InputError(f"run {run} trains nothing; name a run of training")


def _changes(rows: Sequence[Mapping[str, Any]]) -> tuple[tuple[int, int], ...]:
    """Return (first step, workers) wherever the count of workers changes."""
    found: list[tuple[int, int]] = []
    for row in rows:
        if row["workers"] is not None and (not found or found[-1][1] != row["workers"]):
            found.append((row["step"], row["workers"]))
    return tuple(found)


def _order(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the count of rows of each step."""
    counts = Counter(row["step"] for row in rows)
    if missing := sorted(set(range(1, max(counts) + 1)) - counts.keys()):
        yield f"steps {ranges(missing)} have no row"
    if twice := sorted(step for step, count in counts.items() if count > 1):
        yield f"steps {ranges(twice)} have several rows"


def _as_specified(rows: Sequence[Mapping[str, Any]], spec: TrainSpec, plan: Plan) -> Iterator[str]:
    """Yield where rows are not those of the run's spec."""
    other: dict[str, list[int]] = {}
    for row in rows:
        step = row["step"]
        if step > plan.total_steps:
            other.setdefault("is no step of the run", []).append(step)
            continue
        batch = plan.batch(step)
        wanted = {
            "examples": len(batch),
            "epoch": plan.epoch_after(step),
            "learning_rate": learning_rate(spec.optimizer, step, plan.total_steps),
            "draws": row["draws"] and draws(plan.seed, step, batch),
        }
        for name, value in wanted.items():
            if row[name] != value:
                other.setdefault(f"{name} is not what the spec says", []).append(step)
    for what, steps in other.items():
        yield f"step {ranges(steps)}: {what}"


def _linked(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield where a row does not fit its hash, or the hash of the row before."""
    before = ""
    unlinked = [row["step"] for row in rows if not row["chain"]]
    if unlinked:
        yield f"step {ranges(unlinked)}: an earlier version took it, and left no hash"
    for row in rows:
        if row["chain"] and row["chain"] != link(before, row):
            yield f"step {row['step']}: its row, or one before it, was changed after it was written"
        before = row["chain"] or ""


def _repeated(
    rows: Sequence[Mapping[str, Any]], traces: Mapping[str, Sequence[Mapping[str, Any]]]
) -> Iterator[Repeated]:
    """Yield how what attempts had found of each step agrees with its row."""
    found: dict[int, list[Mapping[str, Any]]] = {}
    for steps in traces.values():
        for step in steps:
            found.setdefault(step["step"], []).append(step)
    for row in rows:
        others = found.get(row["step"], [])
        kinds = {_agreement(row, other) for other in others}
        worst = next((k for k in (DIFFERENT, ROUNDED) if k in kinds), EXACT)
        if others:
            yield Repeated(row["step"], len(others), worst)


def _agreement(row: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Say how the same step of two attempts agrees."""
    if all(row[name] == other[name] for name in LINKED):
        return EXACT
    exact = ("epoch", "learning_rate", "examples", "tokens", "target_tokens", "draws")
    moved = row["workers"] != other["workers"]
    near = abs(row["loss"] - other["loss"]) <= ROUNDING * abs(row["loss"])
    same = all(row[name] == other[name] for name in exact)
    return ROUNDED if same and near and moved else DIFFERENT


def _told(repeated: Sequence[Repeated]) -> Iterator[str]:
    if different := [r.step for r in repeated if r.agree == DIFFERENT]:
        yield f"step {ranges(different)}: an attempt had found something else than its row says"


def ranges(steps: Sequence[int]) -> str:
    """Return numbers in order as text, as `1-3, 7`."""
    found: list[list[int]] = []
    for step in steps:
        if found and step == found[-1][1] + 1:
            found[-1][1] = step
        else:
            found.append([step, step])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)
