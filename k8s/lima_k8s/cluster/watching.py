"""Follows runs until they end, or until it is clear that they will not."""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime

from lima.clock import now
from lima.errors import LimaError
from lima_k8s.cluster.api import Cluster
from lima_k8s.cluster.failures import UnreachableError
from lima_k8s.cluster.logs import with_last_words
from lima_k8s.cluster.model import Run
from lima_k8s.cluster.records import Reader
from lima_k8s.cluster.show import display
from lima_k8s.cluster.snapshot import read
from lima_k8s.cluster.view import View, views
from lima_k8s.output import say

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
    return views(snapshot, runs, reader.read(runs, at), at)


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


def watch(cluster: Cluster, choose: Choose) -> list[View]:
    """Show runs live until each has ended or cannot go on; return them as they are then."""
    reader, told = Reader(), set[str]()
    last: list[View] = []
    with display() as show:
        for last in follow(cluster, choose, reader):
            show(last)
            told = _tell(reader.problems, told)
    return last


def raise_for(views_: Sequence[View]) -> None:
    """Raise if a run did not end well.

    Raises:
        LimaError: the message names each run with its cause and what to do.

    """
    bad = [view for view in views_ if view.state != "done"]
    if not bad:
        return
    lines = [_end(view) for view in bad]
    counts = f"{len(bad)} of {len(views_)} runs" if len(views_) > 1 else "the run"
    raise LimaError("\n  ".join([f"{counts} did not finish:", *lines]))


def _end(view: View) -> str:
    if view.cause is None:
        return f"{view.run.name}: {view.state}; lima-k8s logs {view.run.name}"
    return f"{view.run.name}: {view.cause.text}\n    fix: {view.cause.fix}"


def _tell(problems: dict[str, str], told: Collection[str]) -> set[str]:
    """Say once what keeps us from the records of a storage."""
    for uri in problems.keys() - set(told):
        say(f"no progress, attempts and GPU hours from here: {problems[uri]}")
    return set(told) | problems.keys()
