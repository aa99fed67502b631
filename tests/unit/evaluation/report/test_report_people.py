"""What a report shows of labels: figures 1, 2, 3 and 7 with the paper's values, and tables."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest

from lima.evaluation.aggregate.table import aggregate_rows
from lima.evaluation.cells.measures import read_metrics
from lima.evaluation.labels.label_shares import HUMAN, Item, Labelled, Rate
from lima.evaluation.report.page import render_report
from lima.rating.dialogues import ChatAnswer
from lima.rating.labels import Label
from lima.rating.selection import Standing, record_choice
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from tests.helpers import report_pages
from tests.helpers.paper_shares import IDENTITY, NAMED, alone, others, preferences, shares
from tests.helpers.synthetic import Arm, Study, write_study

NAMES = ("preference", "preference_model", "absolute", "dialogue", "dialogues")


def figure(page: str, name: str) -> str:
    return html.unescape(report_pages.figure(page, name))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    storage = Storage(str(tmp_path_factory.mktemp("people")))
    write_study(storage, Study((Arm("filtered-2k"), Arm("wikihow-2k"))))
    experiment = Study((Arm("filtered-2k"),)).experiment
    rows = preferences(0, 300)
    skipped = [r | {"event": "skipped", "label": None} for r in rows[:30]]
    rows = [*skipped, *rows[30:], *others()]
    rows += alone("absolute", shares({"excellent": 50, "pass": 38, "fail": 12}, 50), 10_000)
    rows += alone(
        "absolute",
        shares({"excellent": 45, "pass": 35, "fail": 20}, 20),
        10_500,
        out_of_distribution=True,
    )
    RunTable.of(storage, ANNOTATIONS, {**IDENTITY, "experiment": experiment}).write("l", rows)
    named = {**NAMED, "filtered-2k": "filtered-2k"}
    return render_report(storage, named=named, note=pytest.fail)


@pytest.mark.parametrize("name", NAMES)
def test_figures_of_labels_are_drawn(page: str, name: str) -> None:
    assert "<svg" in figure(page, name)
    assert "paper: " in figure(page, name)


def test_figures_say_what_they_show(page: str) -> None:
    assert "Bard lima wins 33%, tie 25%, it loses 42%" in figure(page, "preference")
    assert "paper: Bard lima wins 27%" in figure(page, "preference_model")
    assert "lima excellent 50%, pass 38%, fail 12%" in figure(page, "absolute")
    assert "lima, out of distribution excellent 45%, pass 35%" in figure(page, "absolute")
    assert "paper: zero-shot excellent 45%, pass 19%, fail 36%" in figure(page, "dialogue")
    said = "against lima lima_dialogue is better 70%, tie 30%, it is worse 0%"
    assert said in figure(page, "dialogues")
    assert "paper: filtered-2k 3.83" in figure(page, "score")


def test_tables_of_labels(page: str) -> None:
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    assert re.search(r"lima against alpaca\s+people\s+270\s+30", text)
    assert re.search(r"win 48 \[42, 54\] \(43 to 53\)", re.sub(r"\s+", " ", text))
    assert "preference, human, bard, win" in text
    assert "crowd and model" in text
    assert "underpowered" in text or "within" in text


def test_dialogues_before_and_after_training_on_them(page: str) -> None:
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "lima, answers in dialogues people 42 0 19 excellent, 8 pass, 15 fail" in text
    assert "lima_dialogue, answers in dialogues people 46 0 35 excellent, 10 pass, 1 fail" in text
    assert "lima, dialogues people 10 0 6 failed within 3 answers, 4 not" in text
    assert "lima_dialogue against lima, whole dialogues people 10 0 7 win, 3 tie, 0 lose" in text


def test_unlike_prompts_are_counted_apart(page: str) -> None:
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert "lima, absolute people 50 0 25 excellent" in text
    assert "lima, out of distribution people 20 0 9 excellent" in text


def test_what_is_not_labelled_is_missing() -> None:
    """Answers of chats without a label move the bounds, and so do conversations not graded yet."""

    def label(conversation: str, turn: int, value: str) -> Label:
        return Label(
            f"{conversation}{turn}",
            0,
            "dialogue",
            "me",
            "author",
            value,
            "ok",
            "lima",
            None,
            "p",
            conversation_id=conversation,
            turn=turn,
        )

    answers = [ChatAnswer("r", "lima", "m", c, t, f"{c}{t}") for c in "abc" for t in (1, 2, 3, 4)]
    labels = [label("a", 1, "pass"), label("a", 2, "fail"), label("b", 1, "pass")]
    labels += [label("c", t, "excellent") for t in (1, 2, 3)]
    has = Labelled(labels, answers=answers)
    rate = has.of("dialogue", "lima", HUMAN).rate("fail")
    assert rate == Rate(1, 6, missing=6)
    assert rate.bounds == (1 / 12, 7 / 12)
    # b may still fail; c did not, whatever its fourth answer is worth.
    assert has.failed_early("lima").rate("failed") == Rate(1, 2, missing=1)


def test_a_round_drawn_by_seed_keeps_what_it_marks() -> None:
    """Section 4.3: of 50 random prompts 7 are out of distribution; 13 more make 20."""

    def label(item: str, run: str, *, marked: bool) -> Label:
        return Label(
            item,
            0,
            "absolute",
            "me",
            "author",
            "pass",
            "ok",
            "lima",
            None,
            "p",
            out_of_distribution=marked,
            run_id=run,
        )

    drawn = [label(f"d{i}", "drawn", marked=i < 7) for i in range(50)]
    added = [label(f"a{i}", "added", marked=True) for i in range(13)]
    items = [
        Item(x.item_id, "absolute", frozenset(("lima", None)), x.run_id) for x in (*drawn, *added)
    ]
    has = Labelled([*drawn, *added], items)
    assert has.drawn().of("absolute", "lima", HUMAN).total == 50
    assert has.out_of_distribution().of("absolute", "lima", HUMAN).total == 20


def test_checkpoints_beside_what_people_chose(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    cells = write_study(storage, Study((Arm("a"),), seeds=1, checkpoints=(1, 2, None)))
    standings = [Standing(1, 0, 1, 3), Standing(2, 3, 1, 0)]
    record_choice(storage, run_id(cells[0], "train"), 2, standings, "e")
    page = render_report(storage, note=pytest.fail)
    rows = checkpoint_rows(page)
    perplexities = {r["epoch"]: r["value"] for r in read_metrics(Tables(storage))}
    scores = {
        r["epoch"]: r["score"] for r in aggregate_rows(storage, ["epoch"], note=lambda _: None)
    }
    assert scores.keys() == {1, 2, 3}  # the last one has its number, though no spec names it
    for row, epoch, rest in zip(rows, (1, 2, 3), ("0, 1, 3", "3, 1, 0 chosen", "–"), strict=True):
        assert row.startswith(f"a {epoch} 1 {perplexities[epoch]:.2f} {scores[epoch]:.2f} [")
        assert row.endswith(f" {rest}")
    assert "paper, about" in figure(page, "checkpoints")


def checkpoint_rows(page: str) -> list[str]:
    found = re.search(r'id="h-checkpoints">.*?</table>', page, re.DOTALL)
    assert found
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in found[0].split("<tr>")[2:]]


def test_the_last_epoch_of_responses_is_the_last_exported_one(tmp_path: Path) -> None:
    """Of 12 epochs 5 to 10 are exported; without a number the responses are from the tenth."""
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("a"),), seeds=2, epochs=12, checkpoints=(6, None)))
    page = render_report(storage, note=pytest.fail)
    curves: dict[int, list[float]] = {}
    for row in read_metrics(Tables(storage)):
        curves.setdefault(row["epoch"], []).append(row["value"])
    rows = checkpoint_rows(page)
    mean = {epoch: sum(values) / len(values) for epoch, values in curves.items()}
    assert f"{mean[10]:.2f}" != f"{mean[12]:.2f}"
    assert [" ".join(row.split()[:4]) for row in rows] == [
        f"a 6 2 {mean[6]:.2f}",
        f"a 10 2 {mean[10]:.2f}",
    ]
    by_epoch = {
        r["epoch"]: r["perplexity"] for r in aggregate_rows(storage, ["epoch"], note=lambda _: None)
    }
    assert by_epoch == {6: pytest.approx(mean[6]), 10: pytest.approx(mean[10])}
    text = " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())
    assert f" {mean[10]:.2f}" in text
    assert "perplexity that of the epoch that responses are from" in text
    assert "a (last exported epoch)" in text


def test_correlations_are_told_arm_by_arm(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    arms = (Arm("good", quality=5.0), Arm("poor", quality=3.0))
    write_study(storage, Study(arms, seeds=1, epochs=8, checkpoints=(5, 6, 7, 8)))
    said = " ".join(figure(render_report(storage, note=pytest.fail), "checkpoints").split())
    [told] = re.findall(r"rank correlation, each arm by itself: (.*?)\. The paper", said)
    one = r"-?\d\.\d\d over 4 checkpoints \(95 % interval -?\d\.\d\d to -?\d\.\d\d\)"
    assert re.fullmatch(f"good {one}; poor {one}", told)


def test_two_checkpoints_have_no_correlation(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("a"),), seeds=1, checkpoints=(2, 3)))
    page = render_report(storage, note=pytest.fail)
    assert "<svg" in figure(page, "checkpoints")
    assert "rank correlation" not in page


def test_without_labels_each_figure_says_how_to_get_them(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, replace(Study((Arm("arm-a"),)), seeds=1, heldout=False))
    page = render_report(storage, note=pytest.fail)
    hints = (
        "lima-k8s annotate",
        "judge.rubric=preference",
        "annotate --kind absolute",
        "lima-k8s chat",
        "annotate --kind dialogue",
    )
    for name, hint in zip(NAMES, hints, strict=True):
        assert "<svg" not in figure(page, name)
        assert hint in figure(page, name)
    assert "No arm is one of the paper’s" in page
