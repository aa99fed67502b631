"""`lima-k8s submit`."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from shlex import quote

import click

from lima.errors import InputError
from lima.recipes import load_study
from lima.spec import STAGES, CellSpec, Stage, cell_stages
from lima_k8s.options import cluster_options, format_option, study_options
from lima_k8s.output import say, write_json

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
    help="Folder or URI (s3://…) for all results. With --local: lima-results; on a cluster: the "
    "profile's.",
)
@click.option("--local", is_flag=True, help="Run on this machine; the command waits for the end.")
@cluster_options
@click.option("--cluster", "profile", help="Cluster profile: a name, or a file like those.")
@click.option("--queue", help="LocalQueue; default: the profile's, else lima.")
@click.option("--priority", help="low, normal, high, none, or a WorkloadPriorityClass.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Write the manifests; with --local: say what would run and what is finished.",
)
@click.option(
    "--wait", is_flag=True, help="Wait for the end, as `watch` does; --local always does."
)
@format_option("text", "json")
def command(
    *,
    kind: str,
    recipe: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    storage: str | None,
    local: bool,
    kube_context: str | None,
    namespace: str | None,
    profile: str | None,
    queue: str | None,
    priority: str | None,
    dry_run: bool,
    wait: bool,
    output_format: str,
) -> None:
    """Run a study: all stages up to KIND.

    On a cluster each run is a RayJob that lines up in a Kueue queue; with --local it runs here.
    What the storage holds already is not computed again, so that the same command resumes a
    study that was interrupted. The same submitted twice is one run.
    """
    cells = [up_to(cell, LAST_STAGE[kind]) for cell in load_study(recipe, overrides, arms, seeds)]
    _refuse_errors(cells, local=local)
    _say_what_is_left_out(kind, cells)
    if local:
        _run_here(kind, cells, storage or LOCAL_STORAGE, output_format, dry_run=dry_run)
        return
    from lima_k8s.cluster.launch import Target, launch, render

    target = Target(kube_context, namespace, profile, queue, priority, storage)
    if dry_run:
        render(kind, cells, target, output_format)
    else:
        launch(kind, cells, target, wait=wait, output_format=output_format)


def _run_here(
    kind: str, cells: list[CellSpec], storage: str, output_format: str, *, dry_run: bool
) -> None:
    from lima_k8s.local import LocalRun

    run = LocalRun(cells, storage)
    for line in run.plan():
        say(line)
    if not dry_run:
        run.run()
        command = "curate show" if kind == "curate" else "aggregate"
        say(f"results: {storage}\nnext:    lima-k8s {command} {quote(storage)}")
    if output_format == "json":
        write_json({"storage": run.storage.uri, "runs": run.summary()})


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


def kinds_of(cells: Sequence[CellSpec]) -> dict[str, list[CellSpec]]:
    """Return what a study can be submitted as, with the cells that each kind would run."""
    found: dict[str, list[CellSpec]] = {}
    for kind, last in LAST_STAGE.items():
        # All stages, also without a judge; the other kinds need the stage that they end with.
        wanted = set(STAGES) - {"curate"} if kind == "ablation" else {last}
        with contextlib.suppress(InputError):  # an arm has no stage up to there
            cut = [up_to(cell, last) for cell in cells]
            if any(wanted & {*cell_stages(cell)} for cell in cut):
                found[kind] = cut
    return found


def _refuse_errors(cells: list[CellSpec], *, local: bool) -> None:
    from lima.lint import lint
    from lima_k8s.cluster.study_rules import not_of_this_machine
    from lima_k8s.findings import refuse_errors

    findings = lint(cells) if local else not_of_this_machine(lint(cells))
    refuse_errors(findings, "this study cannot run as it is")


def _say_what_is_left_out(kind: str, cells: list[CellSpec]) -> None:
    if kind in ("ablation", "judge") and not any(cell.judge for cell in cells):
        say(
            "no judge is set: responses are not scored; add one with "
            "--set judge.base_url=http://HOST/v1 --set judge.model=NAME"
        )
