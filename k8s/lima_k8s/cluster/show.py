"""Runs on a cluster for people: a table, a live one on a terminal, plain lines otherwise."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lima.progress import DONE
from lima_k8s.cluster.view import View
from lima_k8s.output import say, write_table

if TYPE_CHECKING:
    from rich.table import Table

HEADERS = ("RUN", "ARM", "SEED", "STATE", "PLACE", "PROGRESS", "ETA", "ATTEMPTS", "GPU-HOURS")
PLAIN_INTERVAL_S = 10.0
"""Between two plain lines about the same state of a run."""
STYLES = {"running": "green", "done": "green", "failed": "red", "blocked": "red"}
Show = Callable[[Sequence[View]], None]


def write_views(views: Sequence[View]) -> None:
    """Write runs as a table on standard output, causes below it."""
    write_table(HEADERS, [_row(view) for view in views])
    for view in views:
        if view.cause:
            say(f"{view.run.name}: {view.cause.text}\n  fix: {view.cause.fix}")


def progress_text(view: View) -> str:
    """Return how far a run is in its stage."""
    record = view.progress
    if not record:
        return ""
    if record.get("stage") == DONE:
        return "all stages"
    epoch = record.get("figures", {}).get("epoch")
    parts = f"{record['stage']} {record['done']}/{record['total']} {record['unit']}"
    return f"{parts}, epoch {epoch}" if epoch is not None else parts


def duration_text(seconds: float | None) -> str:
    """Return a time as people say it: 40 s, 12 min, 3.5 h."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def place_text(view: View) -> str:
    """Return where a waiting run stands in its queue."""
    if view.place is None:
        return ""
    whole = view.place.in_cluster_queue
    return f"{view.place.in_queue} in {view.run.queue}" + (f", {whole} in all" if whole else "")


@contextlib.contextmanager
def display() -> Iterator[Show]:
    """Yield a function that shows the views of all watched runs, on standard error."""
    if not sys.stderr.isatty():
        yield PlainLines().show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), refresh_per_second=4) as live:
        yield lambda views: live.update(_table(views))


class PlainLines:
    """A line when a run changes its state or stage, and now and then while it is in one."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said: dict[str, tuple[tuple[str, ...], str, float]] = {}

    def show(self, views: Sequence[View]) -> None:
        """Say what is new."""
        now = time.monotonic()
        for view in views:
            place = (view.state, view.stage, view.cause.name if view.cause else "")
            line = _line(view)
            before = self._said.get(view.run.name)
            if before and (
                line == before[1] or (place == before[0] and now - before[2] < PLAIN_INTERVAL_S)
            ):
                continue
            self._said[view.run.name] = (place, line, now)
            say(line)


def _line(view: View) -> str:
    detail = view.cause.text if view.cause else place_text(view) or progress_text(view)
    return f"{view.run.name}: {view.state}  {detail}".rstrip()


def _row(view: View) -> tuple[object, ...]:
    records = view.records
    return (
        view.run.name,
        view.run.arm,
        view.run.seed,
        view.state,
        place_text(view),
        progress_text(view),
        duration_text(view.eta_s),
        records.attempts if records else None,
        round(records.gpu_hours, 2) if records else None,
    )


def _table(views: Sequence[View]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for header in (*HEADERS, "CAUSE"):
        table.add_column(header)
    for view in views:
        cells = ["" if value is None else str(value) for value in _row(view)]
        cause = view.cause.text if view.cause else ""
        table.add_row(*cells, cause, style=STYLES.get(view.state))
    return table
