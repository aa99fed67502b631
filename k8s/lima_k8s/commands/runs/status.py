"""`lima-k8s status`."""

import click

from lima_k8s.commands import completion
from lima_k8s.commands.options import cluster_options, format_option
from lima_k8s.terminal.output import say, write_json


@click.command("status")
@click.argument("run", required=False, shell_complete=completion.runs)
@cluster_options
@format_option("table", "json")
def command(
    *, run: str | None, kube_context: str | None, namespace: str | None, output_format: str
) -> None:
    """Show where runs on a cluster are.

    State, place in the queue, stage and epoch, time left, attempts and GPU hours, and what is in
    the way. RUN is a name, a run id or its beginning, or ARM/SEED; without it, all runs of the
    namespace. Progress, attempts and GPU hours are read from the runs' storage.
    """
    from lima.common.clock import now
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import choose
    from lima_k8s.cluster.watch.display import write_views
    from lima_k8s.cluster.watch.follow import look
    from lima_k8s.cluster.watch.storage_state import Reader
    from lima_k8s.cluster.watch.view import as_json

    cluster, reader = Cluster(kube_context, namespace), Reader()
    views = look(cluster, lambda runs: choose(runs, run), reader, now())
    for problem in reader.problems.values():
        say(f"no progress, attempts and GPU hours from here: {problem}")
    if output_format == "json":
        write_json({"namespace": cluster.namespace, "runs": [as_json(view) for view in views]})
    elif views:
        write_views(views)
    else:
        say(f"no runs in namespace {cluster.namespace}; lima-k8s submit starts some")
