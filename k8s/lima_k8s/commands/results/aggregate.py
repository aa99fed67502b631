"""`lima-k8s aggregate`."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from lima.errors import InputError
from lima_k8s.commands.options import format_option
from lima_k8s.commands.results.label_tables import write_labels
from lima_k8s.terminal.output import plain_console, say, visible, write_json

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
Columns = dict[str, list[str]]
"""Texts of a table: header to the values, a row each."""


@click.command("aggregate")
@click.argument("storage")
@click.option(
    "--by",
    multiple=True,
    metavar="COL",
    help="Group by this column; repeatable. Without it: a row for each cell. One of experiment, "
    "arm, seed, run_id, generation (the run that is judged), epoch (of the checkpoint), source (of "
    "the prompt), judge, rubric; or against: rows are pairs of arms that were compared.",
)
@format_option("table", "json", "csv", "parquet")
@click.option("--experiment", help="Only this experiment.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read.")
def command(
    storage: str,
    by: tuple[str, ...],
    output_format: str,
    experiment: str | None,
    skip_unreadable: bool,
) -> None:
    """Means and intervals over all runs of a storage.

    Scores are means with 95 % intervals clustered by prompt. A failed judgment is never a score;
    the bounds say how far the unscored responses could move the mean. Arms that people or a judge
    compared come with wins, ties and losses, and win rates. Works while a study runs.
    """
    if output_format == "parquet" and sys.stdout.isatty():
        raise InputError("--format parquet writes bytes; send them to a file: … > results.parquet")
    from lima.evaluation.aggregate import table as aggregate
    from lima.evaluation.aggregate.columns import AGAINST, DEFAULT_BY
    from lima.store.storage import Storage

    opened, columns = Storage(storage), by or DEFAULT_BY
    options: Any = {"experiment": experiment, "skip_unreadable": skip_unreadable, "note": say}
    if output_format in ("csv", "parquet"):
        _write_bytes(aggregate.aggregate(opened, columns, **options), output_format)
        return
    if output_format == "json":
        write_json(vars(aggregate.aggregate_study(opened, columns, **options)))
        return
    columns = by or ("experiment", "arm", "seed", "generation")
    found = aggregate.aggregate_study(opened, columns, side_by_side=not by, **options)
    if found.rows and AGAINST not in columns:
        print_table(found.rows, columns)
    elif not found.rows:
        pairs = AGAINST in columns
        say("no two arms have been compared yet" if pairs else "no cells have started yet")
    write_labels(found.pairs, found.labels, found.conversations)


def print_table(rows: Sequence[Row], by: Sequence[str]) -> None:
    """Print the columns that hold something, for people; below each other if too wide."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    names = {name: [_text(row[name]) for row in rows] for name in by}
    names = {name: values for name, values in names.items() if _tells_apart(name, names)}
    measures = {header: [write(row) for row in rows] for header, write in _columns(rows).items()}
    measures = {header: values for header, values in measures.items() if any(values)}
    # A pipe has no width: everything goes into one line there.
    width = None if sys.stdout.isatty() else 10_000
    console = plain_console(width=width)
    for block in _blocks(names, measures, console.width):
        table = Table(box=SIMPLE_HEAD, pad_edge=False)
        for header in block:
            is_text = header in names or header.startswith("unscored")
            table.add_column(header, justify="left" if is_text else "right", overflow="fold")
        for line in zip(*block.values(), strict=True):
            table.add_row(*line)
        console.print(table)


def _text(value: object) -> str:
    return "" if value is None else visible(str(value))


def _tells_apart(name: str, columns: Columns) -> bool:
    """Say whether a column is needed to tell the rows apart; experiments and runs may not be."""
    if name == "experiment":
        return len(set(columns[name])) > 1
    others = list(
        zip(*(values for n, values in columns.items() if n not in RUN_NAMES), strict=True)
    )
    return name not in RUN_NAMES or len(set(others)) < len(columns[name])


def _blocks(names: Columns, measures: Columns, width: int) -> Iterator[Columns]:
    """Yield as many columns as fit into a line, and then the next ones, each with the names."""

    def taken(columns: Columns) -> int:
        return sum(2 + max(map(len, (header, *values))) for header, values in columns.items())

    block: Columns = {}
    for header, values in measures.items():
        if block and taken({**names, **block, header: values}) > width:
            yield {**names, **block}
            block = {}
        block[header] = values
    yield {**names, **block}


