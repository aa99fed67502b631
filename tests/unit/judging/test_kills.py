"""SIGKILL at any moment: nothing that is finished is paid for again, and no budget is passed."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lima.endpoints.journal import Journal
from lima.errors import EndpointError
from lima.judging.tasks import plan_shards, plan_tasks
from lima.runs.progress import read_progress
from lima.spec import CellSpec, DataSpec, GenerateSpec, JudgeSpec, Stage, stage_cell
from lima.spec.codec import run_id
from lima.spec.endpoints import EndpointSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, JUDGMENTS, Table
from lima_jobs.run import run_stage
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, running
from tests.helpers.processes.killed import finished_keys, kill_when
from tests.helpers.responses import asked_cell, likes_lima, respond, responded_cell

IN_FLIGHT = 2
ON_ITS_WAY = 3 * IN_FLIGHT
"""What a kill may lose: in flight, waiting to be written, and being written."""
DELAY_S = 0.02
VOLATILE = ("at", "seconds", "request_id")


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    with running() as endpoint:
        yield endpoint


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path / "study"))


def scored(storage: Storage, url: str) -> CellSpec:
    """Return a cell whose 50 responses are to be scored."""
    spec = JudgeSpec(base_url=url, shard_rows=25, concurrency=IN_FLIGHT)
    return responded_cell(storage, [f"Response {index}." for index in range(50)], spec)


def compared(storage: Storage, url: str) -> CellSpec:
    """Return a cell whose 15 responses are to be compared with two baselines, both ways round."""
    for arm in ("lima", "alpaca", "bard"):
        respond(storage, arm, 15)
    spec = JudgeSpec(
        base_url=url,
        rubric="preference",
        baselines=("alpaca", "bard"),
        both_orders=True,
        shard_rows=25,
        concurrency=IN_FLIGHT,
    )
    return CellSpec("study", "lima", generate=GenerateSpec(DataSpec("none")), judge=spec)


def asked(folder: Path, url: str) -> CellSpec:
    """Return a cell whose responses to 40 prompts come from an endpoint."""
    return asked_cell(folder, url, 40, EndpointSpec(concurrency=IN_FLIGHT))


def paid(server: JudgeServer) -> int:
    return sum(server.paid.values())


def rows_of(cell: CellSpec, stage: Stage, storage: Storage, table: Table) -> list[dict[str, Any]]:
    """Return the rows of a table, without what tells the time, in an order of their own."""
    rows = RunTable(storage, table, stage_cell(cell, stage)).read().to_pylist()
    told = [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]
    return sorted(told, key=lambda row: json.dumps(row, sort_keys=True, default=str))


def reply(request: Request) -> Reply:
    """Judge by what is to be judged, so that two runs can be told to be the same."""
    if "BEGIN RESPONSE A" in request.text:
        return replace(likes_lima(request), delay_s=DELAY_S)
    grade = sum(request.text.encode()) % 6 + 1
    return Reply(f"Fine.\n{grade}\n{grade}", delay_s=DELAY_S)


@pytest.mark.parametrize("make", [scored, compared])
@pytest.mark.parametrize("paid_before", [1, 24, 45])
def test_a_killed_judge_pays_for_nothing_twice(
    server: JudgeServer, storage: Storage, make: Any, paid_before: int
) -> None:
    server.answer = reply
    whole = Storage(f"{storage.uri}-whole")
    cell = make(whole, server.base_url)
    run_stage(cell, "judge", whole)
    server.paid.clear()

    make(storage, server.base_url)
    kill_when(lambda: paid(server) >= paid_before, cell, "judge", storage)
    finished = finished_keys(cell, "judge", storage, JUDGMENTS)
    before = paid(server)
    run_stage(cell, "judge", storage)

    tasks = plan_tasks(cell, storage)
    assert rows_of(cell, "judge", storage, JUDGMENTS) == rows_of(cell, "judge", whole, JUDGMENTS)
    assert set(server.paid) == {task.text for task in tasks}
    assert all(server.paid[task.text] == 1 for task in tasks if task.key in finished)
    assert before - len(finished) <= ON_ITS_WAY
    assert paid(server) - len(tasks) <= ON_ITS_WAY
    assert Journal(storage, run_id(cell)).load() == {}
    assert cell.judge
    names = {shard.name for shard in plan_shards(tasks, cell.judge.shard_rows, set())}
    assert set(RunTable(storage, JUDGMENTS, cell).shards()) == names


@pytest.mark.parametrize("paid_before", [1, 20, 37])
def test_a_killed_baseline_pays_for_nothing_twice(
    server: JudgeServer, storage: Storage, tmp_path: Path, paid_before: int
) -> None:
    server.answer = lambda r: Reply(f"It is {r.text[8:-1]}.", delay_s=DELAY_S)
    whole = Storage(f"{storage.uri}-whole")
    cell = asked(tmp_path, server.base_url)
    run_stage(cell, "generate", whole)
    server.paid.clear()

    kill_when(lambda: paid(server) >= paid_before, cell, "generate", storage)
    finished = finished_keys(cell, "generate", storage, GENERATIONS)
    before = paid(server)
    run_stage(cell, "generate", storage)

    rows = rows_of(cell, "generate", storage, GENERATIONS)
    assert rows == rows_of(cell, "generate", whole, GENERATIONS)
    asked_about = {row["generation_key"]: row["prompt"][-1] for row in rows}
    assert set(server.paid) == set(asked_about.values())
    assert all(server.paid[asked_about[key]] == 1 for key in finished)
    assert before - len(finished) <= ON_ITS_WAY
    assert paid(server) - len(rows) <= ON_ITS_WAY
    assert Journal(storage, run_id(cell)).load() == {}
    run_stage(cell, "generate", storage)
    assert paid(server) - len(rows) <= ON_ITS_WAY


PRICE = 0.05
"""What an answer of the test's server costs, US dollars: 50 tokens, which is also the most."""


