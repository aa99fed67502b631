"""Errors inside answers of HTTP 200, endpoints that take no limit, and usage in other words."""

import asyncio
import json
from typing import Any

import pytest

from lima.endpoints import client
from lima.endpoints.attempt import Attempt, read_completion
from lima.errors import EndpointError
from lima.judging.budget import Budget
from lima.judging.judge import Judge
from lima.judging.likert import LIKERT
from lima.spec import JudgeSpec
from tests.helpers.judge_server import VERDICT, JudgeServer, Reply, Request, error, server
from tests.helpers.scoring import score

__all__ = ["server"]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")


def body(**document: Any) -> Reply:
    return Reply(raw=json.dumps(document))


FAILED = {"message": "Provider returned error", "code": 502}
ERRORS: dict[str, tuple[Reply, int, int, str]] = {
    "a number": (body(error=FAILED), 502, 3, "Provider returned error"),
    "a number as text": (body(error=FAILED | {"code": "502"}), 502, 3, "Provider returned error"),
    "no choices": (body(error=FAILED, choices=[]), 502, 3, "Provider returned error"),
    "a wrong request": (body(error={"message": "no such role", "code": 400}), 400, 1, "no such"),
    "moderation": (body(error={"message": "flagged", "code": 403}), 403, 1, "flagged"),
    "no key of theirs": (body(error={"message": "No auth", "code": "401"}), 401, 1, "No auth"),
    "no such provider": (body(error={"message": "none left", "status": 404}), 404, 1, "none left"),
    "a number, and a word": (
        body(error={"type": "invalid_request_error", **FAILED}),
        502,
        3,
        "Provider returned error",
    ),
    "a word": (
        body(error={"message": "too long", "code": "context_length_exceeded"}),
        400,
        1,
        "too long",
    ),
    "a type": (body(error={"message": "busy", "type": "overloaded_error"}), 503, 3, "busy"),
    "no code": (body(error={"message": "hm"}), 200, 3, "hm (in an answer of HTTP 200)"),
    "another code": (body(error={"message": "hm", "code": 7}), 200, 3, "hm (in an answer"),
    "a text": (body(error="model is loading"), 200, 3, "model is loading"),
    "not wrapped": (body(object="error", message="bad role", code=400), 400, 1, "bad role"),
    "an odd code": (body(error={"message": ["?"], "code": {"n": 1}}), 200, 3, "no word of why"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_in_an_answer_is_one_of_the_endpoint(server: JudgeServer, name: str) -> None:
    reply, status, tries, said = ERRORS[name]
    server.answer = lambda _: reply
    [attempts] = score(JudgeSpec(base_url=server.base_url, attempts=3), "Text")
    assert [(a.status, a.http_status) for a in attempts] == [("api_error", status)] * tries
    assert said in str(attempts[-1].error)
    assert len(server.requests) == tries


def test_a_rate_limit_in_an_answer_costs_no_try(server: JudgeServer) -> None:
    limited = body(error={"message": "slow down", "code": 429})
    server.answer = lambda request: limited if request.number < 5 else Reply()
    [attempts] = score(JudgeSpec(base_url=server.base_url, attempts=1), "Text")
    assert [a.http_status for a in attempts] == [429] * 4 + [200]
    assert attempts[-1].score == 5.0


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ({"message": "No auth", "code": "invalid_api_key"}, "refuses the key"),
        ({"message": "No auth", "code": 400, "type": "authentication_error"}, "refuses the key"),
        ({"message": "pay first", "code": 429, "type": "insufficient_quota"}, "no credit left"),
        ({"message": "no model", "code": "model_not_found"}, "does not know model"),
        ({"message": "pay first", "code": "insufficient_quota"}, "no credit left"),
    ],
)
def test_an_error_that_every_request_would_meet(
    server: JudgeServer, told: dict[str, Any], match: str
) -> None:
    server.answer = lambda _: body(error=told)
    with pytest.raises(EndpointError, match=match):
        score(JudgeSpec(base_url=server.base_url), "Text")


def test_a_text_that_is_flagged_ends_nothing_for_the_others(server: JudgeServer) -> None:
    flagged = body(error={"message": "input was flagged by moderation", "code": 403})
    server.answer = lambda request: flagged if "Rude." in request.text else Reply()
    found = score(JudgeSpec(base_url=server.base_url, concurrency=1), "Rude.", "Kind.", "Fair.")
    assert [[a.status for a in attempts] for attempts in found] == [["api_error"], ["ok"], ["ok"]]


