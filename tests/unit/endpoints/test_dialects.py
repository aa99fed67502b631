"""Endpoints of other manners: what they do not take, what they send back, where they send us."""

import gzip
import json
import socket
from typing import Any

import pytest

from lima.common.variables import KEY_NAMES
from lima.endpoints import client
from lima.endpoints import http as endpoint
from lima.endpoints.attempt import Attempt, read_completion
from lima.endpoints.dialect import objected
from lima.endpoints.http import completions_url
from lima.endpoints.keys import KeyOf
from lima.errors import EndpointError, InputError, SpecError
from lima.judging.likert import LIKERT
from lima.spec import JudgeSpec
from tests.helpers.judge_server import VERDICT, JudgeServer, Reply, Request, error, server
from tests.helpers.scoring import score

__all__ = ["server"]

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", 0.001)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.delenv(KEY_NAMES, raising=False)


def newest(request: Request) -> Reply:
    """Answer as the newest models do: one of their settings has another name, one no choice."""
    if "max_tokens" in request.body:
        return error(
            400,
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use "
            "'max_completion_tokens' instead.",
        )
    if "temperature" in request.body:
        return error(
            400,
            "Unsupported value: 'temperature' does not support 0 with this model. Only the "
            "default (1) value is supported.",
        )
    return Reply()


def settings(attempts: list[Attempt]) -> dict[str, Any]:
    return dict(json.loads(attempts[-1].settings or "null"))


def test_the_newest_models_judge_and_rows_say_how(server: JudgeServer) -> None:
    server.answer = newest
    spec = JudgeSpec(base_url=server.base_url, max_tokens=77, concurrency=1)
    for attempts in score(spec, "Because.", "So."):
        assert [a.status for a in attempts] == ["ok"]
        assert settings(attempts) == {"max_completion_tokens": 77}
    assert len(server.requests) == 2 + 2  # what was learnt once is known
    server.answer = lambda _: Reply()
    [attempts] = score(spec, "Because.")
    assert settings(attempts) == {"max_tokens": 77, "temperature": 0.0}


def test_a_request_that_is_too_long_teaches_nothing(server: JudgeServer) -> None:
    said = "'max_tokens' is too large: 1024. This model's maximum context length is 900 tokens"
    server.answer = lambda r: error(400, said) if "Long" in r.text else Reply()
    long, short = score(JudgeSpec(base_url=server.base_url, concurrency=1), "Long.", "Short.")
    assert [(a.status, a.http_status) for a in long] == [("api_error", 400)]
    assert settings(short) == {"max_tokens": 1024, "temperature": 0.0}
    assert len(server.requests) == 2


def test_a_setting_without_which_it_is_no_better_is_sent_on(server: JudgeServer) -> None:
    """Only an answer shows that it was the setting."""
    said = "Hot words: the temperature of the text is not polite."
    server.answer = lambda r: error(400, said) if "Hot" in r.text else Reply()
    hot, mild = score(JudgeSpec(base_url=server.base_url, concurrency=1), "Hot.", "Mild.")
    assert [a.status for a in hot] == ["api_error"]
    assert settings(mild)["temperature"] == 0.0


@pytest.mark.parametrize(
    ("sent", "said", "named"),
    [
        ({"max_tokens", "temperature"}, "no max_completion_tokens", set()),
        ({"max_tokens", "temperature"}, "max_tokens: unexpected", {"max_tokens"}),
        ({"max_tokens", "top_k", "top_p"}, "Unrecognized argument", {"top_k"}),
        ({"temperature", "seed"}, "seed? temperature?", {"seed", "temperature"}),
        ({"temperature"}, "top_p", set()),
    ],
)
def test_what_an_objection_is_about(sent: set[str], said: str, named: set[str]) -> None:
    assert objected(sent, said) == named


def completion(message: Any = VERDICT, usage: object = None, reason: str = "stop") -> bytes:
    message = message if isinstance(message, dict) else {"content": message}
    choices = [{"message": message, "finish_reason": reason}]
    return json.dumps({"choices": choices, "usage": usage}).encode()


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        ({"prompt_tokens": 400.0, "completion_tokens": 50.0}, (400, 50)),
        ({"prompt_tokens": "400", "completion_tokens": "50"}, (400, 50)),
        ({"prompt_tokens": 400}, (400, None)),
        ({"prompt_tokens": -400, "completion_tokens": -1}, (None, None)),
        ({"prompt_tokens": 10**30, "completion_tokens": 1e300}, (None, None)),
        ({"prompt_tokens": True, "completion_tokens": [3]}, (None, None)),
        ({"prompt_tokens": 1.5, "completion_tokens": "many"}, (None, None)),
        ([400, 50], (None, None)),
        ("400", (None, None)),
        (None, (None, None)),
    ],
)
def test_a_verdict_counts_however_its_tokens_are_told(
    usage: object, told: tuple[int | None, int | None]
) -> None:
    attempt = read_completion(completion(usage=usage), 200, None, LIKERT, "judge.max_tokens")
    assert (attempt.status, attempt.score) == ("ok", 5.0)
    assert (attempt.prompt_tokens, attempt.completion_tokens) == told


