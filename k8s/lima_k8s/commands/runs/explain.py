"""`lima-k8s explain`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from lima_k8s.commands import completion
from lima_k8s.commands.options import backend_of, format_option, place_options
from lima_k8s.terminal.output import write_json, write_table

if TYPE_CHECKING:
    from lima_k8s.cluster.watch.explain import Explanation


HERE = {"queued": "waits for its turn: its job runs other runs first"}
"""What a state means on one machine, where that differs."""


@click.command("explain")
@click.argument("run", shell_complete=completion.runs)
@place_options
@format_option("text", "json")
def command(
    *,
    run: str,
    storage: str | None,
    kube_context: str | None,
    namespace: str | None,
    output_format: str,
) -> None:
    """Say why a run is not running, and what would have to change.

    Quota by flavor, who is ahead, who holds what it waits for; on one machine what ended its job.
    RUN and --storage as in `lima-k8s status`.
    """
    if storage is not None:
        _explain_here(storage, kube_context, namespace, run, output_format)
        return
    from lima.common.clock import now
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import queue_of, read, read_supply
    from lima_k8s.cluster.watch.explain import as_json, explain
    from lima_k8s.cluster.watch.logs import with_last_words
    from lima_k8s.cluster.watch.view import views
    from lima_k8s.runs.choose import choose
    from lima_k8s.study.inputs import promised

    cluster = Cluster(kube_context, namespace)
    snapshot, supply = read(cluster), read_supply(cluster)
    runs = with_last_words(cluster, snapshot, choose(snapshot.runs, run))
    seen = views(snapshot, runs, {}, now())
    found = [explain(view, snapshot, queue_of(snapshot, view.run), supply) for view in seen]
    inputs = [promised(view.run.cell) for view in seen]
    if output_format == "json":
        pairs = zip(found, inputs, strict=True)
        write_json({"runs": [{**as_json(e), "inputs": reads} for e, reads in pairs]})
        return
    for explanation, reads in zip(found, inputs, strict=True):
        _write(explanation)
        _write_inputs(reads)


def _explain_here(
    storage: str, kube_context: str | None, namespace: str | None, run: str, output_format: str
) -> None:
    from lima_k8s.runs.view import STATES, as_json
    from lima_k8s.study.inputs import promised

    found = backend_of(storage, kube_context, namespace).states(run)
    inputs = [promised(view.run.cell) for view in found]
    if output_format == "json":
        pairs = zip(found, inputs, strict=True)
        runs = [{**as_json(view), "inputs": reads} for view, reads in pairs]
        write_json({"storage": storage, "runs": runs})
        return
    for view, reads in zip(found, inputs, strict=True):
        why = view.cause.text if view.cause else HERE.get(view.state, STATES[view.state])
        click.echo(f"{view.run.name}: {view.state}: {why}")
        if view.cause:
            click.echo(f"  to run:   {view.cause.fix}")
        _write_inputs(reads)


def _write_inputs(reads: Sequence[dict[str, Any]]) -> None:
    from lima_k8s.study.inputs import told

    for entry in reads:
        click.echo(f"  reads:    {entry['role']}: {told(entry)}")


def _write(explanation: "Explanation") -> None:
    from lima_k8s.cluster.watch.explain import NAMED
    from lima_k8s.cluster.watch.quota_by_flavor import amount_text

    click.echo(f"{explanation.name}: {explanation.state}: {explanation.summary}")
    if place := explanation.place:
        whole = f", {place.in_cluster_queue} in all namespaces" if place.in_cluster_queue else ""
        click.echo(f"  place:    {place.in_queue} in its queue{whole}")
    for title, names in (("ahead", explanation.ahead), ("holding", explanation.holding)):
        if names:
            more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
            click.echo(f"  {title + ':':9} {', '.join(names[:NAMED])}{more}")
    if explanation.needs:
        write_table(
            ("  QUOTA", "FLAVOR", "ASKED", "USED", "OF", "MISSING"),
            [
                (
                    f"  {need.resource}",
                    need.flavor,
                    *(
                        amount_text(need.resource, value)
                        for value in (need.asked, need.used, need.nominal, need.missing)
                    ),
                )
                for need in explanation.needs
            ],
        )
    if explanation.kueue_says:
        click.echo(f"  Kueue:    {explanation.kueue_says}")
    for change in explanation.changes:
        click.echo(f"  to run:   {change}")
