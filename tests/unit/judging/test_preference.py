"""A model that compares responses: what it is told, how it is read, and what becomes of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.errors import DataError, EndpointError, SpecError
from lima.evaluation.aggregate.table import aggregate_rows
from lima.evaluation.agreement.rater_habits import raters_of
from lima.evaluation.cells.measures import read_efforts
from lima.judging.preference import TOLD, build_comparison, parse_label
from lima.lint import lint
from lima.rating.instructions import INSTRUCTIONS
from lima.rating.labels import read_labels
from lima.rating.responses import item_id
from lima.runs.ledger import record_run
from lima.runs.progress import Progress
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, stage_cell
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ITEMS, JUDGMENTS
from lima_jobs.judge import run_judge
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, running
from tests.helpers.responses import likes_lima, respond

PROMPTS = 12
PINNED = "18b37b01e146c4b4"


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running(likes_lima) as judge:
        yield judge


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    opened = Storage(str(tmp_path / "study"))
    for arm, count in (("lima", PROMPTS), ("alpaca", PROMPTS), ("bard", PROMPTS - 2)):
        respond(opened, arm, count)
    return opened


def comparing(server: JudgeServer, **changes: Any) -> CellSpec:
    judge = JudgeSpec(
        base_url=server.base_url, model="gpt-4", rubric="preference", baselines=("alpaca", "bard")
    )
    cell = CellSpec("study", "lima", generate=GenerateSpec(DataSpec("none")))
    return replace(cell, judge=replace(judge, **changes))


def run(cell: CellSpec, storage: Storage) -> list[dict[str, Any]]:
    record_run(storage, cell, "judge")
    run_judge(cell, storage, Progress(storage, run_id(cell)))
    rows: list[dict[str, Any]] = RunTable(storage, JUDGMENTS, cell).read().to_pylist()
    return rows


def test_the_runs_of_before_keep_their_ids() -> None:
    """Pinned: written by the version that knew no comparisons."""
    cell = CellSpec("e", "a", generate=GenerateSpec(DataSpec("d")), judge=JudgeSpec())
    assert run_id(cell) == PINNED
    assert cell.judge
    assert run_id(replace(cell, judge=replace(cell.judge, budget=1.0))) == PINNED
    assert run_id(replace(cell, judge=replace(cell.judge, both_orders=True))) != PINNED
    assert run_id(replace(cell, judge=replace(cell.judge, repeats=1))) != PINNED


def test_a_model_is_told_what_people_are_told() -> None:
    text = build_comparison(["Why?"], "Because.", "So.")
    assert TOLD is INSTRUCTIONS["preference"]
    assert TOLD.whole in text
    assert all(choice.words in text for choice in TOLD.choices)
    assert text.index("Because.") < text.index("So.")


@pytest.mark.parametrize(
    ("verdict", "label"),
    [
        ("A\nA", "A"),
        ("Long.\n\n**B**\n**B**\n", "B"),
        ("x\nneither", "neither"),
        ("[[A]]", "A"),
        ("Final answer: B", "B"),
        ("A is worse, so\nB\nB", "B"),
        ("Neither.", "neither"),
    ],
)
def test_the_label_at_the_end_counts(verdict: str, label: str) -> None:
    assert parse_label(verdict) == label


@pytest.mark.parametrize(
    "verdict",
    [
        "",
        "A\nB",
        "I prefer A",
        "A or B",
        "A, B or neither",
        "A\nbecause it is better",
        "C",
        "tie",
        INSTRUCTIONS["preference"].whole,
        build_comparison(["Say A\nA"], "B\nB", "neither\nneither"),
    ],
)
def test_anything_else_is_no_label(verdict: str) -> None:
    assert parse_label(verdict) is None


@given(st.text(), st.text(), st.text())
def test_what_is_compared_is_never_read_as_the_verdict(prompt: str, one: str, two: str) -> None:
    assert parse_label(build_comparison([prompt], one, two)) is None


def test_every_pair_gets_a_row(server: JudgeServer, storage: Storage) -> None:
    rows = run(comparing(server), storage)
    assert len(rows) == 2 * PROMPTS - 2
    assert {row["status"] for row in rows} == {"ok"}
    assert all(row["score"] is None for row in rows)
    assert {row["instruction_hash"] for row in rows} == {TOLD.hash}
    assert {row["label"] for row in rows} == {"A", "B"}  # both sides were shown first
    for row in rows:
        keys = [row["generation_key"], row["response_2"]]
        assert row["item_id"] == item_id("preference", row["prompt_key"], keys)
        assert (row["label"] == "A") == (row["shown"] == "12")
    labels = read_labels(Tables(storage))
    assert [x.for_arm("lima") for x in labels] == ["win"] * len(rows)
    assert {(x.group, x.rater) for x in labels} == {("model", "gpt-4")}


def test_the_ledger_holds_the_orders(server: JudgeServer, storage: Storage) -> None:
    cell = comparing(server, both_orders=True, baselines=("alpaca",))
    rows = run(cell, storage)
    ledger = RunTable(storage, ITEMS, cell).read().to_pylist()
    asked = {(row["item_id"], row["presentation"]): row["shown"] for row in rows}
    assert asked == {(i["item_id"], i["presentation"]): i["shown"] for i in ledger}
    assert len(asked) == 2 * PROMPTS
    for item in {name for name, _ in asked}:
        assert {asked[item, 0], asked[item, 1]} == {"12", "21"}
    [habits] = raters_of(read_labels(Tables(storage)))
    assert (habits.turned.count, habits.turned.total) == (PROMPTS, PROMPTS)


def test_a_judge_that_favours_a_side_is_found_out(server: JudgeServer, storage: Storage) -> None:
    server.answer = lambda _: Reply("A\nA")
    run(comparing(server, both_orders=True), storage)
    [habits] = raters_of(read_labels(Tables(storage)))
    assert (habits.position.value, habits.turned.value) == (1.0, 0.0)


def test_a_judge_that_changes_its_mind_is_found_out(server: JudgeServer, storage: Storage) -> None:
    asked: set[str] = set()

    def answer(request: Request) -> Reply:
        again = request.text in asked
        asked.add(request.text)
        return Reply("neither\nneither") if again else likes_lima(request)

    server.answer = answer
    rows = run(comparing(server, repeats=5, concurrency=1, baselines=("alpaca",)), storage)
    assert len(rows) == PROMPTS + 5
    labels = read_labels(Tables(storage))
    [habits] = raters_of(labels)
    assert (habits.repeated.count, habits.repeated.total) == (0, 5)
    assert (habits.items, habits.ties.count, habits.ties.total) == (PROMPTS, 0, PROMPTS)


def test_failures_are_rows_and_never_ties(server: JudgeServer, storage: Storage) -> None:
    bad = [
        Reply("I like both."),
        Reply(finish_reason="length"),
        Reply(None, refusal="No."),
        error(400, "too long"),
    ]
    asked: dict[str, int] = {}

    def answer(request: Request) -> Reply:
        number = asked.setdefault(request.text, len(asked))
        return bad[number] if number < len(bad) else likes_lima(request)

    server.answer = answer
    rows = run(comparing(server, attempts=2, concurrency=1, baselines=("alpaca",)), storage)
    final = [row for row in rows if row["final"]]
    assert len(final) == PROMPTS
    assert sorted(r["status"] for r in final if r["status"] != "ok") == [
        "api_error",
        "parse_fail",
        "refusal",
        "truncated",
    ]
    assert all((row["label"] is None) == (row["status"] != "ok") for row in rows)
    labels = read_labels(Tables(storage))
    assert [x.value for x in labels].count(None) == 4
    assert "tie" not in {x.value for x in labels}
    assert raters_of(labels)[0].ties.total == PROMPTS - 4


def test_a_run_that_was_cut_short_pays_for_nothing_twice(
    server: JudgeServer, storage: Storage
) -> None:
    whole = Storage(f"{storage.uri}-whole")
    for arm in ("lima", "alpaca"):
        respond(whole, arm, PROMPTS)
    cell = comparing(server, baselines=("alpaca",), concurrency=2)
    expected = run(cell, whole)
    server.paid.clear()
    server.answer = lambda r: likes_lima(r) if len(server.paid) < 5 else error(401)
    with pytest.raises(EndpointError):
        run(cell, storage)
    server.answer = likes_lima
    rows = run(cell, storage)
    assert set(server.paid.values()) == {1}
    assert len(server.paid) == PROMPTS
    decided = [("judgment_key", "item_id", "shown", "label", "status", "attempt", "final")]
    said = [
        {tuple(row[c] for c in columns) for row in found}
        for columns in decided
        for found in (rows, expected)
    ]
    assert said[0] == said[1]


def test_a_budget_stops_before_it_is_passed(server: JudgeServer, storage: Storage) -> None:
    cell = comparing(
        server,
        baselines=("alpaca",),
        budget=0.1,
        input_price=10.0,
        output_price=100.0,
        max_tokens=200,
        concurrency=4,
    )
    with pytest.raises(EndpointError, match=r"could pass the budget of 0\.1"):
        run(cell, storage)
    finished = sum(server.paid.values())
    assert 0 < finished < PROMPTS
    # An answer is billed with 400 and 50 tokens.
    assert finished * (400 * 10 + 50 * 100) / 1e6 <= 0.1
    assert cell.judge
    rows = run(replace(cell, judge=replace(cell.judge, budget=1.0)), storage)
    assert len(rows) == PROMPTS
    assert set(server.paid.values()) == {1}


def test_a_budget_needs_prices(server: JudgeServer, storage: Storage) -> None:
    with pytest.raises(SpecError, match="prices"):
        run(comparing(server, budget=1.0), storage)
    assert server.requests == []


def test_baselines_must_be_known(server: JudgeServer, storage: Storage) -> None:
    with pytest.raises(DataError, match=r"'claude' has no run .*alpaca"):
        run(comparing(server, baselines=("claude",)), storage)
    with pytest.raises(SpecError, match="baselines"):
        run(comparing(server, baselines=()), storage)
    by_run = run_id(CellSpec("study", "alpaca", generate=GenerateSpec(DataSpec("none"))))
    assert len(run(comparing(server, baselines=(by_run,)), storage)) == PROMPTS


def test_an_arm_is_not_compared_with_itself(server: JudgeServer, storage: Storage) -> None:
    assert len(run(comparing(server, baselines=("lima", "alpaca")), storage)) == PROMPTS
    assert sum(server.paid.values()) == PROMPTS
    alone = comparing(server, baselines=("lima",))
    assert run(alone, storage) == []
    by_run = run_id(alone, "generate")
    assert run(comparing(server, baselines=(by_run,)), storage) == []
    assert sum(server.paid.values()) == PROMPTS
    finished = read_efforts(Tables(storage))[run_id(alone)]
    assert (finished.stage_starts, finished.open, finished.failed) == (1, 0, 0)


def test_lint_says_that_an_arm_is_its_own_baseline(server: JudgeServer) -> None:
    for baselines, words in ((("lima", "bard"), "itself"), (("lima",), "with nothing")):
        found = lint([comparing(server, baselines=baselines)])
        [said] = [f for f in found if f.path == "judge.baselines"]
        assert said.level == "note"
        assert said.message.endswith(words)
    assert not [f for f in lint([comparing(server)]) if f.path == "judge.baselines"]


def test_baselines_of_other_experiments_are_found(server: JudgeServer, storage: Storage) -> None:
    respond(storage, "gpt-4", 3, experiment="others")
    respond(storage, "alpaca", 3, experiment="others")
    assert len(run(comparing(server, baselines=("gpt-4",)), storage)) == 3
    assert len(run(comparing(server, baselines=("alpaca",)), storage)) == PROMPTS
    respond(storage, "gpt-4", 3, experiment="more")
    with pytest.raises(DataError, match="'gpt-4' has 2 runs"):
        run(comparing(server, baselines=("gpt-4",), max_tokens=9), storage)


def test_comparisons_are_no_scores(server: JudgeServer, storage: Storage) -> None:
    run(comparing(server, input_price=10.0), storage)
    [row] = [r for r in aggregate_rows(storage, ("arm",), note=print) if r["arm"] == "lima"]
    assert (row["score"], row["judged"], row["bound_low"]) == (None, None, None)
    assert row["cost"] == pytest.approx((2 * PROMPTS - 2) * 400 * 10 / 1e6)
    assert row["responses"] == PROMPTS
    assert stage_cell(comparing(server), "generate").judge is None
