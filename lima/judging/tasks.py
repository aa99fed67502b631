"""What there is to judge, responses or pairs of them, and the rows that come of it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lima.endpoints.attempt import Attempt
from lima.errors import DataError, NotReadyError, SpecError
from lima.generation.complete import is_complete
from lima.inputs.check import check
from lima.inputs.fingerprint import SHA256
from lima.judging.budget import attempt_cost
from lima.judging.rubric import Rubric
from lima.judging.rubrics import RUBRICS
from lima.rating.items import EvaluationSpec, Item, generation_runs, plan_items
from lima.runs.lease import is_held
from lima.spec import CellSpec, JudgeSpec, stage_cell
from lima.spec.codec import run_id, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, ITEMS

log = logging.getLogger(__name__)
COME_AGAIN = (
    "if it is an arm of this study, let all arms answer first (`lima-k8s submit generate`), then "
    "have them judged (`lima-k8s submit judge`): finished work is kept"
)


@dataclass(frozen=True)
class Task:
    """A response to be scored, or to be compared with another one."""

    key: str
    generation_key: str
    prompt_key: str
    sample: int
    prompt: tuple[str, ...]
    responses: tuple[str, ...]
    rubric: Rubric
    item: Item | None = None

    @property
    def text(self) -> str:
        """What the judge is asked. Made when it is sent: all texts at once would not fit."""
        return self.rubric.ask(self.prompt, self.responses)


@dataclass(frozen=True)
class Shard:
    """Tasks whose rows make one Parquet shard, and the attempts at those that are finished."""

    name: str
    tasks: tuple[Task, ...]
    finished: dict[str, list[Attempt]] = field(default_factory=dict)
    begun: dict[str, list[Attempt]] = field(default_factory=dict)
    """Attempts of earlier runs at tasks that need more."""

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
    """Return a task for each response of the cell, by prompt and sample; or for each pair.

    A prompt that did not fit the model has no response, and so no task.

    Raises:
        ChangedInputError: this version words the rubric differently than the run was promised.
        DataError: the cell has no generations, or a baseline has none.
        SpecError: a comparison names no baseline.

    """
    spec = judge_spec(cell)
    rubric = RUBRICS[spec.rubric]
    check(f"{SHA256}{rubric.hash}", spec.wording, f"the wording of {spec.rubric}")
    if rubric.pairs:
        return [_pair_task(spec, item) for item in plan_pairs(cell, storage)]
    table = RunTable(storage, GENERATIONS, stage_cell(cell, "generate"))
    columns = ("generation_key", "prompt_key", "prompt_index", "sample", "prompt", "response")
    rows = table.read([*columns, "finish_reason"]).to_pylist()
    if not rows:
        raise DataError(
            f"{storage.uri}/{table.folder}: no responses to judge; run the stage generate first"
        )
    rows.sort(key=lambda row: (row["prompt_index"], row["sample"]))
    return [_task(spec, row) for row in rows if row["finish_reason"] != "prompt_too_long"]


def plan_pairs(cell: CellSpec, storage: Storage) -> list[Item]:
    """Return the pairs that a cell's judge compares, in the order of the seeded ledger.

    A baseline that is an arm of the study is not compared with itself: where there is no other,
    there are no pairs.

    Raises:
        DataError: a baseline is unknown or has no responses.
        NotReadyError: a baseline has not answered all of its prompts yet.
        SpecError: no baseline is named.

    """
    spec = judge_spec(cell)
    if not spec.baselines:
        raise SpecError("judge.baselines: a preference needs arms or runs to compare with")
    own = run_id(cell, "generate")
    others = [name for name in spec.baselines if name not in (cell.arm, own)]
    if len(others) < len(spec.baselines):
        log.warning("%s is one of its own baselines, and is not compared with itself", cell.arm)
    if not others:
        return []
    promised = tuple(run for run in spec.baseline_runs or () if run != own)
    runs = promised or generation_runs(storage, cell.experiment, others)
    for run in runs:
        _require_answers(storage, run, f"with which {cell.arm} is compared ({', '.join(others)})")
    evaluation = EvaluationSpec(
        cell.experiment,
        cell.arm,
        "preference",
        own,
        others=runs,
        shared=0,
        both_orders=spec.both_orders,
        repeats=spec.repeats,
        seed=cell.seed,
    )
    return plan_items(evaluation, storage)


def _require_answers(storage: Storage, run: str, compared: str) -> None:
    """Refuse a baseline that is to answer more prompts: nobody would compare these later.

    Raises:
        NotReadyError: it is.

    """
    if is_held(storage, run):
        raise NotReadyError(f"{storage.uri}: run {run}, {compared}, is answering now; {COME_AGAIN}")
    if not is_complete(storage, run):
        raise NotReadyError(
            f"{storage.uri}: run {run}, {compared}, has not answered all of its prompts yet; "
            f"{COME_AGAIN}. An arm of another study, or a run that nobody starts, has to be named "
            "by one that has answered (`lima-k8s status`)"
        )


def write_pairs(cell: CellSpec, storage: Storage, tasks: Sequence[Task]) -> None:
    """Write the pairs of a comparison and their orders to `items`, once."""
    rows = [task.item.row() for task in tasks if task.item]
    if rows:
        name = sha256_key([[row["item_id"], row["presentation"]] for row in rows])[:8]
        RunTable(storage, ITEMS, stage_cell(cell, "judge")).write(f"items-{name}", rows)


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


def _task(spec: JudgeSpec, row: dict[str, Any]) -> Task:
    judge = [spec.base_url, spec.model, spec.temperature, spec.max_tokens]
    rubric = RUBRICS[spec.rubric]
    return Task(
        key=sha256_key([row["generation_key"], judge, rubric.hash]),
        generation_key=row["generation_key"],
        prompt_key=row["prompt_key"],
        sample=row["sample"],
        prompt=tuple(row["prompt"]),
        responses=(row["response"],),
        rubric=rubric,
    )


def _pair_task(spec: JudgeSpec, item: Item) -> Task:
    judge = [spec.base_url, spec.model, spec.temperature, spec.max_tokens]
    rubric = RUBRICS[spec.rubric]
    shown = [response.key for response in item.responses]
    return Task(
        key=sha256_key([shown, item.presentation, judge, rubric.hash]),
        generation_key=item.first.key,
        prompt_key=item.first.prompt_key,
        sample=0,
        prompt=item.first.prompt,
        responses=tuple(response.text for response in item.responses),
        rubric=rubric,
        item=item,
    )


def _compared(item: Item | None) -> dict[str, Any]:
    """Return the columns of a comparison."""
    if item is None or item.second is None:
        return {}
    ledger = ("item_id", "presentation", "shown", "response_2", "arm_2")
    return {k: v for k, v in item.row().items() if k in ledger}


def _row(spec: JudgeSpec, task: Task, attempt: Attempt, number: int, final: bool) -> dict[str, Any]:
    paid = attempt_cost(spec, attempt)
    return {
        **vars(attempt),
        **_compared(task.item),
        "judgment_key": task.key,
        "generation_key": task.generation_key,
        "prompt_key": task.prompt_key,
        "sample": task.sample,
        "attempt": number,
        "final": final,
        "judge": spec.model,
        "rubric": spec.rubric,
        "rubric_hash": RUBRICS[spec.rubric].hash,
        "instruction_hash": RUBRICS[spec.rubric].told,
        "cost": None if paid is None else float(paid),
    }
