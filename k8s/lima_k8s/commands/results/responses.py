"""`lima-k8s responses`."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from lima.errors import InputError
from lima_k8s.terminal.output import plain_console, say, visible

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lima.evaluation.report.sample_responses import Compared, Sample

NARROW = 28
"""Characters of a column below which responses stand below each other."""
PIPE_WIDTH = 100
"""Characters of a line where no terminal says how many it has."""
ENDS = {"eot": "ended by itself", "length": "cut off", "prompt_too_long": "no room for a response"}


@click.command("responses")
@click.argument("storage")
@click.option(
    "--prompts",
    "count",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How many prompts, evenly spaced among those that all arms answered.",
)
@click.option(
    "--characters",
    type=click.IntRange(1, 3000),
    default=600,
    show_default=True,
    help="Of a response that are shown.",
)
@click.option("--experiment", help="Only this experiment.")
def command(storage: str, count: int, characters: int, experiment: str | None) -> None:
    """Show the arms' responses to the same prompts, side by side.

    The first response of each arm's first seed, as in the report. Works while a study runs.
    """
    from lima.evaluation.cells.study_data import read_study_data
    from lima.evaluation.report.sample_responses import read_samples
    from lima.runs.lineage import experiments
    from lima.store.scan import Tables
    from lima.store.storage import Storage

    tables = Tables(Storage(storage), experiment)
    if experiment is None and len(names := experiments(tables)) > 1:
        raise InputError(
            f"the storage holds {len(names)} experiments; choose one with --experiment: "
            f"{', '.join(names)}"
        )
    found = read_samples(tables, read_study_data(tables).chains, count)
    if not found:
        say("there is no prompt yet that all arms have answered")
        return
    console = plain_console(width=None if sys.stdout.isatty() else PIPE_WIDTH)
    for prompt in found:
        for part in _shown(prompt, characters, console.width):
            console.print(part)


def _shown(prompt: "Compared", characters: int, width: int) -> Iterator["RenderableType"]:
    """Yield a prompt and the responses to it: in columns, or below each other if too narrow."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    yield ""
    for role, text in prompt.turns:
        yield f"{role}: {visible(text)}"
    if width < NARROW * len(prompt.samples):
        for sample in prompt.samples:
            yield f"\n[{visible(sample.label)}] {_end(sample)}\n{_text(sample, characters)}"
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for sample in prompt.samples:
        table.add_column(f"{visible(sample.label)}\n{_end(sample)}", overflow="fold", ratio=1)
    table.add_row(*(_text(sample, characters) for sample in prompt.samples))
    yield table


def _end(sample: "Sample") -> str:
    return f"{sample.tokens} tokens, {ENDS.get(sample.finish_reason, sample.finish_reason)}"


def _text(sample: "Sample", characters: int) -> str:
    text = visible(sample.text).strip()
    left = len(text) + sample.cut - characters
    return f"{text[:characters]} … ({left:,} characters more)" if left > 0 else text
