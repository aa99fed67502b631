"""`lima-k8s cancel`."""

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.commands.options import format_option, place_options, refuse_both
from lima_k8s.terminal.output import say, write_json

if TYPE_CHECKING:
    from lima_k8s.runs.model import Run


@click.command("cancel")
@click.argument("runs", nargs=-1, shell_complete=completion.runs)
@click.option("--all", "every", is_flag=True, help="All runs of the namespace.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Wait until they and their pods are gone.")
@place_options
@format_option("text", "json")
def command(
    *,
    runs: tuple[str, ...],
    every: bool,
    yes: bool,
    wait: bool,
    storage: str | None,
    kube_context: str | None,
    namespace: str | None,
    output_format: str,
) -> None:
    """Take runs off a cluster and free their GPUs.

    Results stay: submitting the same again goes on where they were. A training run saves its
    state first, within its grace period. RUNS and --storage as in `lima-k8s status`; each may name
    several. On one machine a job is stopped with all of its runs.
    """
    if bool(runs) == every:
        raise InputError("name the runs to cancel, or say --all")
    if storage is not None:
        refuse_both(storage, kube_context, namespace)
        _cancel_here(storage, runs or (None,), output_format, yes=yes, wait=wait)
        return
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import read_runs
    from lima_k8s.cluster.submit.helm import Helm
    from lima_k8s.cluster.submit.removal import remove, remove_empty, wait_until_gone
    from lima_k8s.runs.choose import choose

    cluster = Cluster(kube_context, namespace)
    there = read_runs(cluster)
    named = [run for text in runs or (None,) for run in choose(there, text)]
    chosen = list({run.name: run for run in named}.values())
    if chosen and not yes:
        _confirm([_named(r) for r in chosen], f"in namespace {cluster.namespace}")
    helm = Helm(cluster.namespace, kube_context)
    gone = remove(cluster, helm, chosen, there)
    gone += remove_empty(cluster, helm, there) if every else []
    if wait:
        wait_until_gone(cluster, chosen)
    names = [run.name for run in chosen]
    if output_format == "json":
        write_json({"cancelled": names, "releases": gone})
        return
    for run in chosen:
        say(f"cancelled {run.name}; its results stay at {run.storage}")
    if not chosen:
        say(f"no runs in namespace {cluster.namespace}")


def _cancel_here(
    storage: str, runs: Sequence[str | None], output_format: str, *, yes: bool, wait: bool
) -> None:
    from lima_k8s.local.backend import StorageRuns

    found = StorageRuns(storage).to_cancel(runs)
    if found.runs and not yes:
        _confirm([_named(run) for run in found.runs], f"on this machine, of {storage}")
    found.send(wait=wait)
    if output_format == "json":
        write_json({"cancelled": [run.name for run in found.runs]})
        return
    for run in found.runs:
        say(f"stopping {run.name}: its work is saved; its results stay at {storage}")
    if not found.runs:
        say(f"no runs to cancel in {storage}")


def _named(run: "Run") -> str:
    return f"{run.name} ({run.arm} seed {run.seed})"


def _confirm(names: list[str], where: str) -> None:
    if not sys.stdin.isatty():
        raise InputError("this asks before it cancels, and nobody is there to answer; add --yes")
    say("\n".join([f"{where}:", *(f"  {name}" for name in names)]))
    click.confirm(f"Cancel {len(names)} run{'' if len(names) == 1 else 's'}?", abort=True, err=True)
