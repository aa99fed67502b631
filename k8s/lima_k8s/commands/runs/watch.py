"""`lima-k8s watch`."""

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.commands.options import cluster_options, format_option
from lima_k8s.terminal.output import write_json


@click.command("watch")
@click.argument("run", required=False, shell_complete=completion.runs)
@cluster_options
@format_option("text", "json")
def command(
    *, run: str | None, kube_context: str | None, namespace: str | None, output_format: str
) -> None:
    """Follow runs on a cluster until they end.

    Ends at once, with the cause and what to do, when a run cannot go on: an image that cannot be
    pulled, an init container that fails over and over, memory, quota that can never fit, a
    missing Secret, storage out of reach. docs/troubleshooting.md lists all causes. RUN as in
    `lima-k8s status`.
    """
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import choose
    from lima_k8s.cluster.watch.follow import raise_for, watch
    from lima_k8s.cluster.watch.view import as_json

    cluster = Cluster(kube_context, namespace)
    views = watch(cluster, lambda runs: choose(runs, run))
    if not views:
        raise InputError(f"no runs in namespace {cluster.namespace}; lima-k8s submit starts some")
    if output_format == "json":
        write_json({"namespace": cluster.namespace, "runs": [as_json(view) for view in views]})
    raise_for(views, asked_for=run is not None)
