"""The options of `annotate`: which round, how it is served, and what to do in its place."""

from pathlib import Path
from typing import get_args

import click

from lima.rating.instructions import Kind
from lima_k8s.commands import completion
from lima_k8s.commands.options import F

KINDS: tuple[Kind, ...] = get_args(Kind)
ROUND = (
    click.option(
        "--kind",
        type=click.Choice(KINDS),
        default=KINDS[0],
        show_default=True,
        help="What is asked: which of two is better, a grade, safety, a grade for each "
        "turn of dialogues (with --against: which of two is better), or which epoch is.",
    ),
    click.option(
        "--run",
        help="Responses to label: a run of generation, or its arm.",
        shell_complete=completion.stored_runs,
    ),
    click.option(
        "--against",
        "others",
        multiple=True,
        metavar="RUN",
        shell_complete=completion.stored_runs,
        help="Responses to compare with, likewise; repeatable.",
    ),
    click.option("--experiment", help="Which experiment, if the storage holds several."),
    click.option(
        "--source",
        "sources",
        multiple=True,
        metavar="GLOB",
        help="Only prompts of these sources; repeatable.",
    ),
    click.option("--count", type=click.IntRange(1), help="Prompts to draw.  [default: all]"),
    click.option(
        "--overlap",
        type=click.IntRange(0),
        default=50,
        show_default=True,
        help="Items that everybody labels, so that agreement can be measured.",
    ),
    click.option(
        "--repeats", type=click.IntRange(0), default=0, show_default=True, help="Items shown twice."
    ),
    click.option("--both-orders", is_flag=True, help="Show every pair both ways round."),
    click.option(
        "--seed",
        type=click.IntRange(0),
        default=0,
        show_default=True,
        help="Of the draw, the order and the sides.",
    ),
    click.option(
        "--database",
        type=click.Path(dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Where labels are kept.  [default: in STORAGE/annotate, or here]",
    ),
)
SERVING = (
    click.option(
        "--invite",
        "invited",
        multiple=True,
        metavar="NAME[:ROLE]",
        help="Make a link for an annotator; the role is crowd or author; repeatable.",
    ),
    click.option(
        "--withdraw",
        "withdrawn",
        multiple=True,
        metavar="NAME",
        help="Close a link; its labels stay; start nothing; repeatable.",
    ),
    click.option("--host", default="127.0.0.1", show_default=True, help="Address to bind."),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=0,
        help="0: that of the last time, else a free one.",
    ),
    click.option("--url", help="Address under which browsers of other machines reach this one."),
    click.option("--browser/--no-browser", default=True, help="Open the page in a browser."),
)
INSTEAD = (
    click.option(
        "--status",
        "what",
        flag_value="status",
        help="Show who has labelled how much, and the links; start nothing.",
    ),
    click.option(
        "--export",
        "what",
        flag_value="export",
        help="Write the table `annotations` now; start nothing.",
    ),
    click.option(
        "--choose",
        type=click.IntRange(1),
        metavar="EPOCH",
        help="Record the choice of a checkpoint; start nothing.",
    ),
    click.option(
        "--chosen",
        "what",
        flag_value="chosen",
        help="Print the epoch that was chosen; start nothing.",
    ),
)


def annotate_options(function: F) -> F:
    """Add all options of `annotate` to a command."""
    for option in reversed((*ROUND, *SERVING, *INSTEAD)):
        function = option(function)
    return function
