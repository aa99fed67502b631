"""What a command that waits says where there is no terminal."""

import io
import re
from pathlib import Path

import pytest

import lima_k8s
from lima_k8s.local.display import CellState, display
from lima_k8s.terminal import live
from lima_k8s.terminal.live import Line, PlainLines


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the one number that the clock reads."""
    now = [0.0]
    monkeypatch.setattr("lima_k8s.terminal.live.time.monotonic", lambda: now[0])
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


HOSTILE = ["[/bold]", "[red]x", "[link=http://a]y[/link]", ":warning:", "[", "a[b]c"]
"""Names of arms that rich would take for markup, or for a name of an emoji."""


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_is_no_markup(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    record = {"stage": name, "done": 1, "total": 2, "unit": name, "figures": {name: name}}
    with display() as show:
        show([CellState("run", name, record)])
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())
    assert shown.count(name) >= 5


def test_no_other_console_is_made() -> None:
    """Of rich's consoles, only that of `plain_console` takes no text for markup."""
    made = {
        path.name
        for path in Path(lima_k8s.__file__).parent.rglob("*.py")
        if re.search(
            r"\bConsole\(|from rich import|rich\.print|from_markup", path.read_text("utf-8")
        )
    }
    assert made == {"output.py"}
