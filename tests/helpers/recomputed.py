"""What an aggregate must say of a made-up study, from all its rows in plain Python."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy import stats

from lima.spec import CellSpec, Stage
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, METRICS, STEPS, Table
from tests.helpers.synthetic import FAILURES, Study


def rows_of(storage: Storage, table: Table) -> list[dict[str, Any]]:
    """Return all rows of a table, read without the code under test."""
    files = sorted(Path(storage.full_path(table.name)).glob("*/*/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def notes() -> tuple[list[str], Any]:
    """Return what was said so far, and what to say it with."""
    said: list[str] = []
    return said, said.append


def expected_scores(judgments: Sequence[dict[str, Any]], responses: int) -> dict[str, Any]:
    """Return the measures of verdicts that were owed on so many responses."""
    final = [row for row in judgments if row["final"]]
    scores = [row["score"] for row in final if row["status"] == "ok"]
    unscored = responses - len(scores)
    by_prompt = defaultdict(list)
    for row in final:
        if row["status"] == "ok":
            by_prompt[row["prompt_key"]].append(row["score"])
    mean, groups = sum(scores) / len(scores), len(by_prompt)
    meat = sum(sum(s - mean for s in cluster) ** 2 for cluster in by_prompt.values())
    reach = stats.t(df=groups - 1).ppf(0.975) * math.sqrt(groups / (groups - 1) * meat)
    statuses = Counter(row["status"] for row in final)
    return {
        "judged": len(final),
        "scored": len(scores),
        **{status: statuses[status] for status in FAILURES},
        "not_judged": responses - len(final),
        "score": mean,
        "ci_low": mean - reach / len(scores),
        "ci_high": mean + reach / len(scores),
        "bound_low": (sum(scores) + unscored) / responses,
        "bound_high": (sum(scores) + 6 * unscored) / responses,
        "cost": sum(row["cost"] for row in judgments),
    }


def expected_responses(generations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the measures of responses."""
    reasons = Counter(row["finish_reason"] for row in generations)
    return {
        "prompts": len({row["prompt_key"] for row in generations}),
        "responses": len(generations),
        "response_tokens": sum(r["response_tokens"] for r in generations) / len(generations),
        "eot": reasons["eot"] / len(generations),
        "length": reasons["length"] / len(generations),
        "prompt_too_long": 0.0,
    }


def expected_training(storage: Storage, study: Study, runs: set[str]) -> dict[str, Any]:
    """Return the measures of runs of training, each counted once."""
    losses, perplexities, best = [], [], []
    for run in runs:
        steps = [row for row in rows_of(storage, STEPS) if row["run_id"] == run]
        last = [row for row in steps if row["epoch"] > study.epochs - 1]
        assert len(last) == study.steps_per_epoch
        tokens = sum(row["target_tokens"] for row in last)
        losses.append(sum(row["loss"] * row["target_tokens"] for row in last) / tokens)
        curve = {
            row["epoch"]: row["value"]
            for row in rows_of(storage, METRICS)
            if row["run_id"] == run and row["name"] == "heldout_perplexity"
        }
        perplexities.append(curve[max(curve)])
        best.append(min(curve.values()))
    return {
        "loss": sum(losses) / len(runs),
        "perplexity": sum(perplexities) / len(runs),
        "best_perplexity": sum(best) / len(runs),
        "steps": study.epochs * study.steps_per_epoch,
    }


def expected_attempts(storage: Storage, runs: set[str]) -> dict[str, Any]:
    """Return the measures of attempts at runs."""
    rows = [row for row in rows_of(storage, ATTEMPTS) if row["run_id"] in runs]
    starts = [row for row in rows if row["event"] == "started"]
    ends = [row for row in rows if row["event"] == "ended"]
    ended = {(row["run_id"], row["attempt_id"]) for row in ends}
    # In these studies every run was completed in the end: what has no end was killed.
    lost = sum((row["run_id"], row["attempt_id"]) not in ended for row in starts)
    return {
        "stage_starts": len(starts),
        "retries": len(starts) - len({row["run_id"] for row in starts}),
        "failed": 0,
        "interrupted": sum(row["outcome"] == "interrupted" for row in ends),
        "killed": lost + sum(row["outcome"] == "killed" for row in ends),
        "open": 0,
        "wall_hours": sum(row["seconds"] for row in ends) / 3600,
        "gpu_hours": sum(row["seconds"] * row["gpus"] for row in ends) / 3600,
    }


def own_runs(some: Sequence[CellSpec], *stages: Stage) -> set[str]:
    """Return the runs of some stages that cells stand on."""
    return {run_id(cell, stage) for cell in some for stage in stages}


def check(row: dict[str, Any], expected: dict[str, Any]) -> None:
    """Compare a row with what is expected, column by column."""
    found = {name: row[name] for name in expected}
    assert found == pytest.approx(expected, rel=1e-9), (found, expected)