MESSAGES: dict[str, tuple[dict[str, Any], str, str | None]] = {
    "parts": ({"content": [{"type": "text", "text": VERDICT}]}, "ok", VERDICT),
    "parts of a thinker": (
        {
            "content": [
                {"type": "thinking", "thinking": [{"text": "Hm. 3"}]},
                {"type": "text", "text": "Good.\n"},
                {"type": "text", "text": "5\n5"},
            ]
        },
        "ok",
        "Good.\n5\n5",
    ),
    "texts": ({"content": ["Good.\n", "5\n5"]}, "ok", "Good.\n5\n5"),
    "no parts": ({"content": []}, "parse_fail", ""),
    "thoughts and an answer": ({"content": VERDICT, "reasoning_content": "3\n3"}, "ok", VERDICT),
    "thoughts alone": ({"content": "", "reasoning_content": "5\n5"}, "truncated", ""),
    "thoughts by another name": ({"content": None, "reasoning": "5\n5"}, "truncated", None),
    "a refusal of another type": ({"content": VERDICT, "refusal": {"no": 1}}, "ok", VERDICT),
    "tool calls": ({"content": None, "tool_calls": [{}]}, "parse_fail", None),
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_of_other_dialects(name: str) -> None:
    message, status, words = MESSAGES[name]
    attempt = read_completion(completion(message), 200, None, LIKERT, "judge.max_tokens")
    assert (attempt.status, attempt.verdict) == (status, words)
    assert (attempt.score == 5.0) == (status == "ok")


@pytest.mark.parametrize(
    "body",
    [
        b'{"choices": [{"message": {"content": "5"}}], "x": ' + b"[" * 10**5 + b"]" * 10**5 + b"}",
        b"[" * 10**5,
        b'{"choices": [{"message": null}]}',
        b'{"choices": [{"message": {"content": {"text": "5"}}}]}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_completion_is_an_error(body: bytes) -> None:
    attempt = read_completion(body, 200, None, LIKERT, "judge.max_tokens")
    assert (attempt.status, attempt.answered) == ("api_error", False)


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("https://h/v1", "https://h/v1/chat/completions"),
        ("https://h/v1/", "https://h/v1/chat/completions"),
        ("https://h", "https://h/chat/completions"),
        (
            "https://h/openai/deployments/x?api-version=2024-10-21",
            "https://h/openai/deployments/x/chat/completions?api-version=2024-10-21",
        ),
        ("https://h/v1/?a=b#c", "https://h/v1/chat/completions?a=b"),
    ],
)
def test_a_query_stays_behind_the_path(base: str, url: str) -> None:
    assert completions_url(base) == url


def test_a_deployment_of_azure_is_asked_with_its_key(server: JudgeServer) -> None:
    url = f"{server.base_url}/deployments/x?api-version=2024-10-21"
    score(JudgeSpec(base_url=url), "Because.")
    assert server.requests[0].path == "/v1/deployments/x/chat/completions?api-version=2024-10-21"
    assert server.requests[0].headers["api-key"] == KEY


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(server: JudgeServer, status: int) -> None:
    elsewhere = f"{server.base_url}/elsewhere"
    server.answer = lambda _: Reply(status=status, raw="", headers={"location": elsewhere})
    with pytest.raises(EndpointError, match=r"sends requests on to .*/elsewhere .*judge\.base_url"):
        score(JudgeSpec(base_url=server.base_url), "Because.")
    assert [r.path for r in server.requests] == ["/v1/chat/completions"]


@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_without_end_is_cut_off(
    server: JudgeServer, packed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "LARGEST", 1 << 16)
    text = VERDICT if not packed else VERDICT + " " * (1 << 20)
    body = gzip.compress(completion(text)).decode("latin-1") if packed else "x" * (1 << 20)
    encoding = {"content-encoding": "gzip"} if packed else {}
    server.answer = lambda _: Reply(raw=body, headers=encoding, latin=packed)
    [[attempt]] = score(JudgeSpec(base_url=server.base_url, attempts=1), "Because.")
    assert attempt.status == "api_error"
    assert "no model's" in str(attempt.error)


def test_a_key_in_an_answer_is_masked(server: JudgeServer) -> None:
    server.answer = lambda r: Reply(
        f"You sent {r.headers['authorization']}.\n5\n5", headers={"x-request-id": f"r-{KEY}"}
    )
    [[attempt]] = score(JudgeSpec(base_url=server.base_url), "Because.")
    assert attempt.score == 5.0
    assert KEY not in repr(attempt)
    assert "You sent Bearer ***." in str(attempt.verdict)


def key_of(url: str, variable: str = "OPENAI_API_KEY") -> KeyOf:
    return KeyOf("judge", url, "judge.base_url", variable, "judge.api_key_env")


@pytest.mark.parametrize("url", ["http://8.8.8.8/v1", "http://[2606:4700::1111]:8000/v1"])
def test_plain_http_to_the_internet_is_refused(url: str) -> None:
    with pytest.raises(InputError, match=r"judge\.base_url.*use https"):
        key_of(url).find()
    assert key_of(url.replace("http:", "https:")).find() == KEY


@pytest.mark.parametrize("host", ["134744072", "0x08080808", "8.8.2056", "[::ffff:8.8.8.8]"])
def test_an_address_of_the_internet_in_disguise_is_refused(host: str) -> None:
    with pytest.raises(InputError, match="use https"):
        key_of(f"http://{host}/v1").find()


@pytest.mark.parametrize("dot", ["\u3002", "\uff0e", "\uff61"])
def test_a_host_with_another_dot_is_refused(dot: str) -> None:
    """To whoever looks it up it is one of the Internet."""
    with pytest.raises(SpecError, match="write the host in ASCII"):
        key_of(f"http://evil{dot}com/v1").find()


def test_a_name_that_only_a_proxy_can_look_up_may_be_one_of_the_internet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert key_of("http://judge.models/v1").find() == KEY
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(InputError, match="use https"):
        key_of("http://evil.com/v1").find()
    assert key_of("http://judge.models.svc/v1").find() == KEY


@pytest.mark.parametrize("host", ["judge.models.svc", "judge", "judge.models.svc.cluster.local"])
def test_a_service_may_have_an_address_that_looks_public(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some clusters give their services such addresses."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("34.118.224.9", 0))])
    monkeypatch.delenv("OPENAI_API_KEY")
    assert key_of(f"http://{host}:8000/v1").find() == ""
    with pytest.raises(InputError, match="use https"):
        key_of("http://judge.models:8000/v1").find()


@pytest.mark.parametrize(
    "name",
    [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "aws_session_token",
        "HOME",
        "KUBE_TOKEN",
        "DATABASE_URL",
        "SECRET_KEY",
        "RAY_AUTH_TOKEN",
        "AZURE_STORAGE_SAS_TOKEN",
        "HF_TOKEN",
        "WANDB_API_KEY",
        "MLFLOW_TRACKING_TOKEN",
        "GITHUB_TOKEN",
        "_TOKEN\n",
    ],
)
def test_a_secret_of_another_kind_is_not_sent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "secret")
    with pytest.raises(SpecError, match=r"judge\.api_key_env.* is not sent"):
        key_of("http://127.0.0.1:1/v1", name).find()


@pytest.mark.parametrize("name", ["JUDGE_API_KEY", "HF_API_KEY", "AZURE_OPENAI_API_KEY"])
def test_names_of_keys(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, KEY)
    assert key_of("https://8.8.8.8/v1", name).find() == KEY


def test_a_name_may_be_allowed_but_for_keys_of_storage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAMES, "JUDGE_PASS,HF_TOKEN,AWS_SECRET_ACCESS_KEY")
    for name in ("JUDGE_PASS", "HF_TOKEN"):
        monkeypatch.setenv(name, KEY)
        assert key_of("https://8.8.8.8/v1", name).find() == KEY
    with pytest.raises(SpecError):
        key_of("https://8.8.8.8/v1", "AWS_SECRET_ACCESS_KEY").find()


def test_an_endpoint_that_takes_no_key_gets_none(server: JudgeServer) -> None:
    assert key_of("https://8.8.8.8/v1", "").find() == ""
    score(JudgeSpec(base_url=server.base_url, api_key_env=""), "Because.")
    assert "authorization" not in server.requests[0].headers


def test_a_key_goes_to_private_addresses_too_if_it_is_set(server: JudgeServer) -> None:
    score(JudgeSpec(base_url=server.base_url), "Because.")
    assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
