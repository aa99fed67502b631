"""The aggregate of a study that still runs, and of unusual rows."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.evaluation.aggregate.table import aggregate_rows
from lima.spec import stage_cell
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, GENERATIONS, JUDGMENTS, METRICS
from tests.helpers.recomputed import check, expected_scores, rows_of
from tests.helpers.synthetic import START, Arm, Study, cells, write_run, write_shard, write_study


class TestUnfinished:
    """A study that still runs."""

    def test_only_the_base_model_so_far(self, tmp_path: Path) -> None:
        storage = Storage(str(tmp_path))
        write_study(storage, Study(stages=("base",)))
        assert aggregate_rows(storage) == []

    def test_trained_but_not_sampled(self, tmp_path: Path) -> None:
        storage = Storage(str(tmp_path))
        write_study(storage, Study(stages=("base", "train"), seeds=1))
        for row in aggregate_rows(storage):
            assert row["loss"] > 0
            unknown = ("responses", "eot", "judged", "scored", "parse_fail", "score", "cost")
            assert [row[name] for name in unknown] == [None] * len(unknown)

    def test_without_a_judge_scores_are_null_and_not_zero(self, tmp_path: Path) -> None:
        storage = Storage(str(tmp_path))
        write_study(storage, Study(stages=("base", "train", "generate"), seeds=1))
        for row in aggregate_rows(storage):
            assert row["responses"] == 24
            assert row["judged"] is row["not_judged"] is row["score"] is row["bound_low"] is None

    def test_half_judged(self, tmp_path: Path) -> None:
        storage = Storage(str(tmp_path))
        write_study(storage, Study(seeds=1, failure_rate=0))
        shards = sorted(Path(storage.full_path("judgments")).glob("*/*/*.parquet"))
        for shard in shards[1::3]:
            shard.unlink()
        left = rows_of(storage, JUDGMENTS)
        for row in aggregate_rows(storage):
            own = [r for r in left if r["run_id"] == row["run_id"]]
            check(row, expected_scores(own, 24))
            assert row["not_judged"] > 0
            assert row["bound_low"] < row["score"] < row["bound_high"]

    def test_an_attempt_without_an_end_is_open_until_a_later_one_starts(
        self, tmp_path: Path
    ) -> None:
        storage = Storage(str(tmp_path))
        cell = write_study(storage, Study(arms=(Arm("lima"),), seeds=1, stages=("train",)))[0]
        before = aggregate_rows(storage)[0]
        start = {"stage": "train", "event": ["started"], "host": "n", "workers": 1, "gpus": 1}
        for count, name in enumerate(("x", "y")):
            at = START.replace(year=2030 + count)
            write_shard(storage, ATTEMPTS, cell, name, {**start, "attempt_id": name, "at": at})
            row = aggregate_rows(storage)[0]
            assert row["stage_starts"] == before["stage_starts"] + 1 + count
            assert (row["open"], row["killed"]) == (1, before["killed"] + count)
            assert row["wall_hours"] == before["wall_hours"]


class TestRows:
    """Rows that are unusual, but not wrong."""

    def judged(self, tmp_path: Path, columns: dict[str, Any]) -> dict[str, Any]:
        storage = Storage(str(tmp_path))
        cell = write_study(storage, Study(arms=(Arm("lima"),), seeds=1, stages=("train",)))[0]
        cell = replace(cell, generate=None, judge=cells(Study())[0].judge)
        write_run(storage, cell, "judge")
        n = len(columns["status"])
        common = {
            "judgment_key": "k",
            "generation_key": "g",
            "prompt_key": [f"p{i}" for i in range(n)],
            "sample": 0,
            "attempt": 1,
            "final": True,
            "judge": "j",
            "rubric": "r",
            "rubric_hash": "h",
            "cost": 0.5,
            "seconds": 1.0,
            "at": START,
        }
        write_shard(storage, JUDGMENTS, cell, "00000", common | columns)
        return aggregate_rows(storage)[0]

    def test_a_score_of_a_failure_never_counts(self, tmp_path: Path) -> None:
        status = ["ok", "ok", "truncated", "ok"]
        row = self.judged(tmp_path, {"status": status, "score": [2.0, 4.0, 6.0, None]})
        assert (row["judged"], row["scored"], row["truncated"]) == (4, 2, 1)
        assert (row["score"], row["bound_low"], row["bound_high"]) == (3.0, 2.0, 4.5)

    def test_all_failed(self, tmp_path: Path) -> None:
        row = self.judged(tmp_path, {"status": ["refusal"] * 3, "score": [None] * 3})
        assert (row["judged"], row["scored"], row["refusal"]) == (3, 0, 3)
        assert (row["score"], row["ci_low"]) == (None, None)
        assert (row["bound_low"], row["bound_high"], row["cost"]) == (1.0, 6.0, 1.5)

    def test_one_prompt_has_a_mean_without_interval(self, tmp_path: Path) -> None:
        row = self.judged(tmp_path, {"status": ["ok"] * 2, "score": [2.0, 3.0], "prompt_key": "p"})
        assert (row["score"], row["ci_low"], row["ci_high"]) == (2.5, None, None)

    def test_unknown_statuses_are_judged_but_not_scored(self, tmp_path: Path) -> None:
        row = self.judged(tmp_path, {"status": ["ok", "lost"], "score": [5.0, None]})
        assert (row["judged"], row["scored"], row["bound_low"]) == (2, 1, 3.0)

    def test_prompts_that_did_not_fit_are_unscored_responses_without_length(
        self, tmp_path: Path
    ) -> None:
        storage = Storage(str(tmp_path))
        study = Study(arms=(Arm("lima"),), seeds=1, stages=("train", "generate"), prompts=4)
        cell = write_study(storage, study)[0]
        before = aggregate_rows(storage)[0]
        template = rows_of(storage, GENERATIONS)[0]
        extra = {
            "prompt_key": ["too long"],
            "finish_reason": "prompt_too_long",
            "response_tokens": 0,
        }
        columns = {k: [v] if isinstance(v, list) else v for k, v in template.items()} | extra
        write_shard(storage, GENERATIONS, stage_cell(cell, "generate"), "99999", columns)
        row = aggregate_rows(storage)[0]
        assert row["responses"] == before["responses"] + 1
        assert row["response_tokens"] == before["response_tokens"]
        assert row["prompt_too_long"] == pytest.approx(1 / row["responses"])

    def test_a_model_that_diverged_has_no_finite_perplexity(self, tmp_path: Path) -> None:
        storage = Storage(str(tmp_path))
        cell = write_study(storage, Study(arms=(Arm("lima"),), seeds=1, stages=("train",)))[0]
        last = {
            "epoch": [9],
            "step": 9,
            "name": "heldout_perplexity",
            "value": math.inf,
            "tokens": 1,
            "at": START,
        }
        write_shard(storage, METRICS, cell, "zzz", last)
        row = aggregate_rows(storage)[0]
        assert row["perplexity"] is None
        assert row["best_perplexity"] > 1
