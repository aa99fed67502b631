"""Judging a cell: rows, resume, and that nothing is paid for twice."""

import json
import re
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.endpoints.attempt import Attempt
from lima.endpoints.journal import Journal
from lima.errors import DataError, EndpointError, InputError, Interrupted, LimaError, SpecError
from lima.judging.likert import RUBRIC_HASH
from lima.judging.tasks import plan_tasks
from lima.runs.progress import Progress, read_progress
from lima.runs.stop import request_stop, stop_file
from lima.spec import CellSpec, JudgeSpec, stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable, identity
from lima.store.storage import Storage
from lima.store.tables import JUDGMENTS
from lima_jobs.judge import run_judge
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, running, server
from tests.helpers.processes.killed import finished_keys
from tests.helpers.responses import TOO_LONG, responded_cell

__all__ = ["server"]

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "study"))


def responses(count: int) -> list[str]:
    return [f"Response {index}." for index in range(count)]


def index_of(text: str) -> int:
    """Return which response a request is about."""
    found = re.search(r"Response (\d+)\.", text)
    assert found
    return int(found[1])


def judge(cell: CellSpec, storage: Storage) -> list[dict[str, Any]]:
    """Judge a cell; return its rows."""
    run_judge(cell, storage, Progress(storage, run_id(cell)))
    return rows_of(cell, storage)


def rows_of(cell: CellSpec, storage: Storage) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = RunTable(storage, JUDGMENTS, cell).read().to_pylist()
    return rows


def journalled(cell: CellSpec, storage: Storage) -> set[str]:
    return set(Journal(storage, run_id(cell)).load())


def paid_attempts(cell: CellSpec, storage: Storage) -> int:
    """Return how many answers are kept, in rows or in the journal."""
    rows = rows_of(cell, storage)
    written = {row["judgment_key"] for row in rows}
    kept = Journal(storage, run_id(cell)).load()
    statuses = [row["status"] for row in rows]
    statuses += [a.status for key in kept.keys() - written for a in kept[key]]
    return sum(status != "api_error" for status in statuses)


def test_every_response_gets_a_row(server: JudgeServer, storage: Storage) -> None:
    server.answer = lambda request: Reply(f"Fine.\n{index_of(request.text) % 6 + 1}\n" * 2)
    spec = JudgeSpec(
        base_url=server.base_url, model="judge", shard_rows=4, input_price=10, output_price=100
    )
    cell = responded_cell(storage, responses(10), spec)
    rows = judge(cell, storage)
    assert [row["score"] for row in rows] == [index % 6 + 1 for index in range(10)]
    tasks = plan_tasks(cell, storage)
    assert [row["judgment_key"] for row in rows] == [task.key for task in tasks]
    for row, task in zip(rows, tasks, strict=True):
        assert row.items() >= identity(cell).items()
        assert (row["generation_key"], row["prompt_key"]) == (task.generation_key, task.prompt_key)
        assert (row["attempt"], row["final"], row["status"]) == (1, True, "ok")
        assert (row["judge"], row["judge_version"]) == ("judge", "judge-0125")
        assert (row["rubric"], row["rubric_hash"]) == ("likert-6", RUBRIC_HASH)
        assert row["cost"] == pytest.approx((400 * 10 + 50 * 100) / 1e6)
    assert len(RunTable(storage, JUDGMENTS, cell).shards()) == 3
    assert journalled(cell, storage) == set()
    progress = read_progress(storage, run_id(cell))
    assert progress
    assert (progress["stage"], progress["done"], progress["total"]) == ("judge", 10, 10)
    assert progress["figures"] == {"failed": 0, "cost": 0.09}


