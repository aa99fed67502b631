"""`lima-k8s explain`."""

from typing import TYPE_CHECKING

import click

from lima_k8s.commands import completion
from lima_k8s.commands.options import cluster_options, format_option
from lima_k8s.terminal.output import write_json, write_table

if TYPE_CHECKING:
    from lima_k8s.cluster.watch.explain import Explanation


@click.command("explain")
@click.argument("run", shell_complete=completion.runs)
@cluster_options
@format_option("text", "json")
def command(
    *, run: str, kube_context: str | None, namespace: str | None, output_format: str
) -> None:
    """Say why a run is not running, and what would have to change.

    Quota by flavor, who is ahead, who holds what it waits for. RUN as in `lima-k8s status`.
    """
    from lima.common.clock import now
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.read.snapshot import choose, queue_of, read, read_supply
    from lima_k8s.cluster.watch.explain import as_json, explain
    from lima_k8s.cluster.watch.logs import with_last_words
    from lima_k8s.cluster.watch.view import views
    from lima_k8s.study.inputs import promised, told

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
        for entry in reads:
            click.echo(f"  reads:    {entry['role']}: {told(entry)}")


def _write(explanation: "Explanation") -> None:
    from lima_k8s.cluster.watch.explain import NAMED, amount_text

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
