"""`lima-k8s submit`."""

from collections.abc import Sequence
from shlex import quote
from typing import TYPE_CHECKING

import click

from lima.errors import InputError
from lima.spec import CellSpec
from lima_k8s.commands import completion
from lima_k8s.commands.options import (
    allow_key_option,
    cluster_options,
    format_option,
    study_options,
)
from lima_k8s.profile.kinds import KINDS, study_up_to
from lima_k8s.study.chosen import chosen_study
from lima_k8s.terminal.output import say, write_json

if TYPE_CHECKING:
    from lima_k8s.local.run import LocalRun

LOCAL_STORAGE = "lima-results"


@click.command("submit")
@click.argument("kind", type=click.Choice(list(KINDS)))
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
    extensions: tuple[str, ...],
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
    study = chosen_study(recipe, overrides, arms, seeds, extensions)
    cells = study_up_to(study, KINDS[kind].last)
    if others := sorted({cell.arm for cell in study} - {cell.arm for cell in cells}):
        say(f"left out, since they have nothing up to {KINDS[kind].last}: {', '.join(others)}")
    _refuse_errors(cells, local=local)
    _say_what_is_left_out(kind, cells)
    if local:
        place = storage or LOCAL_STORAGE
        _run_here(kind, cells, place, output_format, dry_run=dry_run, adopt=adopt)
        return
    from lima_k8s.cluster.submit.launch import Target, launch, refuse_unfit, render, storage_of
    from lima_k8s.study.delivery import Delivery, deliver

    target = Target(kube_context, namespace, profile, queue, priority, storage)
    refuse_unfit(cells, target)
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
    from lima_k8s.local.run import LocalRun
    from lima_k8s.study.inputs import keep_copies, look, say_changes, say_unknown, settled

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

    from lima_k8s.study.forecast import forecast

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
    from lima.endpoints.keys import allow_keys

    if keys and not local:
        raise InputError(
            "--allow-key is for --local; in a cluster, give the key in its Secret a name *_API_KEY "
            "or *_TOKEN that is none of another service, as JUDGE_API_KEY"
        )
    allow_keys(keys)


def _refuse_errors(cells: list[CellSpec], *, local: bool) -> None:
    from lima.lint import lint
    from lima_k8s.cluster.rules.study import not_of_this_machine
    from lima_k8s.study.findings import refuse_errors

    findings = lint(cells) if local else not_of_this_machine(lint(cells))
    refuse_errors(findings, "this study cannot run as it is")


def _say_what_is_left_out(kind: str, cells: list[CellSpec]) -> None:
    if kind in ("ablation", "judge") and not any(cell.judge for cell in cells):
        say(
            "no judge is set: responses are not scored; add one with "
            "--set judge.base_url=http://HOST/v1 --set judge.model=NAME"
        )
