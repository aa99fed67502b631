"""`report` from 1,000,000 judged responses against a plain read of the same columns in DuckDB.

pytest tests/bench/bench_report.py -s
python tests/bench/bench_report.py [FOLDER]    # keeps the study in FOLDER for the next time
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
ROWS, SHARD_ROWS, ARMS, SEEDS, SAMPLES = 1_000_000, 500, 5, 4, 5
TEXTS = 997
GOAL_S, GOAL_MB = 20.0, 1000
ROUNDS = 3
FAILURES = ("parse_fail", "refusal", "truncated", "api_error")

QUERY = """
with responses as (
    select arm, prompt_key, source, finish_reason, response_tokens
    from read_parquet('{folder}/generations/*/*/*.parquet', hive_partitioning = true)
),
judged as (
    select arm, prompt_key, status, final, score, cost
    from read_parquet('{folder}/judgments/*/*/*.parquet', hive_partitioning = true)
),
of_responses as (
    select arm, count(*) responses, quantile_disc(response_tokens, [.05, .25, .5, .75, .95]) q,
        avg((finish_reason = 'eot')::double) eot
    from responses group by arm
),
of_scores as (
    select arm, count(score) scored, avg(score) score, sum(cost), count(distinct prompt_key)
    from judged where final group by arm
)
select arm, responses, scored, score, eot, q from of_responses join of_scores using (arm)
order by arm
"""
PEER = "import duckdb, sys; duckdb.execute(sys.argv[1]).fetchall()"


def write_study(folder: str) -> None:
    """Write a million responses of some hundred characters and their scores, once."""
    from lima.store.storage import Storage
    from tests.helpers.synthetic import Arm, Study, cells, write_run

    if (Path(folder) / "judgments").exists():
        return
    study = Study(tuple(Arm(f"arm-{a}") for a in range(ARMS)), seeds=SEEDS)
    runs = cells(study)
    for cell in runs:
        for stage in study.stages:
            write_run(Storage(folder), cell, stage, 1000)
        for shard, columns in enumerate(_shards(ROWS // len(runs), cell.seed)):
            _write_shard(folder, cell, shard, columns)


def _shards(rows: int, seed: int) -> Iterator[dict[str, Any]]:
    """Yield what a run answered, shard by shard: all runs answer the same prompts."""
    rng = np.random.default_rng(seed)
    words = np.array(
        [
            "the",
            "a",
            "of",
            "to",
            "it",
            "is",
            "that",
            "was",
            "for",
            "on",
            "are",
            "with",
            "as",
            "his",
            "they",
            "at",
            "be",
            "this",
        ]
    )
    texts = np.array([" ".join(rng.choice(words, 80)) for _ in range(TEXTS)])
    for start in range(0, rows, SHARD_ROWS):
        index = np.arange(start, min(rows, start + SHARD_ROWS))
        prompts = index // SAMPLES
        yield {
            "prompt_key": [hashlib.sha256(b"p%d" % p).hexdigest() for p in prompts],
            "prompt_index": prompts,
            "sample": index % SAMPLES,
            "text": texts[rng.integers(0, TEXTS, len(index))].tolist(),
            "tokens": rng.integers(10, 500, len(index)),
            "ok": rng.random(len(index)) > 0.03,
            "score": rng.integers(1, 7, len(index)).astype(float),
            "failure": rng.choice(FAILURES, len(index)),
        }


def _write_shard(folder: str, cell: Any, shard: int, drawn: dict[str, Any]) -> None:
    from lima.spec import stage_cell
    from lima.spec.codec import run_id
    from lima.store.storage import Storage
    from lima.store.tables import GENERATIONS, JUDGMENTS
    from tests.helpers.synthetic import SOURCES, START, write_shard

    run, places = run_id(cell, "generate"), zip(drawn["prompt_index"], drawn["sample"], strict=True)
    keys = [hashlib.sha256(f"{run}/{p}/{s}".encode()).hexdigest() for p, s in places]
    common = {
        "generation_key": keys,
        "prompt_key": drawn["prompt_key"],
        "sample": drawn["sample"],
        "at": START,
    }
    responses = {
        "prompt_index": drawn["prompt_index"],
        "source": [SOURCES[p % len(SOURCES)] for p in drawn["prompt_index"]],
        "prompt": [[f"How do I do number {p}?"] for p in drawn["prompt_index"]],
        "response": drawn["text"],
        "token_ids": [[]] * len(keys),
        "prompt_tokens": 9,
        "finish_reason": np.where(drawn["tokens"] > 450, "length", "eot").tolist(),
        "response_tokens": drawn["tokens"],
        "logprob": -1.0,
        "seed_address": "",
        "model": "m",
    }
    write_shard(
        Storage(folder),
        GENERATIONS,
        stage_cell(cell, "generate"),
        f"{shard:05d}",
        common | responses,
    )
    scores = zip(drawn["score"].tolist(), drawn["ok"].tolist(), strict=True)
    judgments = {
        "judgment_key": keys,
        "attempt": 1,
        "final": True,
        "judge": "judge-a",
        "status": np.where(drawn["ok"], "ok", drawn["failure"]).tolist(),
        "score": [score if ok else None for score, ok in scores],
        "rubric": "likert-6",
        "rubric_hash": "0" * 64,
        "verdict": drawn["text"],
        "cost": 0.0006,
        "seconds": 1.5,
    }
    write_shard(Storage(folder), JUDGMENTS, cell, f"{shard:05d}", common | judgments)


def measure(folder: str) -> dict[str, float]:
    """Measure whole processes over the study in `folder`; print and return what was measured."""
    import duckdb

    from tests.bench.bench_aggregate import peak_mb

    write_study(folder)
    _refuse_other_numbers(folder, duckdb.execute(QUERY.format(folder=folder)).fetchall())
    output = str(Path(folder).with_suffix(".html"))
    own = [str(Path(sys.executable).with_name("lima-k8s")), "report", folder, "-o", output]
    peer = [sys.executable, "-c", PEER, QUERY.format(folder=folder)]
    pairs = [(_cpu_seconds(own), _cpu_seconds(peer)) for _ in range(ROUNDS)]
    ours, theirs = (sorted(column)[ROUNDS // 2] for column in zip(*pairs, strict=True))
    memory, other = peak_mb(own), peak_mb(peer)
    print(
        f"\nreport of {ROWS:,} responses and as many judgments: {ours:.1f} s of CPU (goal: "
        f"{GOAL_S:g} s), {memory:.0f} MB (goal: {GOAL_MB} MB); DuckDB's read of the columns of "
        f"its tables alone, without figures: {theirs:.1f} s, {other:.0f} MB"
    )
    return {"seconds": ours, "duckdb_seconds": theirs, "memory_mb": memory}


def _cpu_seconds(command: list[str]) -> float:
    """Run a command; return its CPU time, which does not grow with what else the machine does."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _refuse_other_numbers(folder: str, expected: list[Any]) -> None:
    """Check that the report says of each arm what DuckDB says of it."""
    from lima.evaluation.cells.lines import series_of
    from lima.evaluation.cells.measures import summarise
    from lima.evaluation.cells.study_data import lengths_of, quantile, read_study_data
    from lima.store.scan import Tables
    from lima.store.storage import Storage

    study = read_study_data(Tables(Storage(folder)))
    for series, row in zip(series_of(study.chains), expected, strict=True):
        found = summarise(study.results, series.chains)
        counts = lengths_of(study, series.chains)
        assert (series.arm, found["responses"], found["scored"]) == row[:3]
        assert [found["score"], found["eot"]] == pytest.approx(row[3:5])
        assert [quantile(counts, q) for q in (0.05, 0.25, 0.5, 0.75, 0.95)] == row[5]


@pytest.mark.bench
def test_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        measured = measure(str(tmp_path / "study"))
    assert measured["memory_mb"] < GOAL_MB


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as temporary:
        print(json.dumps(measure(sys.argv[1] if len(sys.argv) > 1 else f"{temporary}/study")))
