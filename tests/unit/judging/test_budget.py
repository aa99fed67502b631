"""What counts as spent, and what is on storage before it is."""

import asyncio
import random
import socket
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from lima.common.money import ZERO
from lima.common.variables import STOP_FILE
from lima.endpoints import client
from lima.endpoints.attempt import Attempt
from lima.errors import DataError, EndpointError, Interrupted, StorageError
from lima.judging.budget import Budget
from lima.judging.judge import Judge
from lima.judging.spending import Spending
from lima.runs.stop import request_stop
from lima.spec import JudgeSpec
from lima.store.storage import Storage
from tests.helpers.judge_server import JudgeServer, Reply, error, server

__all__ = ["server"]

ANSWER = 0.05
"""US dollars for the answer of the test's server: 50 tokens of at most 100."""
MOST = 0.1


def priced(url: str, budget: float | None = 10.0, **changes: float | int) -> JudgeSpec:
    return JudgeSpec(
        base_url=url,
        input_price=1e-9,
        output_price=1000.0,
        max_tokens=100,
        budget=budget,
        attempts=1,
        **changes,  # type: ignore[arg-type]
    )


def ask(spec: JudgeSpec, budget: Budget, times: int = 1) -> list[list[Attempt]]:
    async def gather() -> list[list[Attempt]]:
        async with Judge(spec, budget) as judge:
            return await asyncio.gather(*[judge.ask(f"Text {i}") for i in range(times)])

    return asyncio.run(gather())


COSTS = {
    "an answer": (Reply(), ANSWER),
    "an answer that cannot be read": (Reply("Hm."), ANSWER),
    "a refused request": (error(400), 0.0),
    "a request that was turned away": (error(503), 0.0),
    "an error that may hide an answer": (error(500), MOST),
    "a gateway that gave up": (error(504), MOST),
    "a lost connection": (Reply(close=True), MOST),
    "no completion": (Reply(raw="{}"), MOST),
    "an answer that does not tell its tokens": (
        Reply(raw='{"choices": [{"message": {"content": "5\\n5"}}]}'),
        MOST,
    ),
    "an answer that came too late": (Reply(delay_s=3600), MOST),
}


@pytest.mark.parametrize("name", COSTS)
def test_what_may_have_been_billed_counts(server: JudgeServer, name: str) -> None:
    reply, dollars = COSTS[name]
    server.answer = lambda _: reply
    spec = priced(server.base_url, timeout_s=0.3 if reply.delay_s else 60)
    budget = Budget(spec)
    ask(spec, budget)
    assert float(budget.spent) == pytest.approx(dollars, abs=1e-6)


def test_what_could_not_be_sent_is_free() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        spec = priced(f"http://127.0.0.1:{unused.getsockname()[1]}/v1")
        budget = Budget(spec)
        [[attempt]] = ask(spec, budget)
    assert not attempt.sent
    assert "no connection" in str(attempt.error)
    assert budget.spent == 0


@pytest.mark.parametrize("limit", [10.0, None])
def test_it_is_on_storage_before_it_is_spent(
    server: JudgeServer, tmp_path: Path, limit: float | None
) -> None:
    storage = Storage(str(tmp_path))
    seen: list[Decimal] = []

    def answer(_: object) -> Reply:
        seen.append(Spending(storage, "run").before())
        return Reply()

    server.answer = answer
    spec = priced(server.base_url, limit, concurrency=4)
    own = Spending(storage, "run")

    async def keep(dollars: Decimal) -> None:
        await asyncio.to_thread(own.keep, dollars)

    ask(spec, Budget(spec, ZERO, keep), times=20)
    for number, kept in enumerate(sorted(seen)):
        assert kept >= MOST + max(0, number + 1 - 4) * ANSWER - 1e-6
    assert float(Spending(storage, "run").before()) == pytest.approx(20 * ANSWER, abs=1e-6)


def test_attempts_add_up_and_the_limit_holds(server: JudgeServer, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for dollars in ("0.5", "0.2"):
        Spending(storage, "run").keep(Decimal(dollars))
    before = Spending(storage, "run").before()
    assert before == Decimal("0.7")
    spec = priced(server.base_url, 1.0)
    with pytest.raises(EndpointError, match=r"0\.9\d+ count as spent"):
        ask(spec, Budget(spec, before), times=9)
    assert float(before) + sum(server.paid.values()) * ANSWER <= 1.0


@pytest.mark.parametrize("seed", range(20))
def test_whoever_waits_for_room_gets_in_or_is_told(seed: int) -> None:
    """Amounts that binary floats cannot add up to nothing again."""
    spec = priced("http://127.0.0.1:1/v1", budget=0.3, concurrency=4)
    budget, chance, asked = Budget(spec), random.Random(seed), Counter[str]()

    async def work() -> None:
        for _ in range(10):
            async with budget.room_for("x" * chance.randrange(99)) as made:
                await asyncio.sleep(0)
                paid = chance.randrange(1, 60)
                made.append(Attempt("ok", prompt_tokens=paid, completion_tokens=paid))
                asked["paid"] += paid

    async def all_at_once() -> list[BaseException | None]:
        return await asyncio.gather(*[work() for _ in range(4)], return_exceptions=True)

    ends = asyncio.run(all_at_once())
    assert all(isinstance(end, EndpointError) for end in ends)
    assert budget.in_flight == 0
    exactly = asked["paid"] * (Decimal(1000) + Decimal("1e-9")) / 10**6
    assert budget.spent == exactly <= Decimal("0.3")


def in_line(url: str, what: str) -> JudgeSpec:
    """Return a judge that can be asked one thing at a time, for one reason or another."""
    if what == "the budget's room":
        return priced(url, budget=MOST * 1.5, timeout_s=3600)
    if what == "a place among those in flight":
        return JudgeSpec(base_url=url, concurrency=1, timeout_s=3600)
    return JudgeSpec(base_url=url, timeout_s=3600)


@pytest.mark.parametrize(
    "what", ["the budget's room", "a place among those in flight", "the next try"]
)
def test_whoever_waits_hears_a_stop(
    server: JudgeServer, what: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
    monkeypatch.setattr(client, "BACKOFF_S", 3600.0)
    monkeypatch.setattr(client, "BACKOFF_MAX_S", 3600.0)
    server.answer = lambda r: error(500) if what == "the next try" else Reply(delay_s=3600)

    async def ask() -> None:
        async with Judge(in_line(server.base_url, what)) as judge:
            first = asyncio.create_task(judge.ask("Text 0"))
            while not server.requests:
                await asyncio.sleep(0.01)
            second = asyncio.create_task(judge.ask("Text 1"))
            await asyncio.sleep(0)
            request_stop()
            with pytest.raises(Interrupted):
                await second
            assert first.done() == (what == "the next try")
            first.cancel()

    asyncio.run(ask())


def test_nothing_is_sent_that_could_not_be_kept(server: JudgeServer) -> None:
    async def keep(_: Decimal) -> None:
        raise StorageError("the disk is full")

    spec = priced(server.base_url)
    with pytest.raises(StorageError, match="full"):
        ask(spec, Budget(spec, ZERO, keep))
    assert server.requests == []


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write("spending/run_id=run/a.json", b'{"dollars": "many"}')
    with pytest.raises(DataError, match=r"spending/run_id=run/a\.json"):
        Spending(storage, "run").before()
