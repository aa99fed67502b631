"""Runs on a cluster for people: a table, or a display that follows them."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from lima.runs.progress import DONE, unscored_text
from lima_k8s.runs.view import View, retry_text
from lima_k8s.terminal.live import Line, live
from lima_k8s.terminal.output import duration_text, say, write_table
from lima_k8s.terminal.run_warnings import RunWarnings

if TYPE_CHECKING:
    from rich.console import Group

HEADERS = (
    "RUN",
    "ARM",
    "SEED",
    "STATE",
    "PLACE",
    "PROGRESS",
    "ETA",
    "STARTS",
    "RETRIES",
    "GPU-HOURS",
)
STYLES = {"running": "green", "done": "green", "failed": "red", "blocked": "red"}


def write_views(views: Sequence[View]) -> None:
    """Write runs as a table on standard output; causes, and what runs warn of, below it."""
    write_table(HEADERS, [_row(view) for view in views])
    warnings = RunWarnings()
    for view in views:
        warnings.tell(view.run.name, view.run.name, view.progress)
        if view.cause:
            say(f"{view.run.name}: {view.cause.text}\n  fix: {view.cause.fix}")
        elif again := retry_text(view):
            say(f"{view.run.name}: {again}")


def progress_text(view: View) -> str:
    """Return how far a run is in its stage."""
    record = view.progress
    if not record:
        return ""
    if record.get("stage") == DONE:
        unscored = unscored_text(record)
        return f"all stages, {unscored}" if unscored else "all stages"
    epoch = record.get("figures", {}).get("epoch")
    parts = f"{record['stage']} {record['done']}/{record['total']} {record['unit']}"
    return f"{parts}, epoch {epoch}" if epoch is not None else parts


def place_text(view: View) -> str:
    """Return where a waiting run stands in its queue."""
    if view.place is None:
        return ""
    whole = view.place.in_cluster_queue
    return f"{view.place.in_queue} in {view.run.queue}" + (f", {whole} in all" if whole else "")


@contextlib.contextmanager
def display() -> Iterator[Callable[[Sequence[View]], None]]:
    """Yield a function that shows the views of all watched runs, and says what they warn of."""
    warnings = RunWarnings()
    with live(table_of, _line) as show:

        def tell(views: Sequence[View]) -> None:
            show(views)
            for view in views:
                warnings.tell(view.run.name, view.run.name, view.progress)

        yield tell


def _line(view: View) -> Line:
    usual = place_text(view) or progress_text(view)
    detail = view.cause.text if view.cause else " ".join(filter(None, (usual, retry_text(view))))
    place = (view.state, view.stage, view.cause.name if view.cause else retry_text(view))
    return Line(view.run.name, place, f"{view.run.name}: {view.state}  {detail}".rstrip())


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
        records.stage_starts if records else None,
        records.retries if records else None,
        round(records.gpu_hours, 2) if records else None,
    )


def table_of(views: Sequence[View]) -> "Group":
    """Return a row a run, which fits a narrow terminal, and below it what hinders them."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for header in ("RUN", "STATE", "WHERE", "ETA"):
        table.add_column(header, no_wrap=True)
    hindered: dict[str, list[str]] = {}
    for view in views:
        where = place_text(view) or progress_text(view)
        row = (view.run.name, view.state, where, duration_text(view.eta_s))
        table.add_row(*map(Text, row), style=STYLES.get(view.state))
        if told := view.cause.text if view.cause else retry_text(view):
            hindered.setdefault(told, []).append(view.run.name)
    causes = []
    for cause, names in hindered.items():
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        causes.append(Text(f"{names[0]}{others}: {cause}"))
    return Group(table, *causes)
