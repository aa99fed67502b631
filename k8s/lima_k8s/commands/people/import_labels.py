"""`lima-k8s import-labels`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lima.errors import InputError
from lima_k8s.terminal.output import say

if TYPE_CHECKING:
    from lima.rating.importing_checks import New

NEW = ("experiment", "arms", "prompts")


@click.command("import-labels")
@click.argument("storage")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--experiment", required=True, help="Study that the labels belong to.")
@click.option(
    "--layout",
    type=click.Choice(["plain", "mtbench"]),
    default="plain",
    show_default=True,
    help="plain: JSONL, plain or gzipped, or a Parquet file that `annotate --export` wrote; "
    "mtbench: votes of MT-bench.",
)
@click.option(
    "--group",
    "groups",
    multiple=True,
    metavar="START=GROUP",
    help="For mtbench: judges whose name begins with START are crowd, author or model; "
    "repeatable. Without it: expert=crowd, author=author, gpt4=model.",
)
@click.option(
    "--new",
    multiple=True,
    type=click.Choice(NEW),
    help="What the storage need not know already: the arms, the prompts, or the experiment, whose "
    "arms and prompts are new then too; repeatable.",
)
def command(
    *,
    storage: str,
    files: tuple[Path, ...],
    experiment: str,
    layout: str,
    groups: tuple[str, ...],
    new: "tuple[New, ...]",
) -> None:
    """Bring labels of people or models into a storage.

    Experiment, arms and prompts that the storage does not know are refused, unless --new says
    that they are new. A file that was imported before changes nothing.
    """
    from lima.rating.importing import MTBENCH_GROUPS, import_labels
    from lima.store.storage import Storage

    by_start = dict(map(_group, groups)) or MTBENCH_GROUPS
    opened = Storage(storage)
    for path in files:
        found = import_labels(path, opened, experiment, layout, by_start, new=new)  # type: ignore[arg-type]
        part = f"{found.there} of which were" if found.there < found.rows else "which were"
        state = f", {part} there already" if found.there else ""
        if found.corrected:
            state += f", {found.corrected} of which take the place of others"
        if found.overruled:
            state += f", {found.overruled} of which later files have corrected: those count"
        if found.renamed:
            state += ", now with the keys of responses that came since"
        say(f"{path}: {found.rows} labels{state} (run {found.run_id})")
        if found.unmatched:
            say(
                f"{path}: {found.unmatched} of them are of responses that {storage} does not hold: "
                "they meet no labels of people or judges here"
            )


def _group(text: str) -> tuple[str, str]:
    start, separator, group = text.partition("=")
    if not (start and separator and group in ("crowd", "author", "model")):
        raise InputError(f"--group {text}: write START=GROUP with crowd, author or model")
    return start, group
