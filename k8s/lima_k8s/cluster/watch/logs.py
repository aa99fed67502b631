"""The driver's log of a run: from its pod while there is one, else from its storage."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lima.errors import ClusterError, InputError, LimaError
from lima_k8s.cluster.causes.causes import STOPPED
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.api import PODS, Cluster
from lima_k8s.cluster.read.failures import UnreachableError
from lima_k8s.cluster.read.model import Container, Pod, Snapshot
from lima_k8s.cluster.read.snapshot import read_runs
from lima_k8s.runs.choose import choose
from lima_k8s.runs.model import Run
from lima_k8s.terminal.output import say

POLL_S = 2.0
PATIENCE_S = 300.0
"""Seconds that the API server may be away while a log is followed."""
THREADS = 8
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d")
LAST_LINES = 50
"""Of a log, in which a job says why it stopped."""


def lines(cluster: Cluster, run: Run, *, follow: bool) -> Iterator[str]:
    """Yield the log of a run; with `follow` until it ends, over all of its attempts.

    Raises:
        InputError: it has no log yet, and `follow` is not set.
        ClusterError: the cluster cannot be read, or is away for longer than `PATIENCE_S`.
        StorageError: the storage cannot be read.

    """
    if follow:
        yield from _followed(cluster, run)
        return
    pod = _live_pod(cluster, run)
    yield from cluster.log(pod.name, _speaker(pod).name) if pod else uploaded(run)


def _followed(cluster: Cluster, run: Run) -> Iterator[str]:
    """Yield the log of a run until it ends, whatever cuts the answers with it before that."""
    told, words = dict[str, str](), set[str]()
    complete: set[str] = set()
    patience: float | None = None
    while True:
        try:
            pod = _live_pod(cluster, run)
            if pod and pod.uid not in complete:
                for line in _new_lines(cluster, pod, told, words):
                    patience = None
                    yield line
                # What was asked for after its end has all of it; another answer may be cut short.
                # A lost node leaves its pod as running, so the run's own end counts as well.
                over = run.ended or _speaker(pod).state == "terminated"
                complete |= {pod.uid} if over else set()
            elif run.ended:
                break
            time.sleep(POLL_S)
            run = next(iter(choose(read_runs(cluster), run.name)))
            patience = None
        except UnreachableError as error:
            patience = patience or time.monotonic() + PATIENCE_S
            if time.monotonic() > patience:
                raise
            say(f"waiting: {error}")
            time.sleep(POLL_S)
    if not told:
        yield from uploaded(run)


def _new_lines(cluster: Cluster, pod: Pod, told: dict[str, str], words: set[str]) -> Iterator[str]:
    """Yield the lines of a pod that are not told yet.

    Args:
        cluster: The namespace.
        pod: Which prints the log.
        told: The time of the last line told, by the pod's uid.
        words: What kubelets have said themselves, which has no time.

    """
    last = told.get(pod.uid, "")
    for line in cluster.log(pod.name, _speaker(pod).name, follow=True, since=last):
        at, _, text = line.partition(" ")
        if not _TIME.match(at):
            if line not in words:
                words.add(line)
                yield line
        elif at > last:  # `since` goes by seconds; what is written has nine digits, always
            told[pod.uid] = at
            yield text


def uploaded(run: Run) -> Iterator[str]:
    """Yield the log of the last attempt that storage holds.

    Raises:
        InputError: there is none.
        StorageError: the storage cannot be read.

    """
    from lima.store.storage import Storage

    if not run.run_id:
        raise InputError(f"{run.name}: its ConfigMap is gone, so its log cannot be found")
    storage = Storage(run.storage)
    entries = storage.entries(f"logs/run_id={run.run_id}")
    if not entries:
        raise InputError(
            f"{run.name} has no log yet, neither in a pod nor at {run.storage}/logs; "
            f"lima-k8s explain {run.name}"
        )
    yield from storage.read(entries[-1].path).decode(errors="replace").splitlines()


def with_last_words(cluster: Cluster, snapshot: Snapshot, runs: Sequence[Run]) -> list[Run]:
    """Return `runs`; those whose job was stopped with the end of its log as their message.

    Ray says why a job failed, but not why one was stopped.
    """
    stopped = [run for run in runs if run.ended and run.job_status == STOPPED]
    with ThreadPoolExecutor(THREADS) as pool:
        words = pool.map(lambda r: _last_words(cluster, snapshot.pods.get(r.name, ()), r), stopped)
        told = {
            run.name: replace(run, message=said) for run, said in zip(stopped, words, strict=True)
        }
    return [told.get(run.name, run) for run in runs]


def _last_words(cluster: Cluster, pods: Sequence[Pod], run: Run) -> str:
    pod = _talking(pods)
    try:
        found = cluster.log(pod.name, _speaker(pod).name, last=LAST_LINES) if pod else uploaded(run)
        return "\n".join([*found][-LAST_LINES:])
    except LimaError:
        return ""  # the cause then says where to look


def _live_pod(cluster: Cluster, run: Run) -> Pod | None:
    """Return the newest pod that prints the driver's log."""
    selector = f"{parse.PREFIX}run={run.name}"
    return _talking([parse.pod(raw) for raw in cluster.list_all(PODS, selector)])


def _talking(pods: Iterable[Pod]) -> Pod | None:
    """Return the newest of the pods that print the driver's log: those that submit the job."""
    talking = [p for p in pods if p.role == "submitter" and _has_spoken(p)]
    return max(talking, key=lambda p: str(p.created), default=None)


def _has_spoken(pod: Pod) -> bool:
    return any(c.state in ("running", "terminated") for c in pod.containers if not c.init)


def _speaker(pod: Pod) -> Container:
    spoken = next((c for c in pod.containers if not c.init), None)
    if spoken is None:
        raise ClusterError(f"pod {pod.name} has no container yet; try again")
    return spoken
