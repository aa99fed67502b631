"""Responses in the layouts of other evaluators."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima_k8s.main import cli
from tests.helpers.responses import respond


@pytest.fixture
def storage(tmp_path: Path) -> str:
    uri = str(tmp_path / "results")
    for arm in ("ours", "theirs: 7b/x"):
        respond(Storage(uri), arm, 3)
    return uri


def export(storage: str, folder: Path, *options: str) -> list[Path]:
    result = CliRunner().invoke(cli, ["export", storage, "-o", str(folder), *options])
    assert result.exit_code == 0, result.output
    return [Path(line) for line in result.stdout.splitlines()]


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_conversations(storage: str, tmp_path: Path) -> None:
    ours, theirs = export(storage, tmp_path / "out")
    assert [ours.name, theirs.name] == ["ours.jsonl", "theirs%3A 7b%2Fx.jsonl"]
    assert [row["messages"] for row in lines(ours)] == [
        [
            {"role": "user", "content": f"Question {i}?"},
            {"role": "assistant", "content": f"The answer of ours to {i}."},
        ]
        for i in range(3)
    ]
    assert not list(tmp_path.glob("out/.*"))


def test_outputs_for_alpaca_eval(storage: str, tmp_path: Path) -> None:
    (path,) = export(storage, tmp_path, "--format", "alpaca-eval", "--arm", "ours")
    assert json.loads(path.read_text())[1] == {
        "instruction": "Question 1?",
        "output": "The answer of ours to 1.",
        "generator": "ours",
        "dataset": "tests",
    }


def test_answers_for_mt_bench(storage: str, tmp_path: Path) -> None:
    paths = export(storage, tmp_path, "--format", "mt-bench")
    questions = {row["question_id"]: row["turns"] for row in lines(tmp_path / "question.jsonl")}
    assert len(questions) == 3
    for path in paths:
        assert path.parent == tmp_path / "model_answer"
        for answer in lines(path):
            (choice,) = answer["choices"]
            number = questions[answer["question_id"]][0].removeprefix("Question ")[:-1]
            assert choice["turns"] == [f"The answer of {answer['model_id']} to {number}."]


def test_a_folder_for_datasets(storage: str, tmp_path: Path) -> None:
    import yaml

    export(storage, tmp_path, "--format", "hf")
    card = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    assert [config["config_name"] for config in card["configs"]] == ["ours", "theirs: 7b/x"]
    for config in card["configs"]:
        rows = pq.read_table(tmp_path / config["data_files"]).to_pylist()
        assert [row["arm"] for row in rows] == [config["config_name"]] * 3


def test_seeds_of_an_arm_have_files_of_their_own(tmp_path: Path) -> None:
    from dataclasses import replace

    from lima.spec import CellSpec, DataSpec, GenerateSpec
    from lima.store.tables import GENERATIONS
    from tests.helpers.responses import _row

    storage = Storage(str(tmp_path / "results"))
    cell = CellSpec("study", "ours", generate=GenerateSpec(DataSpec("none")))
    for seed in (0, 1):
        RunTable(storage, GENERATIONS, replace(cell, seed=seed)).write("rows", [_row(0, "Yes.")])
    assert [path.name for path in export(storage.uri, tmp_path)] == [
        "ours-seed0.jsonl",
        "ours-seed1.jsonl",
    ]


def test_what_is_not_there_is_named(storage: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["export", storage, "-o", str(tmp_path), "--arm", "other"])
    assert result.exit_code != 0
    assert "no responses of other; there are responses of ours, theirs: 7b/x" in str(
        result.exception or result.output
    )
