"""`lima-k8s submit`."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from shlex import quote
from typing import TYPE_CHECKING

import click

from lima.errors import InputError
from lima.recipes import load_study
from lima.spec import STAGES, CellSpec, Stage, cell_stages
from lima_k8s import completion
from lima_k8s.options import allow_key_option, cluster_options, format_option, study_options
from lima_k8s.output import say, write_json

if TYPE_CHECKING:
    from lima_k8s.local import LocalRun

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
@click.option(
    "--recipe",
    required=True,
    help="Name of a recipe, or a file as `show` prints it.",
    shell_complete=completion.recipes,
)
@study_options
@allow_key_option
@click.option(
    "--storage",
    help="Folder or URI (s3://…) for all results. With --local: lima-results; on a cluster: the "
    "profile's.",
)
@click.option("--local", is_flag=True, help="Run on this machine; the command waits for the end.")
@cluster_options
@click.option(
    "--cluster",
    "profile",
    help="Cluster profile: a name, or a file like those.",
    shell_complete=completion.profiles,
)
@click.option("--queue", help="LocalQueue; default: the profile's, else lima.")
@click.option("--priority", help="low, normal, high, none, or a WorkloadPriorityClass.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Write the manifests; with --local: say of each stage whether it is finished, goes on or "
    "is new, and why.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Take runs of before fingerprints, that this study would repeat, for its own, if what "
    "can be checked of them fits.",
)
@click.option(
    "--upload-models",
    is_flag=True,
    help="On a cluster: bring the folders of models that are on this machine to the storage too.",
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
    allowed_keys: tuple[str, ...],
    storage: str | None,
    local: bool,
    kube_context: str | None,
    namespace: str | None,
    profile: str | None,
    queue: str | None,
    priority: str | None,
    dry_run: bool,
    adopt: bool,
    upload_models: bool,
    wait: bool,
    output_format: str,
) -> None:
    """Run a study: all stages up to KIND.

    On a cluster each run is a RayJob that lines up in a Kueue queue; with --local it runs here.
    What the storage holds already is not computed again, so that the same command resumes a
    study that was interrupted. The same submitted twice is one run. A run is named by what its
    inputs contain: one that has changed makes a new run, which is said. Files of this machine that
    runs on a cluster read are brought to the storage, once.
    """
    _allow(allowed_keys, local=local)
    study = load_study(recipe, overrides, arms, seeds)
    cells = study_up_to(study, LAST_STAGE[kind])
    if others := sorted({cell.arm for cell in study} - {cell.arm for cell in cells}):
        say(f"left out, since they have nothing up to {LAST_STAGE[kind]}: {', '.join(others)}")
    _refuse_errors(cells, local=local)
    _say_what_is_left_out(kind, cells)
    if local:
        place = storage or LOCAL_STORAGE
        _run_here(kind, cells, place, output_format, dry_run=dry_run, adopt=adopt)
        return
    from lima_k8s.cluster.launch import Target, launch, render, storage_of
    from lima_k8s.delivery import Delivery, deliver

    target = Target(kube_context, namespace, profile, queue, priority, storage)
    delivery = Delivery(storage_of(target), adopt=adopt, models=upload_models, dry_run=dry_run)
    sent = deliver(cells, delivery)
    if dry_run:
        render(kind, sent, target, output_format)
    else:
        launch(kind, sent, target, wait=wait, output_format=output_format)


def _run_here(
    kind: str,
    cells: list[CellSpec],
    storage: str,
    output_format: str,
    *,
    dry_run: bool,
    adopt: bool,
) -> None:
    from lima_k8s.inputs import keep_copies, look, say_changes, say_unknown, settled
    from lima_k8s.local import LocalRun

    run = LocalRun(cells, storage)
    prepared = look(cells, storage=run.storage)
    say_unknown(prepared)
    run.cells = settled(run.storage, cells, prepared, adopt=adopt)
    if dry_run:
        _foretell(run, output_format)
        return
    say_changes(run.storage, run.cells)
    for line in run.plan():
        say(line)
    keep_copies(run.storage, prepared)
    run.run()
    command = "curate show" if kind == "curate" else "aggregate"
    say(f"results: {storage}\nnext:    lima-k8s {command} {quote(storage)}")
    if output_format == "json":
        write_json({"storage": run.storage.uri, "runs": run.summary()})


def _foretell(run: "LocalRun", output_format: str) -> None:
    """Write what each stage would do, and why."""
    from dataclasses import asdict

    from lima_k8s.forecast import forecast

    run.require_keys()
    found = list(zip(run.summary(), forecast(run.storage, run.cells), strict=True))
    if output_format == "json":
        runs = [{**cell, "stages": [asdict(s) for s in stages]} for cell, stages in found]
        write_json({"storage": run.storage.uri, "runs": runs})
        return
    for cell, stages in found:
        finished = "finished already" if cell["finished"] else "to run"
        click.echo(f"{cell['run_id']}  {cell['arm']} seed {cell['seed']}  {finished}")
        for stage in stages:
            click.echo(f"  {stage.stage:8}  {stage.run}  {stage.state:8}  {stage.why}")


def _allow(keys: Sequence[str], *, local: bool) -> None:
    from lima.judging.key import allow_keys

    if keys and not local:
        raise InputError(
            "--allow-key is for --local; in a cluster, name the key in its Secret *_API_KEY or "
            "*_TOKEN"
        )
    allow_keys(keys)


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


def study_up_to(cells: Sequence[CellSpec], last: Stage) -> list[CellSpec]:
    """Return a study without the stages after `last`, and without the arms that have none then.

    Raises:
        InputError: nothing is left of any arm.

    """
    stages = {*STAGES[: STAGES.index(last) + 1]}
    some = [cell for cell in cells if stages & {*cell_stages(cell)}]
    return [up_to(cell, last) for cell in some or cells]


def kinds_of(cells: Sequence[CellSpec]) -> dict[str, list[CellSpec]]:
    """Return what a study can be submitted as, with the cells that each kind would run."""
    found: dict[str, list[CellSpec]] = {}
    for kind, last in LAST_STAGE.items():
        # All stages, also without a judge; the other kinds need the stage that they end with.
        wanted = set(STAGES) - {"curate"} if kind == "ablation" else {last}
        with contextlib.suppress(InputError):  # an arm has no stage up to there
            cut = study_up_to(cells, last)
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
