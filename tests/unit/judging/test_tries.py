"""Tries without an answer: they count after a stop, and what a run warns of reaches people."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.endpoints.journal import Journal
from lima.endpoints.ratelimit import LOOK_AGAIN_S
from lima.errors import EndpointError, Interrupted
from lima.judging.spending import Spending
from lima.runs.done import mark_done
from lima.runs.ledger import record_run
from lima.runs.progress import Progress, read_progress
from lima.runs.stop import request_stop, stop_file
from lima.spec import CellSpec, JudgeSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS
from lima_jobs.judge import run_judge
from lima_k8s.local.display import CellState, display
from lima_k8s.main import run as command
from tests.helpers.judge_server import (
    JudgeServer,
    Reply,
    Request,
    error,
    running,
    server,
)
from tests.helpers.responses import responded_cell

__all__ = ["server"]

COUNT, ATTEMPTS = 6, 4
SILENT = '{"choices": [{"message": {"content": "Good.\\n5\\n5"}}]}'
"""A verdict that does not tell its tokens."""


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "study"))


def judge(cell: CellSpec, storage: Storage) -> list[dict[str, Any]]:
    record_run(storage, cell, "judge")
    run_judge(cell, storage, Progress(storage, run_id(cell)))
    rows: list[dict[str, Any]] = RunTable(storage, JUDGMENTS, cell).read().to_pylist()
    return rows


def cell_of(storage: Storage, url: str, **settings: Any) -> CellSpec:
    spec = JudgeSpec(base_url=url, **{"attempts": ATTEMPTS, **settings})
    return responded_cell(storage, [f"Response {i}." for i in range(COUNT)], spec)


def tries(rows: list[dict[str, Any]]) -> Counter[tuple[int, str]]:
    return Counter((row["attempt"], row["status"]) for row in rows)


FAILURES: dict[str, Callable[[], Reply]] = {
    "an error": lambda: error(500),
    "a broken connection": lambda: Reply(close=True),
    "no answer in time": lambda: Reply(delay_s=3600),
}


@pytest.mark.parametrize("name", FAILURES)
@pytest.mark.parametrize("answers_first", [True, False])
def test_tries_without_an_answer_count_after_a_stop(
    server: JudgeServer, storage: Storage, name: str, answers_first: bool
) -> None:
    failed: Counter[str] = Counter()

    def answer(request: Request) -> Reply:
        if answers_first and request.number == 1:
            return Reply()
        failed[request.text] += 1
        if sum(failed.values()) == COUNT:
            request_stop()
        return FAILURES[name]()

    server.answer = answer
    prices = {"input_price": 10.0, "output_price": 10.0, "max_tokens": 100}
    # More attempts than there is time for until a stop is heard.
    asked = {"concurrency": 3, "timeout_s": 0.3, "attempts": 20}
    cell = cell_of(storage, server.base_url, **asked, **prices)
    with pytest.raises(Interrupted):
        judge(cell, storage)
    assert sum(failed.values()) >= COUNT
    spent = Spending(storage, run_id(cell)).before()
    assert spent > 0  # each may have been billed

    stop_file().unlink()
    server.answer = lambda _: Reply()
    rows = judge(cell, storage)
    assert sum(row["status"] == "api_error" for row in rows) == sum(failed.values())
    wanted = Counter({(1, "ok"): COUNT - len(failed)})
    for number in failed.values():
        wanted.update([(n, "api_error") for n in range(1, number + 1)])
        wanted.update([(number + 1, "ok")])
    assert tries(rows) == +wanted
    assert len(server.requests) == len(rows)
    assert Journal(storage, run_id(cell)).load() == {}


def test_a_response_whose_tries_are_used_up_stays_unscored(
    server: JudgeServer, storage: Storage
) -> None:
    """As it would in a run that was not stopped, since the judge answers others."""

    def answer(request: Request) -> Reply:
        if "Response 2." not in request.text:
            return Reply()
        if request.number < 2 + ATTEMPTS:
            return error(502)
        request_stop()
        return replace(error(502), delay_s=2 * LOOK_AGAIN_S)

    server.answer = answer
    cell = cell_of(storage, server.base_url, concurrency=1)
    with pytest.raises(Interrupted):
        judge(cell, storage)
    stop_file().unlink()
    rows = judge(cell, storage)
    assert tries(rows) == Counter(
        {(1, "ok"): COUNT - 1, **{(n + 1, "api_error"): 1 for n in range(ATTEMPTS)}}
    )
    assert len(server.requests) == len(rows)


def test_tries_that_were_sent_count_where_the_last_found_no_connection(
    server: JudgeServer, storage: Storage
) -> None:
    last = Reply(raw="HTTP/1.1 500 X\r\ncontent-length: 2\r\n\r\n{}", bare=True, close=True)

    def answer(request: Request) -> Reply:
        if request.number < COUNT:
            return Reply()
        if request.number < COUNT + 2:
            return error(500)
        server.shut()
        return last

    server.answer = answer
    cell = cell_of(storage, server.base_url, concurrency=1)
    with pytest.raises(EndpointError, match=r"1 of 6 responses could not be sent .*no connection"):
        judge(cell, storage)
    assert len(server.requests) == COUNT - 1 + 3
    with running(lambda _: error(500), server.port) as back:
        rows = judge(cell, storage)
    assert tries(rows) == Counter(
        {(1, "ok"): COUNT - 1, **{(n + 1, "api_error"): 1 for n in range(ATTEMPTS)}}
    )
    assert len(back.requests) == ATTEMPTS - 3


def test_a_judge_that_never_answered_is_asked_again(server: JudgeServer, storage: Storage) -> None:
    """Else a wrong address, stopped by hand, would leave responses unscored for good."""

    def answer(request: Request) -> Reply:
        if request.number == ATTEMPTS:
            request_stop()
        return error(502)

    server.answer = answer
    cell = cell_of(storage, server.base_url, concurrency=1)
    with pytest.raises(Interrupted):
        judge(cell, storage)
    stop_file().unlink()
    server.answer = lambda _: Reply()
    assert {row["status"] for row in judge(cell, storage) if row["final"]} == {"ok"}


def test_what_is_gone_leaves_no_tries(server: JudgeServer, storage: Storage) -> None:
    server.answer = lambda _: error(502)
    cell = cell_of(storage, server.base_url, concurrency=2)
    with pytest.raises(EndpointError, match="answered none of 6 responses in a row"):
        judge(cell, storage)
    assert Journal(storage, run_id(cell)).load() == {}


def test_failed_judgments_are_told_on_the_terminal_and_by_status(
    server: JudgeServer, storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda request: {
        "Response 0.": Reply("Hm."),
        "Response 1.": error(500),
    }.get(next(t for t in (f"Response {i}." for i in range(COUNT)) if t in request.text), Reply())
    cell = cell_of(storage, server.base_url)
    judge(cell, storage)
    why = "2 of 6 responses stay unscored (1 parse_fail, 1 api_error)"
    live = read_progress(storage, run_id(cell))
    assert live
    assert (live["figures"]["parse_fail"], live["figures"]["api_error"]) == (1, 1)
    mark_done(storage, cell)
    mark_done(storage, cell)
    record = read_progress(storage, run_id(cell))
    assert record
    with display() as show:
        for _ in range(2):
            show([CellState(run_id(cell), "tests seed 0", record)])
    said = capsys.readouterr().err
    assert "done  2 of 6 responses unscored (1 parse_fail, 1 api_error)" in said
    assert said.count(f"tests seed 0: warning: {why}; the column error of judgments") == 1
    assert command(["status", "--storage", storage.uri]) == 0
    told = capsys.readouterr()
    assert "2 of 6 responses unscored (1 parse_fail, 1 api_error)" in told.out
    assert f"warning: {why}" in told.err


@pytest.mark.parametrize("budget", [None, 1.0])
def test_a_cost_that_is_not_told_is_not_nothing(
    server: JudgeServer, storage: Storage, budget: float | None, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda _: Reply(raw=SILENT)
    prices = {"input_price": 10.0, "output_price": 10.0, "max_tokens": 100}
    cell = cell_of(storage, server.base_url, budget=budget, **prices)
    rows = judge(cell, storage)
    assert {(row["status"], row["cost"]) for row in rows} == {("ok", None)}
    record = read_progress(storage, run_id(cell))
    assert record
    assert record["figures"]["answers_of_unknown_cost"] == COUNT
    [warning] = record["warnings"]
    assert "does not tell the tokens of all its answers: what these cost is not known" in warning
    assert ("for judge.budget they were as long as they may be" in warning) == (budget is not None)
    assert command(["aggregate", storage.uri]) == 0
    assert re.search(r" \? *$", capsys.readouterr().out, re.MULTILINE)


def test_without_prices_nothing_costs_anything(server: JudgeServer, storage: Storage) -> None:
    server.answer = lambda _: Reply(raw=SILENT)
    cell = cell_of(storage, server.base_url)
    assert {row["cost"] for row in judge(cell, storage)} == {0.0}
    record = read_progress(storage, run_id(cell))
    assert record
    assert "warnings" not in record
