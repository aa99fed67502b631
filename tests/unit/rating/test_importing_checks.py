"""Labels from elsewhere name what the storage knows, unless they say that it is new."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lima.generation.chat import ChatSpec, Reply
from lima.rating.conversations import Conversations
from lima.rating.labels import read_labels
from lima.runs.ledger import record_run
from lima.spec import CellSpec, DataSpec, DecodingSpec, GenerateSpec, JudgeSpec, ModelSpec
from lima.spec.codec import sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima_k8s.main import run
from tests.helpers.web.labelling import OTHER, OURS, write_pair

RECORD = {
    "kind": "preference",
    "rater": "anna",
    "rater_group": "crowd",
    "label": "A",
    "prompt": "Prompt 1: how does a cat & a hat <b>fit</b>?",
    "arm_1": OURS,
    "arm_2": OTHER,
}
VOTE = {
    "judge": "expert_1",
    "model_a": OURS,
    "model_b": "x",
    "winner": "model_a",
    "question_id": 1,
    "turn": 1,
}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_pair(tmp_path / "study", 4)


def brought(
    study: Path, rows: Sequence[dict[str, Any]], *options: str, experiment: str = "study"
) -> int:
    """Import rows as a file of their own; return the exit code."""
    text = "\n".join(map(json.dumps, rows))
    path = study.parent / f"{sha256_key([text])[:8]}.jsonl"
    path.write_text(text)
    return run(["import-labels", str(study), str(path), "--experiment", experiment, *options])


def labels(study: Path) -> int:
    return len(read_labels(Tables(Storage(str(study)))))


def test_what_is_known_is_taken(study: Path) -> None:
    assert brought(study, [RECORD]) == 0
    assert labels(study) == 1


@pytest.mark.parametrize(
    ("change", "words", "new"),
    [
        (
            {"arm_2": "rival-secret-5"},
            f"has no arm 'rival-secret-5'; there are: {OURS}, {OTHER}. ",
            "arms",
        ),
        (
            {"prompt": "Never asked."},
            "1 of 2 labels are of prompts that nobody answered",
            "prompts",
        ),
    ],
)
def test_what_is_unknown_is_refused_with_the_choices(
    study: Path, change: dict[str, str], words: str, new: str, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [RECORD, RECORD | change]
    assert brought(study, rows) == 2
    error = capsys.readouterr().err
    assert words in error
    assert f"--new {new}" in error
    assert labels(study) == 0
    assert brought(study, rows, "--new", new) == 0
    assert labels(study) == 2
    # What labels brought is known from then on.
    assert brought(study, [RECORD | change | {"rater": "ben"}]) == 0


def test_an_unknown_experiment(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert brought(study, [RECORD], experiment="stduy") == 2
    error = capsys.readouterr().err
    assert "has no experiment 'stduy'; there are: study. " in error
    assert "--new experiment" in error
    assert brought(study, [RECORD], "--new", "experiment", experiment="other") == 0
    assert brought(study.parent / "empty", [RECORD]) == 2
    assert "there are: none" in capsys.readouterr().err


def test_an_unknown_group(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert brought(study, [RECORD | {"rater_group": "crowds"}]) == 2
    assert "rater_group 'crowds': one of crowd, author, model" in capsys.readouterr().err
    assert brought(study, [VOTE | {"judge": "boss"}], "--layout", "mtbench") == 2
    assert "--group START=GROUP, one of crowd, author, model" in capsys.readouterr().err


def test_a_rater_is_of_one_group(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    author = RECORD | {"rater_group": "author"}
    assert brought(study, [RECORD, author]) == 2
    error = capsys.readouterr().err
    assert "label 2: rater 'anna' is author here, and crowd in other labels of study" in error
    assert labels(study) == 0
    assert brought(study, [RECORD]) == 0
    assert brought(study, [author]) == 2
    assert brought(study, [RECORD]) == 0  # the same file again
    # So are those who are invited, who may be known already.
    invited = ["annotate", str(study), "--kind", "absolute", "--run", OURS, "--status"]
    assert run([*invited, "--invite", "anna:author"]) == 2
    assert "anna has labelled as crowd in this study" in capsys.readouterr().err
    assert run([*invited, "--invite", "anna"]) == 0
    # In another study it may be somebody else.
    assert brought(study, [author], "--new", "experiment", experiment="other") == 0
    capsys.readouterr()
    assert run(["agreement", str(study)]) == 0
    assert "rater anna has labels as author and crowd" in capsys.readouterr().err
    assert run(["agreement", str(study), "--experiment", "study"]) == 0
    assert "has labels as" not in capsys.readouterr().err


def test_a_judge_of_the_study_is_a_model(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = JudgeSpec(model="anna", rubric="preference", baselines=(OTHER,))
    cell = CellSpec("study", OURS, generate=GenerateSpec(DataSpec("none")), judge=judge)
    record_run(Storage(str(study)), cell, "judge")
    assert brought(study, [RECORD]) == 2
    assert "'anna' is crowd here, and model in other labels" in capsys.readouterr().err
    assert brought(study, [RECORD | {"rater_group": "model"}]) == 0


def test_votes_name_arms_too_but_their_prompts_are_numbers(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert brought(study, [VOTE], "--layout", "mtbench") == 2
    assert "has no arm 'x'" in capsys.readouterr().err
    assert brought(study, [VOTE | {"model_b": OTHER}], "--layout", "mtbench") == 0


def test_a_dialogue_is_known_by_how_it_began(study: Path) -> None:
    class Echo:
        def reply(self, prompt: Sequence[str]) -> Reply:
            return Reply(prompt[-1], "eot", [])

    spec = ChatSpec("study", OURS, ModelSpec("x"), DecodingSpec())
    talked = Conversations(Storage(str(study)), spec, Echo(), "me")
    conversation = talked.new()
    for said in ("Begin.", "Go on."):
        talked.say(conversation, said)
    row = {
        "kind": "dialogue",
        "rater": "anna",
        "rater_group": "crowd",
        "label": "pass",
        "prompt": "Begin.",
        "arm_1": OURS,
        "turn": 2,
        "conversation_id": "c",
    }
    assert brought(study, [row]) == 0
    assert brought(study, [row | {"prompt": "Go on."}]) == 2
