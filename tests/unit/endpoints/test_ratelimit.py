"""How fast a judge is asked: requests in flight, rate limits, pauses and the gate."""

import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from lima.endpoints import client, ratelimit
from lima.endpoints.ratelimit import Gate, asked_pause
from lima.errors import EndpointError
from lima.judging.judge import judge_peer
from lima.spec import JudgeSpec
from tests.helpers.judge_server import JudgeServer, Reply, Request, error, replies, server
from tests.helpers.scoring import score

__all__ = ["server"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")


def test_no_more_requests_in_flight_than_allowed(server: JudgeServer) -> None:
    server.answer = replies(Reply(delay_s=0.02))
    score(JudgeSpec(base_url=server.base_url, concurrency=3), *map(str, range(20)))
    assert server.most_in_flight == 3


def test_a_rate_limit_costs_no_attempt(server: JudgeServer) -> None:
    limited = error(429, retry_after_ms="5")
    server.answer = replies(limited, limited, limited, Reply())
    [attempts] = score(JudgeSpec(base_url=server.base_url, attempts=1), "Because.")
    assert [a.http_status for a in attempts] == [429, 429, 429, 200]
    assert [a.status for a in attempts] == ["api_error"] * 3 + ["ok"]


PAUSES = {
    "429 with retry-after-ms": error(429, retry_after_ms="500"),
    "429 with retry-after": error(429, retry_after="0.5"),
    "503 with retry-after": error(503, retry_after="0.5"),
    "no requests remain": Reply(
        headers={"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "500ms"}
    ),
    "no tokens remain": Reply(
        headers={"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "0.5s"}
    ),
}


@pytest.mark.parametrize("name", PAUSES)
def test_all_wait_while_the_endpoint_asks_for_a_pause(server: JudgeServer, name: str) -> None:
    times: list[float] = []

    def answer(request: Request) -> Reply:
        times.append(time.monotonic())
        return PAUSES[name] if request.number == 1 else Reply()

    server.answer = answer
    spec = JudgeSpec(base_url=server.base_url, concurrency=1)
    attempts = score(spec, *map(str, range(6)))
    assert all(tries[-1].score == 5 for tries in attempts)
    assert times[1] - times[0] > 0.45
    assert len(server.requests) == (6 if PAUSES[name].paid else 7)


def test_a_strict_limit_is_kept_by_many_workers(server: JudgeServer) -> None:
    # Three requests in a window; refused ones count too, as they do at some providers.
    window = {"ends": 0.0, "left": 0.0}

    def answer(request: Request) -> Reply:
        now = time.monotonic()
        if now > window["ends"]:
            window.update(ends=now + 0.1, left=3)
        window["left"] -= 1
        wait = str(int((window["ends"] - now) * 1000) + 1)
        return Reply() if window["left"] >= 0 else error(429, retry_after_ms=wait)

    server.answer = answer
    attempts = score(JudgeSpec(base_url=server.base_url, attempts=1), *map(str, range(30)))
    assert all(tries[-1].status == "ok" for tries in attempts)


def test_patience_with_a_rate_limit_ends(
    server: JudgeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit, "PATIENCE_S", 0.2)
    server.answer = replies(error(429, retry_after_ms="20"))
    with pytest.raises(EndpointError, match="rate limit"):
        score(JudgeSpec(base_url=server.base_url), "Because.")


def test_a_limit_for_the_day_ends_the_run_at_once(server: JudgeServer) -> None:
    server.answer = replies(error(429, retry_after="86400"))
    with pytest.raises(EndpointError, match="asks to wait 86400 s"):
        score(JudgeSpec(base_url=server.base_url), "Because.")


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, 0),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "soon"}, 0),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1h2m3.5s"}, 3723.5),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1d"}, 86400),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "59"}, 59),
        ({"x-ratelimit-remaining-requests": "0"}, 0),
        ({"x-ratelimit-remaining-requests": "9", "x-ratelimit-reset-requests": "6m"}, 0),
        ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "20ms"}, 0.02),
    ],
)
def test_pauses_that_headers_ask_for(headers: dict[str, str], seconds: float) -> None:
    assert asked_pause(headers) == pytest.approx(seconds)


def test_a_pause_until_a_date() -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert 97 < asked_pause({"retry-after": date}) <= 100
    assert asked_pause({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}) == 0


def test_the_gate_halves_at_a_rate_limit_and_opens_again() -> None:
    gate = Gate(16, judge_peer(JudgeSpec()))
    for expected in (8, 4, 2, 1, 1):
        gate.observe(429, {})
        assert gate.limit == expected
    for _ in range(30):
        gate.observe(200, {})
    assert gate.limit == 16
