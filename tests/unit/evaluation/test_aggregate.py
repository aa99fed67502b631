"""The aggregate against a recomputation in plain Python, by every column to group by."""

from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest

from lima.errors import DataError, InputError
from lima.evaluation.aggregate.columns import AGAINST, BY, MEASURES
from lima.evaluation.aggregate.table import aggregate, aggregate_rows
from lima.spec import cell_stages
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, JUDGMENTS, TABLES
from tests.helpers.recomputed import (
    check,
    expected_attempts,
    expected_responses,
    expected_scores,
    expected_training,
    notes,
    own_runs,
    rows_of,
)
from tests.helpers.synthetic import Arm, Study, cells, write_run, write_study

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
        check(row, expected_training(study, STUDY, {run_id(cell, "train")}))
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
        check(row, expected_training(study, STUDY, own_runs(of_arm, "train")))
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
        assert all(
            row[name] is None
            for name in ("loss", "stage_starts", "retries", "gpu_hours", "examples")
        )
    assert said == []


@pytest.mark.parametrize("name", [column.name for column in BY if column.name != AGAINST])
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


def test_names_that_folders_cannot_hold(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    name = "a/b c=d é%"
    write_study(storage, Study(seeds=1, experiment=name))
    assert (tmp_path / "judgments" / quote(name, safe="")).is_dir()
    assert {row["experiment"] for row in aggregate_rows(storage, experiment=name)} == {name}
