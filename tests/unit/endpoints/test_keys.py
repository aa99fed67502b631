"""The key of a judge: which endpoints need one, and which addresses are none."""

import socket

import pytest

from lima.endpoints.keys import NO_KEY, api_key
from lima.errors import InputError, SpecError
from lima.spec import JudgeSpec

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


def test_a_public_endpoint_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        api_key(JudgeSpec(base_url="https://8.8.8.8/v1"))
    monkeypatch.setenv("OTHER_KEY", "  ")
    with pytest.raises(InputError, match="OTHER_KEY"):
        api_key(JudgeSpec(base_url="https://8.8.8.8/v1", api_key_env="OTHER_KEY"))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "192.168.0.9", "[::1]"])
def test_a_private_endpoint_needs_none(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert api_key(JudgeSpec(base_url=f"http://{host}:8000/v1")) == NO_KEY


def test_a_name_that_is_not_known_yet_is_no_reason_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's network may come up after its processes; asking tells, and is tried again."""

    def unknown(*_: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert api_key(JudgeSpec(base_url="http://judge.models:8000/v1")) == NO_KEY


def test_a_key_is_trimmed_and_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    assert api_key(JudgeSpec()) == KEY
    monkeypatch.setenv("OPENAI_API_KEY", "sk-…")
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        api_key(JudgeSpec())


@pytest.mark.parametrize("url", ["http://", "http:///v1", "http://host:99999/v1", "http://[::1/v1"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(SpecError, match=r"judge\.base_url"):
        api_key(JudgeSpec(base_url=url))