def test_a_setting_that_is_refused_in_an_answer(server: JudgeServer) -> None:
    said = {"message": "temperature is not supported", "code": 400}
    server.answer = lambda r: body(error=said) if "temperature" in r.body else Reply()
    [attempts] = score(JudgeSpec(base_url=server.base_url), "Text")
    assert [a.status for a in attempts] == ["ok"]


def test_an_answer_that_breaks_off_with_an_error(server: JudgeServer) -> None:
    choice = {
        "message": {"content": "Good. 5"},
        "finish_reason": "error",
        "error": {"message": "upstream died", "code": 502},
    }
    used = {"prompt_tokens": 400, "completion_tokens": 9}
    server.answer = lambda _: body(choices=[choice], usage=used)
    [attempts] = score(JudgeSpec(base_url=server.base_url, attempts=2), "Text")
    assert [a.status for a in attempts] == ["api_error"] * 2
    assert "upstream died" in str(attempts[0].error)
    assert (attempts[0].prompt_tokens, attempts[0].completion_tokens) == (400, 9)


def test_a_completion_with_an_empty_error_is_one(server: JudgeServer) -> None:
    choice = {"message": {"content": VERDICT}, "finish_reason": "stop", "error": None}
    server.answer = lambda _: body(choices=[choice], error=None)
    [attempts] = score(JudgeSpec(base_url=server.base_url), "Text")
    assert [a.status for a in attempts] == ["ok"]


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"input_tokens": 400, "output_tokens": 50}, (400, 50)),
        ({"prompt_tokens": None, "input_tokens": 400, "output_tokens": 50.0}, (400, 50)),
        ({"prompt_tokens": 400, "total_tokens": 450}, (400, 50)),
        ({"output_tokens": 50, "total_tokens": 450}, (400, 50)),
        ({"total_tokens": 450}, (None, None)),
        ({"prompt_tokens": 400, "total_tokens": 300}, (400, None)),
        ({"prompt_tokens": 0, "completion_tokens": 50, "input_tokens": 7}, (0, 50)),
    ],
)
def test_tokens_by_other_names(usage: dict[str, Any], told: tuple[int | None, int | None]) -> None:
    document = {"choices": [{"message": {"content": VERDICT}}], "usage": usage}
    attempt = read_completion(json.dumps(document).encode(), 200, None, LIKERT, "judge.max_tokens")
    assert (attempt.prompt_tokens, attempt.completion_tokens) == told


def limitless(request: Request) -> Reply:
    """Answer as an endpoint that takes no limit of length, under either name."""
    for name in ("max_tokens", "max_completion_tokens"):
        if name in request.body:
            return error(400, f"Unsupported parameter: '{name}' is not supported.")
    return Reply()


def test_an_endpoint_that_takes_no_limit_at_all(server: JudgeServer) -> None:
    server.answer = limitless
    spec = JudgeSpec(base_url=server.base_url, concurrency=1)
    for attempts in score(spec, "Because.", "So."):
        assert [a.status for a in attempts] == ["ok"]
        assert json.loads(attempts[-1].settings or "") == {"temperature": 0.0}
    assert len(server.requests) == 3 + 1


def test_a_budget_is_not_held_without_a_limit(server: JudgeServer) -> None:
    server.answer = limitless
    spec = JudgeSpec(base_url=server.base_url, budget=1.0, input_price=1.0, output_price=1.0)

    async def ask() -> list[Attempt]:
        async with Judge(spec, Budget(spec)) as judge:
            return await judge.ask("Text")

    with pytest.raises(EndpointError, match=r"no limit of the length .* without judge\.budget"):
        asyncio.run(ask())
    assert all("_tokens" in str(request.body) for request in server.requests)


def test_a_limit_that_is_too_high_is_not_left_out(server: JudgeServer) -> None:
    said = "max_completion_tokens is too large: at most 512"

    def answer(request: Request) -> Reply:
        if "max_tokens" in request.body:
            return error(400, "max_tokens: use max_completion_tokens")
        return error(400, said)

    server.answer = answer
    [attempts] = score(JudgeSpec(base_url=server.base_url), "Text")
    assert [(a.status, a.error) for a in attempts] == [("api_error", said)]
