"""`lima-k8s watch`."""

import click

from lima.errors import InputError
from lima_k8s.commands import completion
from lima_k8s.commands.options import backend_of, format_option, place_options
from lima_k8s.terminal.output import write_json


@click.command("watch")
@click.argument("run", required=False, shell_complete=completion.runs)
@place_options
@format_option("text", "json")
def command(
    *,
    run: str | None,
    storage: str | None,
    kube_context: str | None,
    namespace: str | None,
    output_format: str,
) -> None:
    """Follow runs until they end.

    Ends at once, with the cause and what to do, when a run cannot go on: an image that cannot be
    pulled, an init container that fails over and over, memory, quota that can never fit, a
    missing Secret, storage out of reach. docs/troubleshooting.md lists all causes. RUN and
    --storage as in `lima-k8s status`.
    """
    from lima_k8s.runs.view import as_json, raise_for

    backend = backend_of(storage, kube_context, namespace)
    views = backend.watch(run)
    if not views:
        raise InputError(backend.empty)
    if output_format == "json":
        write_json({**backend.place, "runs": [as_json(view) for view in views]})
    raise_for(views, asked_for=run is not None)
