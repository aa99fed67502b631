"""`lima-k8s report`."""

from pathlib import Path

import click

from lima_k8s.commands.options import as_option
from lima_k8s.terminal.output import say


@click.command("report")
@click.argument("storage")
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    default="report.html",
    show_default=True,
    help="File to write.",
)
@click.option(
    "--figures",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for each figure as SVG and as PNG.",
)
@click.option("--experiment", help="Which experiment, if the storage holds several.")
@as_option
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read.")
def command(
    *,
    storage: str,
    output: Path,
    figures: Path | None,
    experiment: str | None,
    named: dict[str, str],
    skip_unreadable: bool,
) -> None:
    """Write a study's figures as one self-contained page.

    The page needs no network. Figures whose data is missing say how to add it. Works while a
    study runs. Prints the path of the page.
    """
    from lima.evaluation.report.page import write_report
    from lima.store.storage import Storage

    for folder in (output.parent, figures):
        if folder and not folder.exists():
            say(f"making the folder {folder}")
    found = write_report(
        Storage(storage),
        output,
        experiment=experiment,
        figures=figures,
        named=named,
        skip_unreadable=skip_unreadable,
        note=say,
    )
    if figures:
        drawn = [name for name, panel in found.figures.items() if panel]
        say(f"{len(drawn)} figures in {figures}, as SVG and PNG: {', '.join(drawn)}")
    click.echo(str(output))
