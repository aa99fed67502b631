"""Made-up studies of any size, written with the real specs, run ids and table schemas.

Numbers are drawn from seeded generators, so that a study is the same every time. Only what the
tables need to hold is modelled: losses fall, held-out perplexity turns up again, better arms
score higher, judges fail now and then, attempts are killed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lima.spec import (
    BASE_ARM,
    STAGES,
    CellSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    JudgeSpec,
    ModelSpec,
    ShapeSpec,
    Stage,
    TrainSpec,
    stage_cell,
)
from lima.spec.codec import canonical_json, encode, run_id, sha256_key
from lima.store.shards import identity, run_folder, to_parquet
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, GENERATIONS, INPUTS, JUDGMENTS, METRICS, RUNS, STEPS, Table

FINGERPRINT = f"sha256:{'0' * 64}"
START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FAILURES = ("parse_fail", "refusal", "truncated", "api_error")
SOURCES = ("stackexchange", "reddit", "authored")
TOPICS = (
    "keep sourdough starter alive",
    "read a hexadecimal number",
    "prune an apple tree",
    "write a letter of thanks",
    "understand a mortgage",
    "fix a squeaky hinge",
    "explain tides to a child",
    "plan a week in Lisbon",
    "learn the offside rule",
    "choose a first telescope",
    "store winter clothes",
    "cook rice without a lid",
)


@dataclass(frozen=True)
class Arm:
    """An arm of a made-up study: its training data and how good its responses are."""

    name: str
    examples: int = 1000
    data: str = "stackexchange.jsonl"
    quality: float = 3.8
    response_tokens: float = 180.0


ARMS = (Arm("diverse"), Arm("narrow", data="wikihow.jsonl", quality=3.4))


@dataclass(frozen=True)
class Study:
    """How large a study is, and how far it came; `gpus` are those of a training run."""

    arms: tuple[Arm, ...] = ARMS
    seeds: int = 2
    prompts: int = 12
    samples: int = 2
    epochs: int = 3
    steps_per_epoch: int = 4
    checkpoints: tuple[int | None, ...] = (None,)
    judges: tuple[str, ...] = ("judge-a",)
    stages: tuple[Stage, ...] = ("base", "train", "generate", "judge")
    experiment: str = "synthetic"
    failure_rate: float = 0.1
    heldout: bool = True
    gpus: int = 1
    shard_rows: int = 10


def cells(study: Study) -> list[CellSpec]:
    """Return the cells of a study: one for each arm, seed, checkpoint and judge."""
    return [
        _cell(study, arm, seed, epoch, judge)
        for arm in study.arms
        for seed in range(study.seeds)
        for epoch in (study.checkpoints if "generate" in study.stages else (None,))
        for judge in (study.judges if "judge" in study.stages else ("",))
    ]


def _cell(study: Study, arm: Arm, seed: int, epoch: int | None, judge: str) -> CellSpec:
    compute = ComputeSpec(workers=max(1, study.gpus), device="cuda" if study.gpus else "cpu")
    shape = ShapeSpec(512, 64, 2, 4, 128, 512)
    stages = {
        "base": TrainSpec(ModelSpec("scratch", shape=shape), DataSpec("pydoc:topics")),
        "train": TrainSpec(
            ModelSpec("run:base"),
            DataSpec(arm.data, count=arm.examples),
            heldout=DataSpec("dev.jsonl") if study.heldout else None,
            epochs=study.epochs,
            compute=compute,
        ),
        "generate": GenerateSpec(
            DataSpec("test.jsonl"),
            model=ModelSpec("run:train", epoch=epoch),
            decoding=DecodingSpec(samples=study.samples),
            compute=compute,
        ),
        "judge": JudgeSpec(model=judge or "none", input_price=0.5, output_price=1.5),
    }
    kept: dict[str, Any] = {s: stages[s] for s in study.stages}
    return CellSpec(study.experiment, arm.name, seed, **kept)


def write_study(storage: Storage, study: Study) -> list[CellSpec]:
    """Write all tables of a study; return its cells."""
    arms = {arm.name: arm for arm in study.arms}
    written: set[str] = set()
    for cell in cells(study):
        for stage in study.stages:
            if run_id(cell, stage) not in written:
                written.add(run_id(cell, stage))
                _write_stage(storage, study, arms[cell.arm], cell, stage)
    return cells(study)


def write_shard(
    storage: Storage, table: Table, cell: CellSpec, shard: str, columns: dict[str, Any]
) -> None:
    """Write one shard from columns; a value that is no list or array stands for all rows."""
    full: dict[str, Any] = {c.name: None for c in table.columns} | identity(cell) | columns
    rows = max(len(v) for v in full.values() if isinstance(v, list | np.ndarray))
    data = [full[c.name] for c in table.columns]
    arrays = [
        pa.array(v if isinstance(v, list | np.ndarray) else [v] * rows, c.type)
        for v, c in zip(data, table.columns, strict=True)
    ]
    folder = run_folder(table, cell.experiment, run_id(cell))
    whole = pa.Table.from_arrays(arrays, schema=table.schema)
    storage.write(f"{folder}/{shard}.parquet", to_parquet(whole))


def write_run(storage: Storage, cell: CellSpec, stage: Stage, examples: int | None = None) -> None:
    """Write the row of a stage's run."""
    part = stage_cell(cell, stage)
    earlier = [s for s in STAGES[: STAGES.index(stage)] if getattr(cell, s)]
    columns = {
        "stage": [stage],
        "parent_run_id": run_id(cell, earlier[-1]) if earlier else None,
        "examples": examples,
        "example_tokens": [_tokens(examples)] if stage == "train" and examples else None,
        "spec": canonical_json(encode(part)),
        "versions": '{"python":"3.11"}',
        "created_at": START,
    }
    write_shard(storage, RUNS, part, "run", columns)
    if stage != "judge":
        write_input(storage, part, stage)


