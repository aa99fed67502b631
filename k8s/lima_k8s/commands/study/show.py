"""`lima-k8s show`."""

import click

from lima.recipes.overrides import apply_overrides
from lima.spec import CellSpec, cell_stages
from lima.spec.codec import encode, run_id
from lima_k8s.commands import completion
from lima_k8s.commands.options import format_option, study_options
from lima_k8s.study.chosen import chosen_study
from lima_k8s.terminal.output import write_json, write_yaml


@click.command("show")
@click.argument("recipe", metavar="RECIPE-or-RUN", shell_complete=completion.recipes)
@click.option("--storage", help="Show the study of a run of this storage, by its id.")
@study_options
@format_option("yaml", "json")
def command(
    recipe: str,
    *,
    storage: str | None,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    extensions: tuple[str, ...],
    output_format: str,
) -> None:
    """Show the full specs of a recipe, a file or a run.

    RECIPE is a name from `lima-k8s recipes`, or a JSON or YAML file. What this command writes
    is such a file: edit it, then give it to lint or submit. `run_ids` and `inputs` in it name the
    run of every stage and what it reads, and are not read back. With --storage RECIPE is the id of
    a run there; its study reads the copies of its inputs that the storage keeps.
    """
    from lima_k8s.study.inputs import documents, look, study_of

    if storage is None:
        cells = chosen_study(recipe, overrides, arms, seeds, extensions)
    else:
        cells = apply_overrides(study_of(storage, recipe), overrides)
    prepared = look(cells)
    document = {
        "runs": [encode(cell) for cell in cells],
        "run_ids": [_run_ids(cell) for cell in prepared.cells],
        "inputs": documents(prepared),
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
