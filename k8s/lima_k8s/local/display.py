"""How far the cells of a study on this machine are, for people."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lima.runs.progress import DONE, eta_seconds, unscored_text
from lima.spec import CellSpec, Stage
from lima.spec.codec import run_id
from lima_k8s.terminal.live import Line, live
from lima_k8s.terminal.output import duration_text
from lima_k8s.terminal.run_warnings import RunWarnings

if TYPE_CHECKING:
    from rich.table import Table

SHARED: tuple[Stage, ...] = ("curate", "base")
"""Stages that several cells may have in common."""


@dataclass(frozen=True)
class CellState:
    """How far a cell is: its last progress record, empty before the first.

    `shared` is the run of a stage that it has in common with others, while that is what it is in.
    """

    run: str
    name: str
    record: dict[str, Any] = field(default_factory=dict)
    shared: str = ""
    sharers: int = 1

    @property
    def done(self) -> bool:
        """Whether all of its stages are finished."""
        return self.stage == DONE

    @property
    def stage(self) -> str:
        """The stage it is in."""
        return str(self.record.get("stage", "waiting"))

    @property
    def left(self) -> str:
        """How long its stage will yet take, as far as that can be told."""
        if not self.record or self.record.get("done") == self.record.get("total"):
            return ""
        left = duration_text(eta_seconds(self.record, datetime.now(UTC)))
        return f"{left} left" if left else ""

    @property
    def figures(self) -> str:
        """What is worth showing of the stage, as `name value` pairs."""
        if self.done:
            return unscored_text(self.record)
        figures = self.record.get("figures", {})
        return "  ".join(f"{name.replace('_', ' ')} {value}" for name, value in figures.items())


def with_shared_stages(cells: Sequence[CellSpec], states: Sequence[CellState]) -> list[CellState]:
    """Return the states such that all cells which wait for a shared stage show it.

    One of them does its work, and alone reports it.
    """
    stages = [[run_id(cell, stage) for stage in SHARED if getattr(cell, stage)] for cell in cells]
    sharers = Counter(run for runs in stages for run in runs)
    reported = {
        run_id(cell, stage): state.record
        for cell, state in zip(cells, states, strict=True)
        for stage in SHARED
        if state.stage == stage
    }
    return [
        replace(state, record=reported[run], shared=run, sharers=sharers[run])
        if (run := next((r for r in runs if r in reported), "")) and _may_wait(state)
        else state
        for runs, state in zip(stages, states, strict=True)
    ]


def _may_wait(state: CellState) -> bool:
    return not state.record or state.stage in SHARED


@contextlib.contextmanager
def display() -> Iterator[Callable[[Sequence[CellState]], None]]:
    """Yield a function that shows the states of all cells, and says what they warn of."""
    warnings = RunWarnings()
    with live(_table, _line) as show:

        def tell(states: Sequence[CellState]) -> None:
            show(states)
            for state in states:
                warnings.tell(state.run, state.name, state.record)

        yield tell


def _line(state: CellState) -> Line:
    return Line(state.shared or state.run, (state.stage,), _text(state) if state.record else "")


def _text(state: CellState) -> str:
    if state.done:
        return f"{state.name}: done  {state.figures}".rstrip()
    record = state.record
    counts = f"{record['done']}/{record['total']} {record['unit']}"
    name = f"{state.sharers} runs" if state.sharers > 1 else state.name
    figures = "  ".join(filter(None, (state.left, state.figures)))
    return f"{name}: {state.stage} {counts}  {figures}".rstrip()


def _table(states: Sequence[CellState]) -> "Table":
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("cell", "stage", "", "done", "ETA"):
        table.add_column(header, no_wrap=True)
    table.add_column()  # alone gives way on a narrow terminal
    for state in states:
        done, total = state.record.get("done", 0), state.record.get("total", 1)
        counts = f"{done}/{total} {state.record.get('unit', '')}" if state.record else ""
        figures = Text(state.figures, no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=max(total, 1), completed=done, width=16)
        counts = "" if state.done else counts
        table.add_row(state.name, state.stage, bar, counts, state.left, figures)
    return table