def write_input(storage: Storage, part: CellSpec, stage: Stage) -> None:
    """Write that a stage read what it was promised."""
    columns = {
        "stage": [stage],
        "role": f"{stage}.data",
        "name": "examples.jsonl",
        "fingerprint": FINGERPRINT,
        "promised": FINGERPRINT,
        "read_at": "examples.jsonl",
        "at": START,
    }
    write_shard(storage, INPUTS, part, "inputs", columns)


def _tokens(examples: int) -> list[int]:
    """Return lengths of which one in ten is more than the 2,048 tokens that are kept."""
    return [3000 if i % 10 == 0 else 100 + i % 400 for i in range(examples)]


def _write_stage(storage: Storage, study: Study, arm: Arm, cell: CellSpec, stage: Stage) -> None:
    part = stage_cell(cell, stage)
    rng = np.random.default_rng(int(run_id(part), 16))
    write_run(storage, cell, stage, arm.examples)
    _write_attempts(storage, study, part, stage, rng)
    if stage in ("base", "train"):
        _write_training(storage, study, arm, part, rng)
    elif stage == "generate":
        _write_generations(storage, study, arm, part, rng)
    else:
        _write_judgments(storage, study, arm, cell, rng)


def _write_attempts(
    storage: Storage, study: Study, part: CellSpec, stage: Stage, rng: np.random.Generator
) -> None:
    """Write a completed attempt; of training, often after one that was killed or interrupted."""
    histories: tuple[tuple[str | None, ...], ...] = (
        ("completed",),
        (None, "completed"),
        ("killed", "interrupted", "completed"),
    )
    history = histories[int(rng.integers(3)) if stage == "train" else 0]
    gpus = 0 if stage == "judge" else study.gpus
    at = START
    for number, outcome in enumerate(history):
        seconds = float(rng.uniform(200, 4000))
        name = f"a{number}"
        common = {"stage": stage, "attempt_id": name, "host": "node-1", "workers": 1, "gpus": gpus}
        started = {"event": ["started"], "at": at}
        at += timedelta(seconds=seconds)
        write_shard(storage, ATTEMPTS, part, f"{name}-started", common | started)
        if outcome:
            ended = {"event": ["ended"], "at": at, "outcome": outcome, "seconds": seconds}
            write_shard(storage, ATTEMPTS, part, f"{name}-ended", common | ended)


def _write_training(
    storage: Storage, study: Study, arm: Arm, part: CellSpec, rng: np.random.Generator
) -> None:
    steps = study.epochs * study.steps_per_epoch
    number = np.arange(1, steps + 1)
    epoch = number / study.steps_per_epoch
    floor = 4.4 - 0.6 * arm.quality
    loss = floor + 1.6 * np.exp(-epoch / 2) + rng.normal(0, 0.05, steps)
    columns = {
        "step": number,
        "epoch": epoch,
        "loss": loss,
        "learning_rate": 1e-5 / number,
        "gradient_norm": 1.0,
        "examples": 32,
        "tokens": 9000,
        "target_tokens": 7000 + number,
        "seconds": 1.0,
        "at": [START + timedelta(seconds=int(n)) for n in number],
    }
    for start in range(0, steps, study.steps_per_epoch):
        rows = slice(start, start + study.steps_per_epoch)
        part_of = {
            k: v[rows] if isinstance(v, list | np.ndarray) else v for k, v in columns.items()
        }
        write_shard(storage, STEPS, part, f"steps-{start:08d}", part_of)
    if part.arm == BASE_ARM or not study.heldout:
        return
    epochs = np.arange(1, study.epochs + 1)
    heldout = floor + 0.1 + 0.5 * np.exp(-epochs / 1.5) + 0.02 * epochs + rng.normal(0, 0.02)
    for name, values in (("heldout_loss", heldout), ("heldout_perplexity", np.exp(heldout))):
        columns = {
            "epoch": epochs,
            "step": epochs * study.steps_per_epoch,
            "name": name,
            "value": values,
            "tokens": 20_000,
            "at": START,
        }
        write_shard(storage, METRICS, part, name, columns)