def test_a_finished_run_asks_nothing(
    server: JudgeServer, storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = responded_cell(storage, responses(5), JudgeSpec(base_url=server.base_url, shard_rows=2))
    rows = judge(cell, storage)
    monkeypatch.delenv("OPENAI_API_KEY")
    assert judge(cell, storage) == rows
    assert len(server.requests) == 5


def test_failed_attempts_are_rows(server: JudgeServer, storage: Storage) -> None:
    def answer(request: Request) -> Reply:
        return {1: Reply("Hm."), 2: error(500)}.get(index_of(request.text), Reply())

    server.answer = answer
    cell = responded_cell(storage, responses(4), JudgeSpec(base_url=server.base_url, attempts=3))
    rows = judge(cell, storage)
    assert [(r["attempt"], r["final"], r["status"], r["score"]) for r in rows] == [
        (1, True, "ok", 5.0),
        (1, False, "parse_fail", None),
        (2, False, "parse_fail", None),
        (3, True, "parse_fail", None),
        (1, False, "api_error", None),
        (2, False, "api_error", None),
        (3, True, "api_error", None),
        (1, True, "ok", 5.0),
    ]
    assert rows[1]["verdict"] == "Hm."
    assert judge(cell, storage) == rows  # a failure is final in its run
    progress = read_progress(storage, run_id(cell))
    assert progress
    assert progress["figures"]["failed"] == 2


def test_what_is_judged(server: JudgeServer, storage: Storage) -> None:
    cell = responded_cell(
        storage, ["Response 0.", "", TOO_LONG], JudgeSpec(base_url=server.base_url)
    )
    assert [row["status"] for row in judge(cell, storage)] == ["ok", "ok"]


def test_nothing_to_judge(storage: Storage) -> None:
    cell = responded_cell(storage, [TOO_LONG], JudgeSpec(base_url="https://8.8.8.8/v1"))
    assert judge(cell, storage) == []
    missing = responded_cell(Storage(storage.uri + "-other"), ["x"], JudgeSpec(max_tokens=5))
    with pytest.raises(DataError, match="generate first"):
        judge(missing, Storage(storage.uri + "-empty"))
    with pytest.raises(SpecError, match="no stage judge"):
        judge(stage_cell(cell, "generate"), storage)


def test_without_a_key_nothing_is_asked(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    cell = responded_cell(storage, responses(2), JudgeSpec(base_url="https://8.8.8.8/v1"))
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        judge(cell, storage)


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refused_run_writes_nothing(server: JudgeServer, storage: Storage, status: int) -> None:
    server.answer = lambda _: error(status)
    cell = responded_cell(storage, responses(30), JudgeSpec(base_url=server.base_url))
    with pytest.raises(EndpointError):
        judge(cell, storage)
    assert rows_of(cell, storage) == []
    assert journalled(cell, storage) == set()


@pytest.mark.parametrize("forbidden", [0, 11])
def test_a_text_that_a_firewall_forbids_is_one_failure(
    server: JudgeServer, storage: Storage, forbidden: int
) -> None:
    """A key that was answered is a good one."""

    def answer(request: Request) -> Reply:
        if f"response {forbidden:02d}" in request.text.casefold():
            blocked = "<html>You have been blocked</html>"
            return Reply(status=403, raw=blocked, delay_s=0.5)  # after others were answered
        return Reply()

    server.answer = answer
    texts = [f"Response {n:02d}." for n in range(12)]
    cell = responded_cell(storage, texts, JudgeSpec(base_url=server.base_url, concurrency=4))
    judge(cell, storage)
    assert Counter(row["status"] for row in rows_of(cell, storage)) == {"ok": 11, "api_error": 1}


def test_a_text_that_is_forbidden_ends_no_run_that_goes_on(
    server: JudgeServer, storage: Storage
) -> None:
    cell = responded_cell(storage, responses(2), JudgeSpec(base_url=server.base_url, concurrency=1))
    server.answer = lambda request: Reply() if request.number == 1 else error(401)
    with pytest.raises(EndpointError, match="refuses the key"):
        judge(cell, storage)
    server.answer = lambda _: error(403)
    judge(cell, storage)
    assert Counter(row["status"] for row in rows_of(cell, storage)) == {"ok": 1, "api_error": 1}


@pytest.mark.parametrize("count", [5, 40])
def test_another_key_that_is_refused_loses_nothing(
    server: JudgeServer, storage: Storage, count: int
) -> None:
    """It is not the one that was answered before: what is left is asked about again."""
    cell = responded_cell(storage, responses(count), JudgeSpec(base_url=server.base_url))
    server.answer = lambda request: Reply() if request.number <= 2 else error(401)
    with pytest.raises(EndpointError, match="refuses the key"):
        judge(cell, storage)
    server.answer = lambda _: error(403)
    with pytest.raises(EndpointError, match="refuses the key"):
        judge(cell, storage)
    server.answer = lambda _: Reply()
    judge(cell, storage)
    assert Counter(row["status"] for row in rows_of(cell, storage)) == {"ok": count}


@pytest.mark.parametrize("count", [3, 60])
def test_an_endpoint_that_is_gone_fills_no_table(storage: Storage, count: int) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
        cell = responded_cell(storage, responses(count), JudgeSpec(base_url=url))
        with pytest.raises(EndpointError, match="answered none of"):
            judge(cell, storage)
    assert rows_of(cell, storage) == []
    assert journalled(cell, storage) == set()


def test_an_endpoint_that_goes_and_comes_back(server: JudgeServer, storage: Storage) -> None:
    spec = JudgeSpec(base_url=server.base_url, shard_rows=7, concurrency=1)
    cell = responded_cell(storage, responses(60), spec)
    server.answer = lambda request: Reply() if request.number <= 30 else error(502)
    with pytest.raises(EndpointError, match="answered none of"):
        judge(cell, storage)
    kept = rows_of(cell, storage)
    assert len(kept) + len(journalled(cell, storage)) == 30
    server.answer = lambda _: Reply()
    rows = judge(cell, storage)
    assert [row["status"] for row in rows] == ["ok"] * 60
    assert [row for row in rows if row in kept] == kept
    assert set(server.paid.values()) == {1}
    assert sum(server.paid.values()) == 60


def test_what_could_not_be_sent_has_no_row(server: JudgeServer, storage: Storage) -> None:
    """Fewer than would tell that the endpoint is gone: nothing was learnt about them either."""

    def answer(request: Request) -> Reply:
        if request.number == 6:
            server.vanish()
        return Reply()

    server.answer = answer
    spec = JudgeSpec(base_url=server.base_url, concurrency=1, attempts=2, shard_rows=2)
    cell = responded_cell(storage, responses(8), spec)
    with pytest.raises(EndpointError, match=r"3 of 8 responses could not be sent .*no connection"):
        judge(cell, storage)
    kept = finished_keys(cell, "judge", storage, JUDGMENTS)
    assert [row["status"] for row in rows_of(cell, storage)] == ["ok"] * 4
    with running(port=server.port) as back:
        rows = judge(cell, storage)
    assert [row["status"] for row in rows if row["final"]] == ["ok"] * 8
    [lost] = [row["error"] for row in rows if not row["final"]]  # the only one that was sent
    assert str(lost).startswith("the answer was lost")
    assert len(back.requests) == 3
    assert len(kept) == 6  # with the one that was begun


def test_a_stop_on_request_keeps_what_was_paid_for(server: JudgeServer, storage: Storage) -> None:
    def answer(request: Request) -> Reply:
        if request.number == 10:
            request_stop()
        return Reply(delay_s=0.02)

    server.answer = answer
    spec = JudgeSpec(base_url=server.base_url, concurrency=4)
    cell = responded_cell(storage, responses(40), spec)
    with pytest.raises(Interrupted):
        judge(cell, storage)
    assert 10 <= len(server.requests) < 40
    assert len(journalled(cell, storage)) == len(server.requests)
    stop_file().unlink()
    assert len(judge(cell, storage)) == 40
    assert sum(server.paid.values()) == 40


def test_a_stop_ends_a_long_pause(server: JudgeServer, storage: Storage) -> None:
    def answer(_: Request) -> Reply:
        request_stop()
        return error(429, retry_after="500")

    server.answer = answer
    with pytest.raises(Interrupted):
        judge(responded_cell(storage, responses(5), JudgeSpec(base_url=server.base_url)), storage)


def hesitant(seen: Counter[str]) -> Callable[[Request], Reply]:
    """Return a judge whose first answer to each text has no grade."""

    def answer(request: Request) -> Reply:
        seen[request.text] += 1
        return Reply("Hm." if seen[request.text] == 1 else Reply().content)

    return answer


PRICES: dict[str, Any] = {"input_price": 10.0, "output_price": 10.0, "max_tokens": 100}
ENDS: dict[str, tuple[type[LimaError], dict[str, Any]]] = {
    "a stop": (Interrupted, {}),
    "a refused key": (EndpointError, {}),
    "a budget": (EndpointError, {"budget": 0.25}),
}


@pytest.mark.parametrize("end", ENDS)
def test_answers_between_two_tries_are_kept(
    server: JudgeServer, storage: Storage, end: str
) -> None:
    error_type, changes = ENDS[end]
    judging = hesitant(Counter())

    def answer(request: Request) -> Reply:
        if request.number == 30:
            if end == "a stop":
                request_stop()
            elif end == "a refused key":
                return error(401)
        return judging(request)

    server.answer = answer
    spec = JudgeSpec(base_url=server.base_url, concurrency=4, shard_rows=8, **PRICES | changes)
    cell = responded_cell(storage, responses(40), spec)
    with pytest.raises(error_type):
        judge(cell, storage)
    paid = sum(server.paid.values())
    assert 0 < paid_attempts(cell, storage) == paid < 80
    progress = read_progress(storage, run_id(cell))
    assert progress
    assert progress["figures"]["cost"] == round(paid * 450 * 10 / 1e6, 6)

    stop_file().unlink(missing_ok=True)
    assert cell.judge
    rows = judge(replace(cell, judge=replace(cell.judge, budget=None)), storage)
    assert [(r["attempt"], r["status"]) for r in rows] == [(1, "parse_fail"), (2, "ok")] * 40
    assert set(server.paid.values()) == {2}


def test_a_judge_with_a_budget_comes_to_an_end(server: JudgeServer, storage: Storage) -> None:
    server.answer = hesitant(Counter())
    spec = JudgeSpec(base_url=server.base_url, concurrency=4, budget=0.1, **PRICES)
    with pytest.raises(EndpointError, match=r"could pass the budget of 0\.1 \(0\.08"):
        judge(responded_cell(storage, responses(40), spec), storage)
    assert sum(server.paid.values()) * 450 * 10 / 1e6 <= 0.1


def test_answers_in_flight_are_kept_when_the_run_ends(
    server: JudgeServer, storage: Storage
) -> None:
    server.answer = lambda r: error(401) if r.number == 10 else Reply(delay_s=0.1)
    cell = responded_cell(storage, responses(40), JudgeSpec(base_url=server.base_url))
    with pytest.raises(EndpointError, match="refuses the key"):
        judge(cell, storage)
    assert sum(server.paid.values()) == 15  # of 16 in flight
    assert len(journalled(cell, storage)) == 15


def test_a_kill_between_shard_and_journal(server: JudgeServer, storage: Storage) -> None:
    cell = responded_cell(storage, responses(3), JudgeSpec(base_url=server.base_url))
    rows = judge(cell, storage)
    Journal(storage, run_id(cell)).save({rows[0]["judgment_key"]: [Attempt("ok", score=5.0)]})
    assert judge(cell, storage) == rows
    assert journalled(cell, storage) == set()


def test_a_full_journal_needs_no_endpoint(server: JudgeServer, storage: Storage) -> None:
    cell = responded_cell(storage, responses(6), JudgeSpec(base_url=server.base_url, shard_rows=4))
    attempts = [Attempt("truncated", error="long"), Attempt("ok", score=3.0, completion_tokens=9)]
    for task in plan_tasks(cell, storage):
        Journal(storage, run_id(cell)).save({task.key: attempts})
    rows = judge(cell, storage)
    assert server.requests == []
    assert [(row["status"], row["score"]) for row in rows] == [("truncated", None), ("ok", 3.0)] * 6
    assert [row["at"] for row in rows] == [attempt.at for attempt in attempts] * 6
    assert journalled(cell, storage) == set()


def test_a_damaged_journal_entry_is_named(server: JudgeServer, storage: Storage) -> None:
    cell = responded_cell(storage, responses(2), JudgeSpec(base_url=server.base_url))
    path = f"journal/run_id={run_id(cell)}/0123456789abcdef.json"
    storage.write(path, b'{"key": [{"status": "ok", "score"')
    with pytest.raises(DataError, match=path):
        judge(cell, storage)
    storage.delete(path)
    assert len(judge(cell, storage)) == 2


def test_responses_that_came_later_are_judged_once(server: JudgeServer, storage: Storage) -> None:
    spec = JudgeSpec(base_url=server.base_url, shard_rows=4)
    early = judge(responded_cell(storage, responses(6), spec), storage)
    cell = responded_cell(storage, responses(12)[6:], spec, first=6)
    rows = judge(cell, storage)
    assert len({row["judgment_key"] for row in rows}) == len(rows) == 12
    assert all(row in rows for row in early)
    assert sum(server.paid.values()) == 12


def test_the_key_is_stored_nowhere(server: JudgeServer, storage: Storage) -> None:
    server.answer = lambda request: error(500, KEY) if request.number % 2 else Reply()
    cell = responded_cell(storage, responses(12), JudgeSpec(base_url=server.base_url))
    assert len(judge(cell, storage)) > 12
    for entry in storage.entries(""):
        assert KEY.encode() not in storage.read(entry.path)
    table = RunTable(storage, JUDGMENTS, cell)
    assert any("***" in str(row["error"]) for row in table.read(["error"]).to_pylist())
    assert KEY not in json.dumps(table.read().to_pylist(), default=str)


def test_requests_are_rows_and_not_lines_of_a_log(
    server: JudgeServer, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = lambda request: Reply("Hm.") if request.number % 2 else Reply()
    cell = responded_cell(storage, responses(4), JudgeSpec(base_url=server.base_url))
    with caplog.at_level("INFO"):
        judge(cell, storage)
    assert caplog.messages == []
    server.answer = lambda _: Reply("Hm.")
    other = responded_cell(storage, responses(4), JudgeSpec(base_url=server.base_url, attempts=1))
    judge(other, storage)
    [said] = caplog.messages
    assert said.startswith("4 of 4 responses stay unscored (4 parse_fail)")