def budgeted(cell: CellSpec, dollars: float) -> CellSpec:
    assert cell.judge
    judge = replace(cell.judge, input_price=1e-6, output_price=1000.0, max_tokens=50)
    return replace(cell, judge=replace(judge, budget=dollars))


def is_amid(server: JudgeServer, requests: int) -> bool:
    return len(server.requests) >= requests and server.in_flight == IN_FLIGHT


def test_no_budget_is_passed_across_kills(
    server: JudgeServer, storage: Storage, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = lambda _: Reply(delay_s=0.3)
    budget, kills = 1.0, 3
    cell = budgeted(scored(storage, server.base_url), budget)
    for _ in range(kills):
        # Killed while answers are under way that will be billed and never be seen.
        wanted = partial(is_amid, server, len(server.requests) + 3)
        kill_when(wanted, cell, "judge", storage)
    server.answer = lambda _: Reply()
    with pytest.raises(EndpointError, match="count as spent"):
        run_stage(cell, "judge", storage)
    lost = [message for message in caplog.messages if "whose answers were lost" in message]
    assert len(lost) == 1
    kept = len(finished_keys(cell, "judge", storage, JUDGMENTS))
    while server.in_flight:  # what was asked before the kills is answered to nobody
        time.sleep(0.01)
    assert kept < paid(server)
    assert paid(server) * PRICE <= budget + 1e-9
    # No more is left unspent than what the kills may have lost, and the next request.
    assert (kept + kills * (IN_FLIGHT * 2 + 1) + 1) * PRICE >= budget

    with pytest.raises(EndpointError, match="count as spent"):
        run_stage(cell, "judge", storage)  # nothing is asked by trying again
    assert kept == len(finished_keys(cell, "judge", storage, JUDGMENTS))
    run_stage(budgeted(cell, 10.0), "judge", storage)
    assert len(rows_of(cell, "judge", storage, JUDGMENTS)) == 50


def test_a_baseline_that_is_refused_says_how_far_it_came(
    server: JudgeServer, storage: Storage, tmp_path: Path
) -> None:
    """All its answers come within the second in which one record is written."""
    server.answer = lambda request: Reply("Yes.") if request.number < 9 else error(401)
    cell = asked(tmp_path, server.base_url)
    with pytest.raises(EndpointError, match="refuses the key"):
        run_stage(cell, "generate", storage)
    kept = len(rows_of(cell, "generate", storage, GENERATIONS))
    record = read_progress(storage, run_id(cell, "generate"))
    assert record
    assert (record["done"], record["total"]) == (kept, 40)
    assert kept >= 9 - IN_FLIGHT
