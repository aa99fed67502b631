"""Progress for people: a live table on a terminal, plain lines otherwise."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lima.progress import DONE
from lima_k8s.output import say

if TYPE_CHECKING:
    from rich.table import Table

PLAIN_INTERVAL_S = 10.0
"""Between two plain lines about the same stage of a cell."""


@dataclass(frozen=True)
class CellState:
    """How far a cell is: its last progress record, empty before the first."""

    run: str
    name: str
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def done(self) -> bool:
        """Whether all of its stages are finished."""
        return self.stage == DONE

    @property
    def stage(self) -> str:
        """The stage it is in."""
        return str(self.record.get("stage", "waiting"))

    @property
    def figures(self) -> str:
        """What is worth showing of the stage, as `name value` pairs."""
        figures = {} if self.done else self.record.get("figures", {})
        return "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())


Show = Callable[[Sequence[CellState]], None]


@contextlib.contextmanager
def display() -> Iterator[Show]:
    """Yield a function that shows the states of all cells."""
    if not sys.stderr.isatty():
        yield PlainLines().show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda states: live.update(_table(states))


class PlainLines:
    """A line when a cell enters a stage, and now and then while it is in it."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said: dict[str, tuple[CellState, float]] = {}

    def show(self, states: Sequence[CellState]) -> None:
        """Say what is new."""
        now = time.monotonic()
        for state in states:
            before, when = self._said.get(state.run, (CellState(state.run, state.name), 0.0))
            if state == before or (state.stage == before.stage and now - when < PLAIN_INTERVAL_S):
                continue
            self._said[state.run] = (state, now)
            say(_line(state))


def _line(state: CellState) -> str:
    if state.done:
        return f"{state.name}: done"
    record = state.record
    counts = f"{record['done']}/{record['total']} {record['unit']}"
    return f"{state.name}: {state.stage} {counts}  {state.figures}".rstrip()


def _table(states: Sequence[CellState]) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header in ("cell", "stage", "", "done", ""):
        table.add_column(header)
    for state in states:
        done, total = state.record.get("done", 0), state.record.get("total", 1)
        counts = f"{done}/{total} {state.record.get('unit', '')}" if state.record else ""
        bar = ProgressBar(total=max(total, 1), completed=done, width=24)
        table.add_row(state.name, state.stage, bar, "" if state.done else counts, state.figures)
    return table
