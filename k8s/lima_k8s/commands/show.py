"""`lima-k8s show`."""

import click

from lima.codec import encode, run_id
from lima.recipes import load_study
from lima.spec import CellSpec, cell_stages
from lima_k8s import completion
from lima_k8s.options import format_option, study_options
from lima_k8s.output import write_json, write_yaml


@click.command("show")
@click.argument("recipe", shell_complete=completion.recipes)
@study_options
@format_option("yaml", "json")
def command(
    recipe: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output_format: str,
) -> None:
    """Show the full specs of a recipe or a file.

    RECIPE is a name from `lima-k8s recipes`, or a JSON or YAML file. What this command writes
    is such a file: edit it, then give it to lint or submit. `run_ids` in it names the run of
    every stage and is not read back.
    """
    cells = load_study(recipe, overrides, arms, seeds)
    document = {
        "runs": [encode(cell) for cell in cells],
        "run_ids": [_run_ids(cell) for cell in cells],
    }
    write = write_json if output_format == "json" else write_yaml
    write(document)


def _run_ids(cell: CellSpec) -> dict[str, object]:
    return {
        "arm": cell.arm,
        "seed": cell.seed,
        "run": run_id(cell),
        "stages": {stage: run_id(cell, stage) for stage in cell_stages(cell)},
    }