def _columns(rows: Sequence[Row]) -> dict[str, Callable[[Row], str]]:
    """Return the columns; those about scores for each judge where there are several."""
    labels = list(rows[0].get("judges") or {})
    if not labels:
        return COLUMNS

    def by(label: str, write: Callable[[Row], str]) -> Callable[[Row], str]:
        return lambda row: write({**dict.fromkeys(row), **row["judges"][label]})

    of_judges = {
        f"{header}, {label}": by(label, COLUMNS[header]) for label in labels for header in OF_JUDGES
    }
    return of_judges | {h: write for h, write in COLUMNS.items() if h not in OF_JUDGES}


def _number(name: str, form: str, scale: float = 1) -> Callable[[Row], str]:
    return lambda row: "" if row[name] is None else format(row[name] * scale, form)


def _score(row: Row) -> str:
    if row["score"] is None:
        return ""
    interval = f" [{row['ci_low']:.2f}, {row['ci_high']:.2f}]" if row["ci_low"] is not None else ""
    return f"{row['score']:.2f}{interval}"


def _bounds(row: Row) -> str:
    if row["bound_low"] is None or row["bound_low"] == row["bound_high"]:
        return ""
    return f"{row['bound_low']:.2f} to {row['bound_high']:.2f}"


def _scored(row: Row) -> str:
    return "" if row["judged"] is None else f"{row['scored']}/{row['responses'] or row['judged']}"


def _counts(row: Row, names: Sequence[str]) -> str:
    return ", ".join(f"{row[n]} {n.replace('_', ' ')}" for n in names if row[n])


def _unscored(row: Row) -> str:
    return _counts(row, ("parse_fail", "refusal", "truncated", "api_error", "not_judged"))


def _retries(row: Row) -> str:
    """Return how often a stage was started again, and how starts ended that completed nothing."""
    ended = _counts(row, ("failed", "interrupted", "killed", "open"))
    if not row["retries"] and not ended:
        return ""
    return f"{row['retries']}{f' ({ended})' if ended else ''}"


def _cost(row: Row) -> str:
    """Return what the judge cost; a question mark where it did not tell its tokens."""
    if row["cost"] is None:
        return "?" if row["judged"] else ""
    return f"{row['cost']:.2f}" if row["cost"] else ""


COLUMNS: dict[str, Callable[[Row], str]] = {
    "cells": lambda row: str(row["cells"]) if row["cells"] > 1 else "",
    "score [95 % interval]": _score,
    "scored": _scored,
    "unscored": _unscored,
    "bounds": _bounds,
    "examples": _number("examples", ",d"),
    "loss": _number("loss", ".3f"),
    "held-out ppl": _number("perplexity", ".2f"),
    "responses": _number("responses", ",d"),
    "tokens": _number("response_tokens", ".0f"),
    "eot %": _number("eot", ".0f", 100),
    "stage starts": _number("stage_starts", "d"),
    "retries": _retries,
    "GPU h": lambda row: _number("gpu_hours", ".2f")(row) if row["gpu_hours"] else "",
    "hours": _number("wall_hours", ".2f"),
    "$": _cost,
}
"""What a terminal shows; the other formats hold everything."""
OF_JUDGES = ("score [95 % interval]", "scored", "unscored", "bounds")
RUN_NAMES = ("run_id", "generation")


def _without_formulas(table: "pa.Table") -> "pa.Table":
    """Return a table whose texts no spreadsheet takes for a formula: they begin with a quote."""
    import pyarrow as pa

    from lima.common.spreadsheet import inert

    for number, field in enumerate(table.schema):
        if pa.types.is_string(field.type):
            texts = [inert(text) for text in table[number].to_pylist()]
            table = table.set_column(number, field, pa.array(texts, field.type))
    return table


def _write_bytes(table: "pa.Table", output_format: str) -> None:
    import pyarrow.csv
    import pyarrow.parquet

    stream = sys.stdout.buffer
    if output_format == "csv":
        pyarrow.csv.write_csv(_without_formulas(table), stream)
    else:
        pyarrow.parquet.write_table(table, stream)
