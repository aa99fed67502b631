"""What there is to judge, and the rows that come of it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from lima.codec import sha256_key
from lima.errors import DataError, SpecError
from lima.judging.attempt import Attempt
from lima.judging.likert import RUBRIC_HASH
from lima.results import GENERATIONS
from lima.shards import RunTable
from lima.spec import CellSpec, JudgeSpec, stage_cell
from lima.storage import Storage


@dataclass(frozen=True)
class Task:
    """A response to be scored."""

    key: str
    generation_key: str
    prompt_key: str
    sample: int
    prompt: tuple[str, ...]
    response: str


@dataclass(frozen=True)
class Shard:
    """Tasks whose rows make one Parquet shard, and the attempts of those that are finished."""

    name: str
    tasks: tuple[Task, ...]
    finished: dict[str, list[Attempt]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether all its tasks are finished."""
        return len(self.finished) == len(self.tasks)

    def rows(self, spec: JudgeSpec) -> list[dict[str, Any]]:
        """Return the rows of `judgments`: every attempt at every task, in order."""
        return [
            _row(spec, task, attempt, number, number == len(self.finished[task.key]))
            for task in self.tasks
            for number, attempt in enumerate(self.finished[task.key], start=1)
        ]


def judge_spec(cell: CellSpec) -> JudgeSpec:
    """Return the judge stage of a cell.

    Raises:
        SpecError: the cell has none, or no responses to judge.

    """
    if cell.judge is None or cell.generate is None:
        missing = "judge" if cell.judge is None else "generate"
        raise SpecError(f"arm {cell.arm!r} of {cell.experiment!r} has no stage {missing}")
    return cell.judge


def plan_tasks(cell: CellSpec, storage: Storage) -> list[Task]:
    """Return a task for each response of the cell, by prompt and sample.

    A prompt that did not fit the model has no response, and so no task.

    Raises:
        DataError: the cell has no generations.

    """
    spec = judge_spec(cell)
    table = RunTable(storage, GENERATIONS, stage_cell(cell, "generate"))
    columns = ("generation_key", "prompt_key", "prompt_index", "sample", "prompt", "response")
    rows = table.read([*columns, "finish_reason"]).to_pylist()
    if not rows:
        raise DataError(
            f"{storage.uri}/{table.folder}: no responses to judge; run the stage generate first"
        )
    rows.sort(key=lambda row: (row["prompt_index"], row["sample"]))
    return [_task(spec, row) for row in rows if row["finish_reason"] != "prompt_too_long"]


def plan_shards(tasks: Sequence[Task], shard_rows: int, written: set[str]) -> list[Shard]:
    """Cut tasks into shards, without those whose keys are `written` already.

    The cuts do not depend on what is written, and a name says what a shard holds: the same
    work has the same name in every attempt at a run.
    """
    shards = []
    for number, start in enumerate(range(0, len(tasks), shard_rows)):
        left = tuple(t for t in tasks[start : start + shard_rows] if t.key not in written)
        digest = sha256_key([task.key for task in left])
        shards.append(Shard(f"responses-{number:05d}-{digest[:8]}", left))
    return [shard for shard in shards if shard.tasks]


def cost(spec: JudgeSpec, attempts: Sequence[Attempt]) -> float:
    """Return what attempts cost, in US dollars."""
    prompt = sum(attempt.prompt_tokens or 0 for attempt in attempts)
    completion = sum(attempt.completion_tokens or 0 for attempt in attempts)
    return (prompt * spec.input_price + completion * spec.output_price) / 1e6


def _task(spec: JudgeSpec, row: dict[str, Any]) -> Task:
    judge = [spec.base_url, spec.model, spec.temperature, spec.max_tokens]
    return Task(
        key=sha256_key([row["generation_key"], judge, RUBRIC_HASH]),
        generation_key=row["generation_key"],
        prompt_key=row["prompt_key"],
        sample=row["sample"],
        prompt=tuple(row["prompt"]),
        response=row["response"],
    )


def _row(spec: JudgeSpec, task: Task, attempt: Attempt, number: int, final: bool) -> dict[str, Any]:
    return {
        **asdict(attempt),
        "judgment_key": task.key,
        "generation_key": task.generation_key,
        "prompt_key": task.prompt_key,
        "sample": task.sample,
        "attempt": number,
        "final": final,
        "judge": spec.model,
        "rubric": spec.rubric,
        "rubric_hash": RUBRIC_HASH,
        "cost": cost(spec, [attempt]),
    }
