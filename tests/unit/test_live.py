"""What a command that waits says where there is no terminal."""

import pytest

from lima_k8s import live
from lima_k8s.live import Line, PlainLines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the one number that the clock reads."""
    now = [0.0]
    monkeypatch.setattr("lima_k8s.live.time.monotonic", lambda: now[0])
    return now


def test_a_new_place_is_said_at_once_and_the_same_now_and_then(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    lines = PlainLines[tuple[str, int]](
        lambda item: Line("run", (item[0],), f"{item[0]} {item[1]}")
    )
    for seconds, item in [(0, ("a", 1)), (1, ("a", 2)), (2, ("b", 2)), (3, ("b", 3))]:
        clock[0] = seconds
        lines.show([item])
    assert capsys.readouterr().err.split("\n") == ["a 1", "b 2", ""]
    clock[0] = 2 + live.PLAIN_INTERVAL_S
    lines.show([("b", 2)])
    assert capsys.readouterr().err == ""  # nothing changed
    lines.show([("b", 9)])
    assert capsys.readouterr().err == "b 9\n"


def test_items_are_followed_each_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    lines = PlainLines[str](lambda item: Line(item, ("here",), item and f"{item} is here"))
    lines.show(["", "x"])
    lines.show(["x", "y"])
    assert capsys.readouterr().err == "x is here\ny is here\n"
