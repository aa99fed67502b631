"""Storages without a cell: imported labels, conversations; and one arm judged by two rubrics."""

import html
import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lima.evaluation.report.page import render_report
from lima.generation.chat import ChatSpec, Reply
from lima.rating.conversations import Conversations
from lima.spec import DecodingSpec, JudgeSpec, ModelSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, GENERATIONS
from lima_k8s.main import run
from tests.helpers.paper_shares import IDENTITY, alone, event
from tests.helpers.report_pages import figure
from tests.helpers.synthetic import (
    START,
    Arm,
    Study,
    cells,
    generation_key,
    write_run,
    write_shard,
    write_study,
)

EXPERIMENT = str(IDENTITY["experiment"])


class Echo:
    """Says what it hears."""

    def reply(self, prompt: Sequence[str]) -> Reply:
        """Return the last utterance."""
        return Reply(prompt[-1], "eot", [])


def bring_labels(folder: Path) -> None:
    rows = [
        event(
            i,
            kind="preference",
            label="A" if i < 6 else "B",
            arm_1="one",
            arm_2="two",
            response_2="y",
            item_id=str(i),
        )
        for i in range(8)
    ]
    rows += alone("absolute", ["pass", "pass", "fail"], 100, arm_1="one")
    RunTable.of(Storage(str(folder)), ANNOTATIONS, IDENTITY).write("l", rows)


def talk(folder: Path) -> None:
    spec = ChatSpec("talks", "parrot", ModelSpec("x"), DecodingSpec())
    held = Conversations(Storage(str(folder)), spec, Echo(), "me")
    conversation = held.new()
    held.say(conversation, "Hello?")
    held.label(conversation, 1, "fail")


def text_of(page: str) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


def test_labels_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bring_labels(tmp_path)
    assert run(["aggregate", str(tmp_path)]) == 0
    captured = capsys.readouterr()
    assert re.search(r"one +two +people +8 +75 \[35, 97\]", captured.out)
    assert "one, absolute" in captured.out
    assert captured.err == "no cells have started yet\n"
    assert run(["aggregate", str(tmp_path), "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == []
    assert [row["what"] for row in document["labels"]] == ["one against two", "one, absolute"]
    assert document["labels"][1]["shares"]["pass"]["count"] == 2
    page = render_report(Storage(str(tmp_path)), note=pytest.fail)
    assert f"<h1>{EXPERIMENT}</h1>" in page
    assert "No cells: labels and conversations alone." in text_of(page)
    assert "<svg" in figure(page, "preference")
    assert "Responses side by side" not in page
    assert run(["aggregate", str(tmp_path), "--experiment", "other"]) == 2
    assert f"no such experiment; there are {EXPERIMENT}" in capsys.readouterr().err


def test_conversations_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    talk(tmp_path)
    assert run(["aggregate", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert re.search(r"parrot +x +1 +1 +1 ", out)
    assert "parrot, answers in dialogues" in out
    page = text_of(render_report(Storage(str(tmp_path)), note=pytest.fail))
    assert "talks No cells" in page
    assert "parrot x 1 1 1" in page


def test_two_studies_of_labels_are_told_apart(tmp_path: Path) -> None:
    bring_labels(tmp_path)
    storage = Storage(str(tmp_path))
    other = {**IDENTITY, "experiment": "other", "run_id": "q" * 16}
    row = event(999, kind="absolute", label="fail", arm_1="three", item_id="x")
    RunTable.of(storage, ANNOTATIONS, other).write("l", [row])
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "r.html")]) == 2
    page = render_report(storage, experiment="other", note=pytest.fail)
    assert "<h1>other</h1>" in page
    assert "one against two" not in page


def test_nothing_at_all_is_still_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in ("aggregate", "report", "compare-paper"):
        assert run([command, str(tmp_path)]) == 2
        assert "no runs there" in capsys.readouterr().err


# Tables


def test_an_arm_judged_by_two_rubrics_is_one_row(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    study = Study((Arm("mine"), Arm("other")), seeds=2)
    write_study(storage, study)
    preference = JudgeSpec(model="judge-a", rubric="preference", baselines=("other",))
    for cell in cells(study):
        if cell.arm == "mine":
            write_run(storage, replace(cell, judge=preference), "judge")
    page = render_report(storage, note=pytest.fail)
    found = re.search(r'aria-labelledby="h-summary".*?</table>', page, re.DOTALL)
    assert found
    names = re.findall(r'<th scope="row">.*?</i>(.*?)</th>', found[0])
    assert names[:2] == ["mine", "other"]
    assert "mine (" not in text_of(page)


def test_two_judges_are_two_columns(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("mine"),), judges=("judge-b", "judge-a"), seeds=2))
    page = text_of(render_report(storage, note=pytest.fail))
    head = "score by judge-a [95 % interval] score by judge-b [95 % interval]"
    assert head in page
    assert re.search(
        r"perplexity.*? mine 2 1,000 \d\.\d\d \[[\d., ]+\] \d\.\d\d \[[\d., ]+\]", page
    )
    assert "mine (judge-a)" in page  # the table of judgments


def test_what_is_not_known_is_a_dash(tmp_path: Path) -> None:
    """Endpoints do not tell all their tokens."""
    storage = Storage(str(tmp_path))
    study = Study((Arm("mine"),), seeds=1, stages=("generate",), prompts=2, samples=1)
    [cell] = cells(study)
    write_run(storage, cell, "generate")
    columns = {
        "generation_key": [generation_key(cell, p, 0) for p in (0, 1)],
        "prompt_key": ["p0", "p1"],
        "prompt_index": [0, 1],
        "sample": 0,
        "source": "s",
        "prompt": [["Why?"]] * 2,
        "response": ["Because."] * 2,
        "token_ids": [[]] * 2,
        "finish_reason": "eot",
        "response_tokens": [None, 7],
        "seed_address": "",
        "model": "m",
        "at": START,
    }
    write_shard(storage, GENERATIONS, cell, "r", columns)
    page = render_report(storage, note=pytest.fail)
    assert not re.search(r"\b(nan|inf)\b", text_of(page))
