"""`lima-k8s logs`."""

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.commands.options import backend_of, format_option, place_options
from lima_k8s.terminal.output import write_json


@click.command("logs")
@click.argument("run", shell_complete=completion.runs)
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@place_options
@format_option("text", "json")
def command(
    *,
    run: str,
    follow: bool,
    storage: str | None,
    kube_context: str | None,
    namespace: str | None,
    output_format: str,
) -> None:
    """Show the log of a run.

    On a cluster from its pod while there is one, else from its storage, to which the job uploads
    it; on one machine that of its job. RUN and --storage as in `lima-k8s status`.
    """
    if follow and output_format == "json":
        raise InputError("--follow writes lines as they come; leave out --format json")
    name, found = backend_of(storage, kube_context, namespace).logs(run, follow=follow)
    if output_format == "json":
        write_json({"run": name, "lines": list(found)})
        return
    for line in found:
        click.echo(line)
