"""`lima-k8s report`."""

from pathlib import Path

import click

from lima_k8s.output import say


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
@click.option("--experiment", help="Which experiment, if the storage holds several.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read.")
def command(storage: str, output: Path, experiment: str | None, skip_unreadable: bool) -> None:
    """Write a study's figures as one self-contained page.

    The page needs no network. Figures whose data is missing say how to add it. Works while a
    study runs. Prints the path of the page.
    """
    from lima.evaluation.report import write_report
    from lima.storage import Storage

    write_report(
        Storage(storage), output, experiment=experiment, skip_unreadable=skip_unreadable, note=say
    )
    click.echo(str(output))
