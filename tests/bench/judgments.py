"""A made-up table of judgments as large as a bench asks for."""

import hashlib

import numpy as np

from lima.spec import CellSpec
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS
from tests.helpers.synthetic import (
    FAILURES,
    START,
    TOPICS,
    Arm,
    Study,
    cells,
    write_run,
    write_shard,
)


def write_many_judgments(storage: Storage, rows: int, shards: int, arms: int, seeds: int) -> None:
    """Write a large judgments table, evenly over arms and seeds, and the runs it belongs to."""
    study = Study(tuple(Arm(f"arm-{a}") for a in range(arms)), seeds=seeds)
    runs = cells(study)
    rng = np.random.default_rng(0)
    for number, cell in enumerate(runs):
        for stage in study.stages:
            write_run(storage, cell, stage, 1000)
        for shard in range(number, shards, len(runs)):
            _write_many(storage, cell, shard, rows // shards, rng)


def _write_many(
    storage: Storage, cell: CellSpec, shard: int, n: int, rng: np.random.Generator
) -> None:
    """Write one shard of five samples a prompt and verdicts of some hundred characters."""
    index = np.arange(shard * n, (shard + 1) * n)
    keys = [hashlib.sha256(b"%d" % i).hexdigest() for i in index]
    ok = rng.random(n) > 0.03
    words = np.array(" ".join(TOPICS).split())
    columns = {
        "judgment_key": keys,
        "generation_key": keys,
        "sample": index % 5,
        "attempt": 1,
        "prompt_key": [hashlib.sha256(b"p%d" % (i // 5)).hexdigest() for i in index],
        "final": True,
        "status": np.where(ok, "ok", rng.choice(FAILURES, n)).tolist(),
        "score": [
            float(s) if good else None for s, good in zip(rng.integers(1, 7, n), ok, strict=True)
        ],
        "judge": "judge-a",
        "rubric": "likert-6",
        "rubric_hash": "0" * 64,
        "verdict": [" ".join(rng.choice(words, 60)) for _ in range(n)],
        "cost": 0.0006,
        "seconds": 1.5,
        "at": START,
    }
    write_shard(storage, JUDGMENTS, cell, f"{shard:05d}", columns)
