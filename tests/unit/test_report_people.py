"""What a report shows of labels: figures 1, 2, 3 and 7 with the paper's values, and tables."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lima.evaluation.report import render_report
from lima.results import ANNOTATIONS
from lima.shards import RunTable
from lima.storage import Storage
from tests.synthetic import Arm, Study, write_study
from tests.unit.test_compare_paper import IDENTITY, alone, others, preferences, shares

NAMES = ("preference", "preference_model", "absolute", "dialogue")


def figure(page: str, name: str) -> str:
    found = re.search(rf'<figure id="{name}".*?</figure>', page, re.DOTALL)
    assert found
    return html.unescape(found[0])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = Storage(str(tmp_path_factory.mktemp("people")))
    write_study(storage, Study((Arm("filtered-2k"), Arm("wikihow-2k"))))
    experiment = Study((Arm("filtered-2k"),)).experiment
    rows = preferences(0, 300)
    skipped = [r | {"event": "skipped", "label": None} for r in rows[:30]]
    rows = [*skipped, *rows[30:], *others()]
    rows += alone("absolute", shares({"excellent": 50, "pass": 38, "fail": 12}, 50), 10_000)
    RunTable.of(storage, ANNOTATIONS, {**IDENTITY, "experiment": experiment}).write("l", rows)
    return render_report(storage, note=pytest.fail)


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_labels_are_drawn(page: str, name: str) -> None:
    assert "<svg" in figure(page, name)
    assert "paper: " in figure(page, name)


def test_figures_say_what_they_show(page: str) -> None:
    assert "Bard lima wins 33%, tie 25%, it loses 42%" in figure(page, "preference")
    assert "paper: Bard lima wins 27%" in figure(page, "preference_model")
    assert "lima excellent 50%, pass 38%, fail 12%" in figure(page, "absolute")
    assert "paper: zero-shot excellent 45%" in figure(page, "dialogue")
    assert "paper: filtered-2k 3.83" in figure(page, "score")


def test_tables_of_labels(page: str) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    assert re.search(r"lima against alpaca\s+people\s+270\s+30", text)
    assert re.search(r"win 48 \[42, 54\] \(43 to 53\)", re.sub(r"\s+", " ", text))
    assert "preference, human, bard, win" in text
    assert "crowd and model" in text
    assert "underpowered" in text or "within" in text


def test_without_labels_each_figure_says_how_to_get_them(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, replace(Study((Arm("arm-a"),)), seeds=1, heldout=False))
    page = render_report(storage, note=pytest.fail)
    hints = (
        "lima-k8s annotate",
        "judge.rubric=preference",
        "annotate --kind absolute",
        "lima-k8s chat",
    )
    for name, hint in zip(NAMES, hints, strict=True):
        assert "<svg" not in figure(page, name)
        assert hint in figure(page, name)
    assert "No arm is one of the paper’s" in page
