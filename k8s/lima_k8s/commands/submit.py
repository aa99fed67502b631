"""`lima-k8s submit`."""

from dataclasses import replace

import click

from lima.errors import InputError
from lima.recipes import load_study
from lima.spec import STAGES, CellSpec, Stage, cell_stages
from lima_k8s.options import study_options
from lima_k8s.output import say

LAST_STAGE: dict[str, Stage] = {
    "train": "train",
    "ablation": "judge",
    "generate": "generate",
    "judge": "judge",
    "curate": "curate",
}
LOCAL_STORAGE = "lima-results"


@click.command("submit")
@click.argument("kind", type=click.Choice(list(LAST_STAGE)))
@click.option("--recipe", required=True, help="Name of a recipe, or a file as `show` prints it.")
@study_options
@click.option(
    "--storage",
    default=LOCAL_STORAGE,
    show_default=True,
    help="Folder or URI (s3://…) for all results.",
)
@click.option("--local", is_flag=True, help="Run on this machine; the command waits for the end.")
@click.option("--dry-run", is_flag=True, help="Show what would run and what is finished already.")
@click.option("--wait", is_flag=True, help="Wait for the end; --local always does.")
def command(
    *,
    kind: str,
    recipe: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    storage: str,
    local: bool,
    dry_run: bool,
    wait: bool,  # noqa: ARG001
) -> None:
    """Run a study: all stages up to KIND.

    What the storage holds already is not computed again, so that the same command resumes a
    study that was interrupted, and does nothing for one that is finished.
    """
    if not local:
        raise InputError("this version runs studies on one machine; add --local")
    cells = [up_to(cell, LAST_STAGE[kind]) for cell in load_study(recipe, overrides, arms, seeds)]
    _refuse_errors(cells)
    _say_what_is_left_out(kind, cells)
    from lima_k8s.local import LocalRun

    run = LocalRun(cells, storage)
    for line in run.plan():
        say(line)
    if not dry_run:
        run.run()
        command = "curate show" if kind == "curate" else "aggregate"
        say(f"results: {storage}\nnext:    lima-k8s {command} {storage}")


def up_to(cell: CellSpec, last: Stage) -> CellSpec:
    """Return `cell` without the stages after `last`.

    Raises:
        InputError: nothing is left.

    """
    later = STAGES[STAGES.index(last) + 1 :]
    cut = replace(cell, **dict.fromkeys(later, None))  # type: ignore[arg-type]
    if not cell_stages(cut):
        raise InputError(f"arm {cell.arm!r} has no stage up to {last!r}; see `lima-k8s show`")
    return cut


def _refuse_errors(cells: list[CellSpec]) -> None:
    from lima.lint import lint

    findings = lint(cells)
    errors = [finding for finding in findings if finding.level == "error"]
    if errors:
        lines = "\n".join(f"  {f.path}: {f.message}; {f.fix}" for f in errors)
        raise InputError(f"this study cannot run as it is:\n{lines}")
    for finding in findings:
        if finding.level == "warning":
            fix = f"; {finding.fix}" if finding.fix else ""
            say(f"warning: {finding.path}: {finding.message}{fix}")


def _say_what_is_left_out(kind: str, cells: list[CellSpec]) -> None:
    if kind in ("ablation", "judge") and not any(cell.judge for cell in cells):
        say(
            "no judge is set: responses are not scored; add one with "
            "--set judge.base_url=http://HOST/v1 --set judge.model=NAME"
        )
