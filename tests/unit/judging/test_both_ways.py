"""A pair that a judge was asked about both ways round counts once, and never by the clock."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.evaluation.agreement.tie_discounted import all_agreements
from lima.evaluation.labels.contests import contest_rows
from lima.evaluation.labels.label_shares import read_labelled
from lima.rating.labels import Label, one_each, read_labels
from lima.rating.most import labels_of_most
from lima.runs.ledger import record_run
from lima.runs.progress import Progress
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima_jobs.judge import run_judge
from lima_k8s.main import run
from tests.helpers.judge_server import Answer, JudgeServer, Reply, running
from tests.helpers.responses import likes_lima, respond

PROMPTS = 8
ARMS = ("lima", "alpaca")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as judge:
        yield judge


def judged(server: JudgeServer, folder: Path, order: Sequence[str], **settings: Any) -> Storage:
    """Have arms judged against each other, one after the other."""
    storage = Storage(str(folder))
    for arm in ARMS:
        respond(storage, arm, PROMPTS)
    for arm in order:
        other = next(name for name in ARMS if name != arm)
        judge = JudgeSpec(base_url=server.base_url, rubric="preference", baselines=(other,))
        generate, settled = GenerateSpec(DataSpec("none")), replace(judge, **settings)
        cell = CellSpec("study", arm, generate=generate, judge=settled)
        record_run(storage, cell, "judge")
        run_judge(cell, storage, Progress(storage, run_id(cell)))
    return storage


def shares(storage: Storage) -> list[dict[str, Any]]:
    tables = Tables(storage)
    return contest_rows(read_labelled(tables, read_labels(tables)), {}, hero="lima")


FIRST_SIDE = Reply("A\nA")


@pytest.mark.parametrize(
    ("answer", "outcome"), [(lambda _: FIRST_SIDE, "tie"), (likes_lima, "win")]
)
def test_a_pair_asked_about_from_both_arms(
    server: JudgeServer, tmp_path: Path, answer: Answer, outcome: str
) -> None:
    server.answer = answer
    found = [judged(server, tmp_path / str(i), ARMS[::way]) for i, way in enumerate((1, -1))]
    rows, others = map(shares, found)
    assert rows == others
    [row] = rows
    assert (row["pairs"], row["missing"], row[outcome]) == (PROMPTS, 0, 1.0)


def test_a_pair_asked_about_in_both_orders(server: JudgeServer, tmp_path: Path) -> None:
    server.answer = lambda _: FIRST_SIDE
    [row] = shares(judged(server, tmp_path / "study", ("lima",), both_orders=True))
    assert (row["pairs"], row["tie"]) == (PROMPTS, 1.0)


def label(value: str, run: str, first: str | None, presentation: int = 0) -> Label:
    return Label(
        "i",
        presentation,
        "preference",
        "j",
        "model",
        value,
        "ok",
        "a",
        "b",
        "p",
        run_id=run,
        shown_first=first,
    )


SAID = [
    ([label("1", "r1", "1"), label("2", "r2", "1")], "1", False),
    ([label("1", "r1", "1"), label("1", "r2", "2")], "1", False),
    ([label("1", "r1", "1"), label("2", "r2", "2")], "tie", True),
    ([label("1", "r1", "1"), label("tie", "r2", "2")], "tie", True),
    ([label("2", "r1", "1"), label("1", "r1", "1", 1), label("2", "r2", "2")], "2", False),
    ([label("1", "r1", None), label("2", "r2", None)], "1", False),
]


@given(st.data())
def test_the_order_in_which_labels_came_decides_nothing(data: st.DataObject) -> None:
    for labels, value, inconsistent in SAID:
        shuffled = data.draw(st.permutations(labels))
        [one] = one_each(shuffled)
        assert (one.value, one.inconsistent) == (value, inconsistent)
        assert labels_of_most(shuffled) == [one]
        people = [replace(x, rater=f"{x.rater}/{n}", group="crowd") for n, x in enumerate(labels)]
        counted = all_agreements([*shuffled, *people], "preference", draws=20)
        again = all_agreements([*people, *labels], "preference", draws=20)
        assert [a.with_ties.value for a in counted] == [a.with_ties.value for a in again]


def test_a_judge_that_fails_at_every_pair_is_told(server: JudgeServer, tmp_path: Path) -> None:
    server.answer = lambda _: Reply("I like both.")
    study = judged(server, tmp_path / "study", ("lima",), attempts=1)
    [row] = shares(study)
    assert (row["pairs"], row["missing"], row["win"], row["win_rate"]) == (0, PROMPTS, None, None)
    assert run(["aggregate", study.uri, "--by", "against"]) == 0
    assert run(["report", study.uri, "-o", str(tmp_path / "report.html")]) == 0
