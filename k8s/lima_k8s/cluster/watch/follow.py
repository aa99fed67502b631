"""Follows runs until they end, or until it is clear that they will not."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime

from lima.common.clock import now
from lima.errors import InputError
from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.failures import UnreachableError
from lima_k8s.cluster.read.snapshot import read
from lima_k8s.cluster.watch.logs import with_last_words
from lima_k8s.cluster.watch.view import views
from lima_k8s.runs.display import display
from lima_k8s.runs.model import Run
from lima_k8s.runs.records import Reader
from lima_k8s.runs.view import Gone, View
from lima_k8s.terminal.output import say

POLL_S = 2.0
PATIENCE_S = 300.0
"""Seconds that the API server may be away, as while it is restarted, before we give up."""
Choose = Callable[[Sequence[Run]], Sequence[Run]]


def look(cluster: Cluster, choose: Choose, reader: Reader, at: datetime) -> list[View]:
    """Return the runs that `choose` takes as they are now.

    Raises:
        ClusterError: the cluster cannot be read.
        InputError: there is no such run.

    """
    snapshot = read(cluster)
    runs = with_last_words(cluster, snapshot, choose(snapshot.runs))
    return [*views(snapshot, runs, reader.read(runs, at), at)]


def follow(cluster: Cluster, choose: Choose, reader: Reader) -> Iterator[list[View]]:
    """Yield the runs every few seconds until each has ended or cannot go on.

    Raises:
        ClusterError: the API server was away for longer than `PATIENCE_S`.

    """
    patience = 0.0  # what never answered is not waited for
    while True:
        try:
            seen = look(cluster, choose, reader, now())
        except UnreachableError as error:
            if time.monotonic() > patience:
                raise
            say(f"waiting: {error}")
        else:
            patience = time.monotonic() + PATIENCE_S
            yield seen
            if all(view.ended or view.state == "blocked" for view in seen):
                return
        time.sleep(POLL_S)


def watch(cluster: Cluster, choose: Choose, expected: Collection[str] = ()) -> list[View]:
    """Show runs live until each has ended or cannot go on; return them as they are then.

    Args:
        cluster: The namespace.
        choose: Takes the runs to follow; what it took once is followed to its end.
        expected: Ids of runs that have to be there; one that is not counts as taken away.

    Returns:
        Those that are there, then those that were and are not any more.

    """
    reader, told = Reader(), set[str]()
    seen: dict[str, View] = {}
    absent = set(expected)
    last: list[View] = []

    def kept(runs: Sequence[Run]) -> list[Run]:
        return _kept(choose, runs, seen)

    with display() as show:
        for last in follow(cluster, kept, reader):
            show(last)
            told = _tell(reader.problems, told)
            seen.update((view.run.name, view) for view in last)
            absent -= {view.run.run_id for view in last}
    return [*last, *_missing(seen, last, absent)]


def _kept(choose: Choose, runs: Sequence[Run], seen: Collection[str]) -> list[Run]:
    """Return the runs that are chosen now or were before."""
    try:
        names = {run.name for run in choose(runs)}
    except InputError:
        if not seen:
            raise
        names = set()  # the one that was named is gone
    return [run for run in runs if run.name in names or run.name in seen]


def _missing(
    seen: dict[str, View], last: Sequence[View], absent: Collection[str]
) -> Iterator[View]:
    """Yield what is not on the cluster any more: as it ended, or as taken away."""
    there = {view.run.name for view in last}
    for name, view in seen.items():
        if name not in there:
            yield view if view.ended else Gone(view.run, "failed", records=view.records)
    for run_id in sorted(absent):
        yield Gone(Run(run_id, run_id=run_id), "failed")


def _tell(problems: dict[str, str], told: Collection[str]) -> set[str]:
    """Say once what keeps us from the records of a storage."""
    for uri in problems.keys() - set(told):
        say(f"no progress, attempts and GPU hours from here: {problems[uri]}")
    return set(told) | problems.keys()
