"""`lima-k8s status`."""

import click

from lima_k8s.commands import completion
from lima_k8s.commands.options import backend_of, format_option, place_options
from lima_k8s.terminal.output import say, write_json


@click.command("status")
@click.argument("run", required=False, shell_complete=completion.runs)
@place_options
@format_option("table", "json")
def command(
    *,
    run: str | None,
    storage: str | None,
    kube_context: str | None,
    namespace: str | None,
    output_format: str,
) -> None:
    """Show where runs are.

    State, place in the queue, stage and epoch, time left, attempts and GPU hours, and what is in
    the way: of runs on a cluster, or with --storage of those on one machine. RUN is a name, a run
    id or its beginning, or ARM/SEED; without it, all that there are. Progress, attempts and GPU
    hours are read from the runs' storage.
    """
    from lima_k8s.runs.display import write_views
    from lima_k8s.runs.view import as_json

    backend = backend_of(storage, kube_context, namespace)
    views = backend.states(run)
    if output_format == "json":
        write_json({**backend.place, "runs": [as_json(view) for view in views]})
    elif views:
        write_views(views)
    else:
        say(backend.empty)
