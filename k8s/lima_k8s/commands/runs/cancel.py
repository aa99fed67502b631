"""`lima-k8s cancel`."""

import sys

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.commands.options import cluster_options, format_option
from lima_k8s.terminal.output import say, write_json


@click.command("cancel")
@click.argument("runs", nargs=-1, shell_complete=completion.runs)
@click.option("--all", "every", is_flag=True, help="All runs of the namespace.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--wait", is_flag=True, help="Wait until they and their pods are gone.")
@cluster_options
@format_option("text", "json")
def command(
    *,
    runs: tuple[str, ...],
    every: bool,
    yes: bool,
    wait: bool,
    kube_context: str | None,
    namespace: str | None,
    output_format: str,
) -> None:
    """Take runs off a cluster and free their GPUs.

    Results stay: submitting the same again goes on where they were. A training run saves its
    state first, within its grace period. RUNS as in `lima-k8s status`; each may name several.
    """
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import choose, read_runs
    from lima_k8s.cluster.submit.helm import Helm
    from lima_k8s.cluster.submit.removal import remove, remove_empty, wait_until_gone

    if bool(runs) == every:
        raise InputError("name the runs to cancel, or say --all")
    cluster = Cluster(kube_context, namespace)
    there = read_runs(cluster)
    named = [run for text in runs or (None,) for run in choose(there, text)]
    chosen = list({run.name: run for run in named}.values())
    if chosen and not yes:
        _confirm([f"{r.name} ({r.arm} seed {r.seed})" for r in chosen], cluster.namespace)
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


def _confirm(names: list[str], namespace: str) -> None:
    if not sys.stdin.isatty():
        raise InputError("this asks before it cancels, and nobody is there to answer; add --yes")
    say("\n".join([f"in namespace {namespace}:", *(f"  {name}" for name in names)]))
    click.confirm(f"Cancel {len(names)} run{'' if len(names) == 1 else 's'}?", abort=True, err=True)
