"""The aggregate against a recomputation in plain Python, and against bad tables."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from lima.codec import run_id
from lima.errors import DataError, InputError
from lima.evaluation.aggregate import BY, MEASURES, aggregate, aggregate_rows
from lima.results import ATTEMPTS, GENERATIONS, JUDGMENTS, METRICS, STEPS, TABLES, Table
from lima.spec import CellSpec, Stage, cell_stages, stage_cell
from lima.storage import Storage
from tests.synthetic import (
    FAILURES,
    START,
    Arm,
    Study,
    cells,
    write_run,
    write_shard,
    write_study,
)

STUDY = Study(
    arms=(Arm("diverse"), Arm("narrow", 500, "wikihow.jsonl", 3.2)),
    seeds=3,
    prompts=15,
    judges=("judge-a", "judge-b"),
    failure_rate=0.3,
)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    storage = Storage(str(tmp_path_factory.mktemp("study")))
    write_study(storage, STUDY)
    return storage


def rows_of(storage: Storage, table: Table) -> list[dict[str, Any]]:
    """All rows of a table, read without the code under test."""
    files = sorted(Path(storage.full_path(table.name)).glob("*/*/*.parquet"))
    return [row for file in files for row in pq.ParquetFile(file).read().to_pylist()]


def notes() -> tuple[list[str], Any]:
    said: list[str] = []
    return said, said.append


def expected_scores(judgments: Sequence[dict[str, Any]], responses: int) -> dict[str, Any]:
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
    reasons = Counter(row["finish_reason"] for row in generations)
    return {
        "prompts": len({row["prompt_key"] for row in generations}),
        "responses": len(generations),
        "response_tokens": sum(r["response_tokens"] for r in generations) / len(generations),
        "eot": reasons["eot"] / len(generations),
        "length": reasons["length"] / len(generations),
        "prompt_too_long": 0.0,
    }


def expected_training(storage: Storage, runs: set[str]) -> dict[str, Any]:
    losses, perplexities, best = [], [], []
    for run in runs:
        steps = [row for row in rows_of(storage, STEPS) if row["run_id"] == run]
        last = [row for row in steps if row["epoch"] > STUDY.epochs - 1]
        assert len(last) == STUDY.steps_per_epoch
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
        "steps": STUDY.epochs * STUDY.steps_per_epoch,
    }


def expected_attempts(storage: Storage, runs: set[str]) -> dict[str, Any]:
    rows = [row for row in rows_of(storage, ATTEMPTS) if row["run_id"] in runs]
    starts = [row for row in rows if row["event"] == "started"]
    ends = [row for row in rows if row["event"] == "ended"]
    ended = {(row["run_id"], row["attempt_id"]) for row in ends}
    # In these studies every run was completed in the end: what has no end was killed.
    lost = sum((row["run_id"], row["attempt_id"]) not in ended for row in starts)
    return {
        "attempts": len(starts),
        "failed": 0,
        "interrupted": sum(row["outcome"] == "interrupted" for row in ends),
        "killed": lost + sum(row["outcome"] == "killed" for row in ends),
        "open": 0,
        "wall_hours": sum(row["seconds"] for row in ends) / 3600,
        "gpu_hours": sum(row["seconds"] * row["gpus"] for row in ends) / 3600,
    }


def own_runs(some: Sequence[CellSpec], *stages: Stage) -> set[str]:
    return {run_id(cell, stage) for cell in some for stage in stages}


def check(row: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {name: row[name] for name in expected} == pytest.approx(expected, rel=1e-9)


def test_a_row_for_each_cell(study: Storage) -> None:
    table = aggregate(study)
    assert table.column_names == [
        "experiment",
        "arm",
        "seed",
        "run_id",
        *(c.name for c in MEASURES),
    ]
    rows = table.to_pylist()
    assert len(rows) == len(STUDY.arms) * STUDY.seeds * len(STUDY.judges)
    judgments, generations = rows_of(study, JUDGMENTS), rows_of(study, GENERATIONS)
    seen_killed = 0
    for row in rows:
        cell = next(c for c in cells(STUDY) if run_id(c) == row["run_id"])
        assert (row["arm"], row["seed"]) == (cell.arm, cell.seed)
        own = [j for j in judgments if j["run_id"] == row["run_id"]]
        responses = [g for g in generations if g["run_id"] == run_id(cell, "generate")]
        check(row, expected_scores(own, len(responses)))
        check(row, expected_responses(responses))
        check(row, expected_training(study, {run_id(cell, "train")}))
        check(row, expected_attempts(study, own_runs([cell], "train", "generate", "judge")))
        assert row["cells"] == 1
        assert row["examples"] == (1000 if cell.arm == "diverse" else 500)
        seen_killed += row["killed"]
    assert seen_killed > 0


def test_merged_over_seeds_and_judges_shared_runs_count_once(study: Storage) -> None:
    said, note = notes()
    rows = {row["arm"]: row for row in aggregate(study, ["arm"], note=note).to_pylist()}
    judgments, generations = rows_of(study, JUDGMENTS), rows_of(study, GENERATIONS)
    for arm, row in rows.items():
        of_arm = [cell for cell in cells(STUDY) if cell.arm == arm]
        responses = [g for g in generations if g["arm"] == arm]
        # Both judges owe a verdict on every response.
        check(row, expected_scores([j for j in judgments if j["arm"] == arm], 2 * len(responses)))
        check(row, expected_responses(responses))
        check(row, expected_training(study, own_runs(of_arm, "train")))
        check(row, expected_attempts(study, own_runs(of_arm, "train", "generate", "judge")))
        assert row["cells"] == STUDY.seeds * 2
    assert len(said) == 2
    assert all("judge.model: judge-a / judge-b" in text and "--by run_id" in text for text in said)


def test_by_judge_and_source(study: Storage) -> None:
    said, note = notes()
    rows = aggregate(study, ["judge", "source"], note=note).to_pylist()
    judgments, generations = rows_of(study, JUDGMENTS), rows_of(study, GENERATIONS)
    sources = {g["generation_key"]: g["source"] for g in generations}
    assert len(rows) == 2 * 3
    for row in rows:
        own = [
            j
            for j in judgments
            if j["judge"] == row["judge"] and sources[j["generation_key"]] == row["source"]
        ]
        responses = [g for g in generations if g["source"] == row["source"]]
        check(row, expected_scores(own, len(responses)))
        check(row, expected_responses(responses))
        assert all(row[name] is None for name in ("loss", "attempts", "gpu_hours", "examples"))
    assert said == []


@pytest.mark.parametrize("name", [column.name for column in BY])
def test_every_column_to_group_by(study: Storage, name: str) -> None:
    table = aggregate(study, [name])
    assert table.column_names[0] == name
    assert sum(row["scored"] for row in table.to_pylist()) == sum(
        row["final"] and row["status"] == "ok" for row in rows_of(study, JUDGMENTS)
    )


def test_unknown_and_repeated_columns(study: Storage) -> None:
    with pytest.raises(InputError, match="--by model: no such column; choose from experiment, arm"):
        aggregate(study, ["arm", "model"])
    with pytest.raises(InputError, match="named twice"):
        aggregate(study, ["arm", "arm"])


def test_object_store_and_folder_give_the_same(study: Storage, s3_storage: str) -> None:
    distant = Storage(s3_storage)
    for name in TABLES:
        distant.upload_folder(Path(study.full_path(name)), name)
    assert aggregate(distant).equals(aggregate(study))
    assert aggregate(distant, ["source"]).equals(aggregate(study, ["source"]))


def test_two_settings_of_one_arm_are_not_merged_silently(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    study = Study(arms=(Arm("lima"),), seeds=1)
    write_study(storage, study)
    write_study(storage, replace(study, epochs=5))
    assert len(aggregate(storage)) == 2
    said, note = notes()
    assert len(aggregate(storage, ["arm", "seed"], note=note)) == 1
    assert len(said) == 1
    assert said[0].startswith("arm=lima, seed=0: 2 cells of arm 'lima' with different settings")
    assert "(train.epochs: 3 / 5)" in said[0]


def test_settings_that_only_decide_the_speed_are_no_difference(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    cell = write_study(storage, Study(arms=(Arm("lima"),), seeds=1))[0]
    assert cell.judge
    faster = replace(cell, seed=1, judge=replace(cell.judge, concurrency=99))
    for stage in cell_stages(faster):
        write_run(storage, faster, stage)
    said, note = notes()
    assert aggregate(storage, ["arm"], note=note)["cells"].to_pylist() == [2]
    assert said == []


def test_one_experiment_of_several(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for name in ("first one", "second/one"):
        write_study(storage, Study(seeds=1, experiment=name))
    assert len(aggregate(storage)) == 4
    assert set(aggregate(storage, experiment="second/one")["experiment"].to_pylist()) == {
        "second/one"
    }
    with pytest.raises(InputError, match="no such experiment; there are first one, second/one"):
        aggregate(storage, experiment="third")


def test_storage_without_runs(tmp_path: Path) -> None:
    for uri in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DataError, match=f"{uri}: no runs there"):
            aggregate(Storage(str(uri)))


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
            assert row["attempts"] == before["attempts"] + 1 + count
            assert (row["open"], row["killed"]) == (1, before["killed"] + count)
            assert row["wall_hours"] == before["wall_hours"]


class TestRows:
    """Rows that are unusual, but not wrong."""

    def judged(self, tmp_path: Path, columns: dict[str, Any]) -> dict[str, Any]:
        storage = Storage(str(tmp_path))
        cell = write_study(storage, Study(arms=(Arm("lima"),), seeds=1, stages=("train",)))[0]
        cell = replace(cell, generate=None, judge=cells(STUDY)[0].judge)
        write_run(storage, cell, "judge")
        n = len(columns["status"])
        common = {
            "judgment_key": "k", "generation_key": "g", "prompt_key": [f"p{i}" for i in range(n)],
            "sample": 0, "attempt": 1, "final": True, "judge": "j", "rubric": "r",
            "rubric_hash": "h", "cost": 0.5, "seconds": 1.0, "at": START,
        }  # fmt: skip
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
        last = {"epoch": [9], "step": 9, "name": "heldout_perplexity", "value": math.inf,
                "tokens": 1, "at": START}  # fmt: skip
        write_shard(storage, METRICS, cell, "zzz", last)
        row = aggregate_rows(storage)[0]
        assert row["perplexity"] is None
        assert row["best_perplexity"] > 1


class TestBadFiles:
    """Files in a table that are not its shards."""

    @pytest.fixture
    def storage(self, tmp_path: Path) -> Storage:
        storage = Storage(str(tmp_path))
        write_study(storage, Study(seeds=1))
        return storage

    def spoil(self, storage: Storage) -> dict[str, str]:
        """Damage a study in all ways; return the paths and a part of the reason for each."""
        judgments = Path(storage.full_path("judgments"))
        shards = sorted(judgments.glob("*/*/*.parquet"))
        folder = shards[0].parent
        other = next(s.parent for s in shards if s.parent != folder)
        cut = shards[0].read_bytes()
        (folder / "cut.parquet").write_bytes(cut[: len(cut) // 2])
        (folder / "empty.parquet").write_bytes(b"")
        (folder / "text.parquet").write_text("not Parquet at all")
        broken = bytearray(cut)
        broken[60:3000] = bytes(2940)
        (folder / "broken.parquet").write_bytes(bytes(broken))
        pq.write_table(pa.table({"a": [1]}), folder / "foreign.parquet")
        whole = pq.ParquetFile(shards[0]).read()
        typed = whole.set_column(
            whole.column_names.index("score"), "score", pa.array(["high"] * len(whole))
        )
        pq.write_table(typed, folder / "typed.parquet")
        pq.write_table(whole, other / "moved.parquet")
        pq.write_table(whole, judgments / "stray.parquet")
        metrics = next(Path(storage.full_path("metrics")).glob("*/*/*.parquet"))
        metrics.write_bytes(b"PAR1 no more")
        return {
            str(folder / "cut.parquet"): "",
            str(folder / "empty.parquet"): "",
            str(folder / "text.parquet"): "",
            str(folder / "broken.parquet"): "",
            str(folder / "foreign.parquet"): "no column",
            str(folder / "typed.parquet"): "",
            str(other / "moved.parquet"): f"rows of run {folder.name.removeprefix('run_id=')}",
            str(judgments / "stray.parquet"): "not in a run's folder",
            str(metrics): "",
        }

    def test_one_error_names_them_all(self, storage: Storage) -> None:
        bad = self.spoil(storage)
        with pytest.raises(DataError) as caught:
            aggregate(storage)
        lines = str(caught.value).splitlines()
        assert lines[0].startswith(f"{len(bad)} files cannot be read")
        assert "--skip-unreadable" in lines[-1]
        assert len(lines) == len(bad) + 2
        for path, reason in bad.items():
            line = next(line for line in lines if path in line)
            assert reason in line.split(path)[1]

    def test_skipping_leaves_out_only_them_and_says_so(self, storage: Storage) -> None:
        before = aggregate_rows(storage)
        bad = self.spoil(storage)
        said, note = notes()
        after = aggregate_rows(storage, skip_unreadable=True, note=note)
        scores = ("judged", "scored", "score", "ci_low", "cost", "responses", "loss")
        assert [[r[n] for n in scores] for r in after] == [[r[n] for n in scores] for r in before]
        assert len(said) == 1
        assert all(path in said[0] for path in bad)

    def test_rows_of_a_run_whose_row_is_unreadable(self, storage: Storage) -> None:
        runs = {row["run_id"]: row for row in rows_of(storage, TABLES["runs"])}
        judged = next(r for r in runs.values() if r["stage"] == "judge")["run_id"]
        lost = next(Path(storage.full_path("runs")).glob(f"*/run_id={judged}/*.parquet"))
        lost.write_bytes(b"")
        said, note = notes()
        rows = aggregate_rows(storage, skip_unreadable=True, note=note)
        assert judged not in {row["run_id"] for row in rows}
        assert any(judged in text and "table `runs`" in text for text in said)

    def test_judgments_whose_responses_are_unreadable(self, storage: Storage) -> None:
        for shard in Path(storage.full_path("generations")).glob("*/*/*.parquet"):
            shard.write_bytes(b"")
        for by in (["arm"], ["arm", "source"]):
            rows = aggregate_rows(storage, by, skip_unreadable=True, note=lambda _: None)
            assert all(row["scored"] > 0 and row["not_judged"] is None for row in rows)

    def test_other_files_are_left_alone(self, storage: Storage) -> None:
        before = aggregate_rows(storage)
        folder = next(Path(storage.full_path("judgments")).glob("*/*"))
        (folder / "README.txt").write_text("notes")
        (folder / ".00000.parquet.half").write_bytes(b"half")
        assert aggregate_rows(storage) == before

    def test_a_shard_that_disappears_meanwhile_is_no_error(
        self, storage: Storage, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A run that resumes deletes the rows of work that was lost."""
        listed = storage.entries

        def then_deleted(path: str) -> Any:
            found = listed(path)
            for entry in found if path.startswith("steps") else ():
                storage.delete(entry.path)
            return found

        monkeypatch.setattr(storage, "entries", then_deleted)
        rows = aggregate_rows(storage)
        assert [row["loss"] for row in rows] == [None, None]
        assert all(row["score"] for row in rows)


def test_names_that_folders_cannot_hold(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    name = "a/b c=d é%"
    write_study(storage, Study(seeds=1, experiment=name))
    assert (tmp_path / "judgments" / f"experiment={quote(name, safe='')}").is_dir()
    assert {row["experiment"] for row in aggregate_rows(storage, experiment=name)} == {name}
