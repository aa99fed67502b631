"""Made-up studies of any size, written with the real specs, run ids and table schemas.

Numbers are drawn from seeded generators, so that a study is the same every time. Only what the
tables need to hold is modelled: losses fall, held-out perplexity turns up again, better arms
score higher, judges fail now and then, attempts are killed.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from lima.codec import canonical_json, run_id, sha256_key
from lima.results import ATTEMPTS, GENERATIONS, JUDGMENTS, METRICS, RUNS, STEPS, Table
from lima.shards import identity, run_folder, to_parquet
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
from lima.storage import Storage

START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
FAILURES = ("parse_fail", "refusal", "truncated", "api_error")
SOURCES = ("stackexchange", "reddit", "authored")
TOPICS = (
    "keep sourdough starter alive", "read a hexadecimal number", "prune an apple tree",
    "write a letter of thanks", "understand a mortgage", "fix a squeaky hinge",
    "explain tides to a child", "plan a week in Lisbon", "learn the offside rule",
    "choose a first telescope", "store winter clothes", "cook rice without a lid",
)  # fmt: skip


@dataclass(frozen=True)
class Arm:
    """An arm of a made-up study: its training data and how good its responses are."""

    name: str
    examples: int = 1000
    quality: float = 3.8
    response_tokens: float = 180.0


@dataclass(frozen=True)
class Study:
    """How large a study is, and how far it came."""

    arms: tuple[Arm, ...] = (Arm("diverse"), Arm("narrow", quality=3.4))
    seeds: int = 2
    prompts: int = 12
    samples: int = 2
    epochs: int = 3
    steps_per_epoch: int = 4
    judges: tuple[str, ...] = ("judge-a",)
    stages: tuple[Stage, ...] = STAGES
    experiment: str = "synthetic"
    failure_rate: float = 0.1
    killed: bool = True
    gpus: int = 1
    shard_rows: int = 10


def cells(study: Study) -> list[CellSpec]:
    """Return the cells of a study, one for each arm, seed and judge."""
    return [
        _cell(study, arm, seed, judge)
        for arm in study.arms
        for seed in range(study.seeds)
        for judge in (study.judges if "judge" in study.stages else ("",))
    ]


def _cell(study: Study, arm: Arm, seed: int, judge: str) -> CellSpec:
    compute = ComputeSpec(device="cuda" if study.gpus else "cpu")
    shape = ShapeSpec(512, 64, 2, 4, 128, 512)
    base = TrainSpec(ModelSpec("scratch", shape=shape), DataSpec("pydoc:topics"), compute=compute)
    train = TrainSpec(
        ModelSpec("run:base"),
        DataSpec("train.jsonl", sources=(arm.name,), count=arm.examples),
        heldout=DataSpec("dev.jsonl"),
        epochs=study.epochs,
        compute=compute,
    )
    generate = GenerateSpec(
        DataSpec("test.jsonl"), decoding=DecodingSpec(samples=study.samples), compute=compute
    )
    stages = {
        "base": base,
        "train": train,
        "generate": generate,
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
    storage: Storage, table: Table, cell: CellSpec, shard: str, columns: dict[str, Any], rows: int
) -> None:
    """Write one shard from columns; a single value stands for `rows` equal ones."""
    full = {**identity(cell), **columns}
    arrays = [
        pa.array(
            full[c.name] if isinstance(full.get(c.name), (list, np.ndarray)) else
            [full.get(c.name)] * rows,
            c.type,
        )
        for c in table.columns
    ]  # fmt: skip
    data = to_parquet(pa.Table.from_arrays(arrays, schema=table.schema))
    folder = run_folder(table, cell.experiment, run_id(cell))
    storage.write(f"{folder}/{shard}.parquet", data)


def _write_stage(storage: Storage, study: Study, arm: Arm, cell: CellSpec, stage: Stage) -> None:
    part = stage_cell(cell, stage)
    rng = np.random.default_rng(int(run_id(part), 16))
    parent = study.stages.index(stage) - 1
    fine_tuned = arm.examples if stage == "train" else None
    write_shard(
        storage,
        RUNS,
        part,
        "run",
        {
            "stage": stage,
            "parent_run_id": run_id(cell, study.stages[parent]) if parent >= 0 else None,
            "examples": fine_tuned,
            "spec": canonical_json(part),
            "versions": '{"python":"3.11"}',
            "created_at": START,
        },
        1,
    )
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
    """Write a completed attempt; before it, for every third cell, a killed or interrupted one."""
    seconds = float(rng.uniform(200, 4000))
    histories: tuple[tuple[str | None, ...], ...] = (
        ("completed",), (None, "completed"), ("interrupted", "completed"),
    )  # fmt: skip
    history = histories[int(rng.integers(3))] if study.killed and stage == "train" else histories[0]
    at, rows = START, []
    for number, outcome in enumerate(history):
        start = {"attempt_id": f"a{number}", "event": "started", "at": at, "outcome": None}
        rows.append(start | {"seconds": None})
        at += timedelta(seconds=seconds)
        if outcome:
            end = {"event": "ended", "at": at, "outcome": outcome, "seconds": seconds}
            rows.append(start | end)
    gpus = study.gpus if stage != "judge" else 0
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    fixed = {"stage": stage, "host": "node-1", "workers": 1, "gpus": gpus}
    write_shard(storage, ATTEMPTS, part, "attempts", columns | fixed, len(rows))


def _write_training(
    storage: Storage, study: Study, arm: Arm, part: CellSpec, rng: np.random.Generator
) -> None:
    steps = study.epochs * study.steps_per_epoch
    number = np.arange(1, steps + 1)
    epoch = number / study.steps_per_epoch
    floor = 4.4 - 0.6 * arm.quality
    loss = floor + 1.6 * np.exp(-epoch / 2) + rng.normal(0, 0.05, steps)
    times = [START + timedelta(seconds=int(n)) for n in number]
    columns = {
        "step": number, "epoch": epoch, "loss": loss, "learning_rate": 1e-5 / number,
        "gradient_norm": 1.0, "examples": 32, "tokens": 9000, "target_tokens": 7000,
        "seconds": 1.0, "at": times,
    }  # fmt: skip
    write_shard(storage, STEPS, part, "steps", columns, steps)
    if part.arm == BASE_ARM:
        return
    epochs = np.arange(1, study.epochs + 1)
    heldout = floor + 0.5 + 0.8 * np.exp(-epochs / 2) + 0.012 * epochs + rng.normal(0, 0.01)
    for name, values in (("heldout_loss", heldout), ("heldout_perplexity", np.exp(heldout))):
        columns = {
            "epoch": epochs, "step": epochs * study.steps_per_epoch, "name": name,
            "value": values, "tokens": 20_000, "at": START,
        }  # fmt: skip
        write_shard(storage, METRICS, part, name, columns, study.epochs)


def prompt(index: int) -> list[str]:
    """Return the utterances of a made-up prompt."""
    return [f"How do I {TOPICS[index % len(TOPICS)]}? (question {index})"]


def generation_key(cell: CellSpec, index: int, sample: int) -> str:
    """Return the key of a response."""
    return sha256_key([run_id(cell, "generate"), sha256_key(prompt(index)), sample])


def _write_generations(
    storage: Storage, study: Study, arm: Arm, part: CellSpec, rng: np.random.Generator
) -> None:
    pairs = [(p, s) for p in range(study.prompts) for s in range(study.samples)]
    for shard, start in enumerate(range(0, len(pairs), study.shard_rows)):
        chosen = pairs[start : start + study.shard_rows]
        n = len(chosen)
        tokens = np.minimum(rng.lognormal(np.log(arm.response_tokens), 0.6, n).astype(int), 500)
        reasons = np.where(tokens >= 500, "length", "eot")
        columns = {
            "generation_key": [generation_key(part, p, s) for p, s in chosen],
            "prompt_key": [sha256_key(prompt(p)) for p, _ in chosen],
            "prompt_index": [p for p, _ in chosen],
            "sample": [s for _, s in chosen],
            "source": [SOURCES[p % len(SOURCES)] for p, _ in chosen],
            "prompt": [prompt(p) for p, _ in chosen],
            "response": [response(arm.name, p, s) for p, s in chosen],
            "token_ids": [list(range(5)) for _ in chosen],
            "finish_reason": reasons.tolist(),
            "prompt_tokens": 12, "response_tokens": tokens, "logprob": -1.2 * tokens,
            "seed_address": "0/p/0", "model": "run:train", "at": START,
        }  # fmt: skip
        write_shard(storage, GENERATIONS, part, f"{shard:05d}", columns, n)


def response(arm: str, index: int, sample: int) -> str:
    """Return the text of a made-up response."""
    topic = TOPICS[index % len(TOPICS)]
    return (
        f"It is easier than it sounds to {topic}, if you take it one step at a time.\n\n"
        f"1. Gather what you need and read this list to the end.\n"
        f"2. Start small: ten minutes are enough for a first try.\n"
        f"3. Look at the result, change one thing, and do it again.\n\n"
        f"(The {arm} arm wrote this as sample {sample}.)"
    )


def _write_judgments(
    storage: Storage, study: Study, arm: Arm, cell: CellSpec, rng: np.random.Generator
) -> None:
    """Write all verdicts of a run; some responses are tried twice, some stay unscored."""
    effect = np.random.default_rng(7).normal(0, 0.5, study.prompts)
    rows = [
        row
        for p in range(study.prompts)
        for s in range(study.samples)
        for row in _judgment_rows(study, arm, cell, p, s, float(effect[p]), rng)
    ]
    for shard, start in enumerate(range(0, len(rows), study.shard_rows)):
        chosen = rows[start : start + study.shard_rows]
        columns = {name: [row[name] for row in chosen] for name in rows[0]}
        write_shard(storage, JUDGMENTS, cell, f"{shard:05d}", columns, len(chosen))


def _judgment_rows(
    study: Study, arm: Arm, cell: CellSpec, p: int, s: int, effect: float, rng: np.random.Generator
) -> Sequence[dict[str, Any]]:
    assert cell.judge
    key = generation_key(cell, p, s)
    common = {
        "judgment_key": sha256_key([key, cell.judge.model, "likert-6"]), "generation_key": key,
        "prompt_key": sha256_key(prompt(p)), "sample": s, "judge": cell.judge.model,
        "judge_version": cell.judge.model, "rubric": "likert-6", "rubric_hash": "0" * 64,
        "error": None, "http_status": 200, "request_id": f"r{p}", "prompt_tokens": 700,
        "completion_tokens": 150, "cost": 0.000575, "seconds": 1.5, "at": START,
    }  # fmt: skip
    failing = {"status": str(rng.choice(FAILURES)), "score": None, "verdict": "No digit."}
    score = float(np.clip(round(arm.quality + effect + rng.normal(0, 0.9)), 1, 6))
    good = {"status": "ok", "score": score, "verdict": f"Helpful.\n{score:.0f}"}
    draw = rng.random()
    if draw < study.failure_rate / 2:
        return [common | failing | {"attempt": 1, "final": True}]
    if draw < study.failure_rate:
        retried = common | failing | {"attempt": 1, "final": False}
        return [retried, common | good | {"attempt": 2, "final": True}]
    return [common | good | {"attempt": 1, "final": True}]


def write_many_judgments(storage: Storage, rows: int, shards: int, arms: int, seeds: int) -> None:
    """Write a large judgments table, evenly over arms and seeds, and the runs it belongs to."""
    study = Study(tuple(Arm(f"arm-{a}", quality=3 + 0.1 * a) for a in range(arms)), seeds=seeds)
    runs = cells(study)
    per_shard = rows // shards
    rng = np.random.default_rng(0)
    words = np.array(" ".join(TOPICS).split())
    for number, cell in enumerate(runs):
        for stage in study.stages[:3]:
            part = stage_cell(cell, stage)
            columns = {"stage": stage, "spec": canonical_json(part), "versions": "{}"}
            _write_run_row(storage, cell, part, stage, columns)
        _write_run_row(
            storage, cell, cell, "judge",
            {"stage": "judge", "spec": canonical_json(cell), "versions": "{}"},
        )  # fmt: skip
        for shard in range(number, shards, len(runs)):
            _write_many(storage, cell, shard, per_shard, rng, words)


def _write_run_row(
    storage: Storage, cell: CellSpec, part: CellSpec, stage: Stage, columns: dict[str, Any]
) -> None:
    before = STAGES.index(stage) - 1
    parent = run_id(cell, STAGES[before]) if before >= 0 else None
    fixed = {"parent_run_id": parent, "created_at": START}
    write_shard(storage, RUNS, part, "run", columns | fixed, 1)


def _write_many(
    storage: Storage, cell: CellSpec, shard: int, n: int, rng: np.random.Generator, words: Any
) -> None:
    """Write one shard of five samples a prompt and verdicts of some hundred characters."""
    index = np.arange(shard * n, (shard + 1) * n)
    prompts = [hashlib.sha256(b"%d" % (i // 5 % 300_000)).hexdigest() for i in index]
    keys = [hashlib.sha256(b"%d-%d" % (shard, i)).hexdigest() for i in index]
    ok = rng.random(n) > 0.03
    status = np.where(ok, "ok", rng.choice(FAILURES, n))
    scores = [float(s) if good else None for s, good in zip(rng.integers(1, 7, n), ok, strict=True)]
    verdicts = [" ".join(rng.choice(words, 60)) for _ in range(n)]
    columns = {
        "judgment_key": keys, "generation_key": keys, "prompt_key": prompts,
        "sample": index % 5, "attempt": 1, "final": True, "status": status.tolist(),
        "score": scores, "judge": "judge-a", "rubric": "likert-6", "rubric_hash": "0" * 64,
        "verdict": verdicts, "cost": 0.0006, "seconds": 1.5, "at": START,
    }  # fmt: skip
    write_shard(storage, JUDGMENTS, cell, f"{shard:05d}", columns, n)
