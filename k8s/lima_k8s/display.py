"""How far the cells of a study on this machine are, for people."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lima.progress import DONE, unscored_text
from lima_k8s.live import Line, live

if TYPE_CHECKING:
    from rich.table import Table


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
        if self.done:
            return unscored_text(self.record)
        figures = self.record.get("figures", {})
        return "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())


@contextlib.contextmanager
def display() -> Iterator[Callable[[Sequence[CellState]], None]]:
    """Yield a function that shows the states of all cells."""
    with live(_table, _line) as show:
        yield show


def _line(state: CellState) -> Line:
    return Line(state.run, (state.stage,), _text(state) if state.record else "")


def _text(state: CellState) -> str:
    if state.done:
        return f"{state.name}: done  {state.figures}".rstrip()
    record = state.record
    counts = f"{record['done']}/{record['total']} {record['unit']}"
    return f"{state.name}: {state.stage} {counts}  {state.figures}".rstrip()


def _table(states: Sequence[CellState]) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("cell", "stage", "", "done"):
        table.add_column(header, no_wrap=True)
    table.add_column()  # alone gives way on a narrow terminal
    for state in states:
        done, total = state.record.get("done", 0), state.record.get("total", 1)
        counts = f"{done}/{total} {state.record.get('unit', '')}" if state.record else ""
        figures = Text(state.figures, no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=max(total, 1), completed=done, width=16)
        table.add_row(state.name, state.stage, bar, "" if state.done else counts, figures)
    return table