def prompt(index: int) -> list[str]:
    """Return the utterances of a made-up prompt; every seventh is a dialogue."""
    question = f"How do I {TOPICS[index % len(TOPICS)]}? (question {index})"
    return (
        [question, "Do you want the short answer?", "Yes, please."]
        if index % 7 == 5
        else [question]
    )


def generation_key(cell: CellSpec, index: int, sample: int) -> str:
    """Return the key of a response."""
    return sha256_key([run_id(cell, "generate"), sha256_key(prompt(index)), sample])


def _write_generations(
    storage: Storage, study: Study, arm: Arm, part: CellSpec, rng: np.random.Generator
) -> None:
    pairs = [(p, s) for p in range(study.prompts) for s in range(study.samples)]
    for shard, start in enumerate(range(0, len(pairs), study.shard_rows)):
        chosen = pairs[start : start + study.shard_rows]
        tokens = rng.lognormal(np.log(arm.response_tokens), 0.6, len(chosen)).astype(int)
        tokens = np.minimum(tokens, 500)
        columns = {
            "generation_key": [generation_key(part, p, s) for p, s in chosen],
            "prompt_key": [sha256_key(prompt(p)) for p, _ in chosen],
            "prompt_index": [p for p, _ in chosen],
            "sample": [s for _, s in chosen],
            "source": [SOURCES[p % len(SOURCES)] for p, _ in chosen],
            "prompt": [prompt(p) for p, _ in chosen],
            "response": [response(arm.name, p, s) for p, s in chosen],
            "token_ids": [list(range(5)) for _ in chosen],
            "finish_reason": np.where(tokens >= 500, "length", "eot").tolist(),
            "prompt_tokens": 12,
            "response_tokens": tokens,
            "logprob": -1.2 * tokens,
            "seed_address": "0/p/0",
            "model": "run:train",
            "at": START,
        }
        write_shard(storage, GENERATIONS, part, f"{shard:05d}", columns)


def response(arm: str, index: int, sample: int) -> str:
    """Return the text of a made-up response."""
    return (
        f"It is easier than it sounds to {TOPICS[index % len(TOPICS)]}, if you take it one step "
        "at a time.\n\n1. Gather what you need and read this list to the end.\n"
        "2. Start small: ten minutes are enough for a first try.\n"
        "3. Look at the result, change one thing, and do it again.\n\n"
        f"(The {arm} arm wrote this as sample {sample}.)"
    )


def _write_judgments(
    storage: Storage, study: Study, arm: Arm, cell: CellSpec, rng: np.random.Generator
) -> None:
    """Write all verdicts of a run; some responses are tried twice, some stay unscored."""
    epoch = cell.generate.model.epoch if cell.generate else None
    quality = arm.quality - (0.15 * (study.epochs - epoch) if epoch else 0)
    centres = quality + np.random.default_rng(7).normal(0, 0.5, study.prompts)
    rows = [
        row
        for p in range(study.prompts)
        for s in range(study.samples)
        for row in _verdicts(cell, p, s, _draw(rng, float(centres[p]), study.failure_rate))
    ]
    for shard, start in enumerate(range(0, len(rows), study.shard_rows)):
        chosen = rows[start : start + study.shard_rows]
        columns = {name: [row[name] for row in chosen] for name in rows[0]}
        write_shard(storage, JUDGMENTS, cell, f"{shard:05d}", columns)


def _draw(rng: np.random.Generator, centre: float, failure_rate: float) -> list[tuple[str, Any]]:
    """Return the statuses and scores of the attempts at one response."""
    failed = (str(rng.choice(FAILURES)), None)
    ok = ("ok", float(np.clip(round(centre + rng.normal(0, 0.9)), 1, 6)))
    draw = rng.random() / failure_rate if failure_rate else 2.0
    return [failed] if draw < 0.5 else [failed, ok] if draw < 1 else [ok]


def _verdicts(
    cell: CellSpec, p: int, s: int, attempts: Sequence[tuple[str, Any]]
) -> list[dict[str, Any]]:
    assert cell.judge
    key = generation_key(cell, p, s)
    common = {
        "judgment_key": sha256_key([key, cell.judge.model, "likert-6"]),
        "generation_key": key,
        "prompt_key": sha256_key(prompt(p)),
        "sample": s,
        "judge": cell.judge.model,
        "judge_version": cell.judge.model,
        "rubric": "likert-6",
        "rubric_hash": "0" * 64,
        "verdict": "Its steps are clear.",
        "http_status": 200,
        "request_id": f"r{p}",
        "prompt_tokens": 700,
        "completion_tokens": 150,
        "cost": 0.000575,
        "seconds": 1.5,
        "at": START,
    }
    return [
        common | {"attempt": n, "final": n == len(attempts), "status": status, "score": score}
        for n, (status, score) in enumerate(attempts, 1)
    ]
