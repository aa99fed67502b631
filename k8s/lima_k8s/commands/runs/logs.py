"""`lima-k8s logs`."""

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.commands.options import cluster_options, format_option
from lima_k8s.terminal.output import write_json


@click.command("logs")
@click.argument("run", shell_complete=completion.runs)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@cluster_options
@format_option("text", "json")
def command(
    *, run: str, follow: bool, kube_context: str | None, namespace: str | None, output_format: str
) -> None:
    """Show the log of a run.

    From its pod while there is one, else from its storage, to which the job uploads it. RUN as
    in `lima-k8s status`.
    """
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import choose, read_runs
    from lima_k8s.cluster.watch.logs import lines

    if follow and output_format == "json":
        raise InputError("--follow writes lines as they come; leave out --format json")
    cluster = Cluster(kube_context, namespace)
    chosen = choose(read_runs(cluster), run)
    if len(chosen) != 1:
        raise InputError(f"{run!r} names {len(chosen)} runs: {', '.join(r.name for r in chosen)}")
    found = lines(cluster, chosen[0], follow=follow)
    if output_format == "json":
        write_json({"run": chosen[0].name, "lines": list(found)})
        return
    for line in found:
        click.echo(line)
