"""`lima-k8s export`."""

from pathlib import Path

import click

from lima_k8s.terminal.output import say

LAYOUTS = ("jsonl", "alpaca-eval", "mt-bench", "hf")


@click.command("export")
@click.argument("storage")
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder to write to; files there of the same names are replaced.",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(LAYOUTS),
    default=LAYOUTS[0],
    show_default=True,
    help="jsonl: conversations with roles; alpaca-eval: its model_outputs; mt-bench: FastChat's "
    "questions and model_answer; hf: a folder for datasets.load_dataset.",
)
@click.option("--arm", "arms", multiple=True, help="Only this arm; repeatable.")
@click.option("--experiment", help="Only this experiment.")
def command(
    storage: str, output: Path, layout: str, arms: tuple[str, ...], experiment: str | None
) -> None:
    """Write responses as other evaluators read them, a file an arm.

    Prints the files. An evaluator that knows one turn gets no dialogues, and none but the first
    of several samples; how many were left out is said.
    """
    from lima.evaluation.exporting import export, read_all
    from lima.store.storage import Storage

    for written in export(read_all(Storage(storage), arms, experiment), output, layout):
        left = f", {written.left_out} left out" if written.left_out else ""
        say(f"{written.responses} responses{left}")
        click.echo(str(written.path))
