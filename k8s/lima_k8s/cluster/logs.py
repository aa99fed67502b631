"""The driver's log of a run: from its pod while there is one, else from its storage."""

import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lima.errors import ClusterError, InputError, LimaError
from lima_k8s.cluster import parse
from lima_k8s.cluster.api import PODS, Cluster
from lima_k8s.cluster.causes import STOPPED
from lima_k8s.cluster.model import Container, Pod, Run, Snapshot
from lima_k8s.cluster.snapshot import choose, read_runs

POLL_S = 2.0
THREADS = 8
LAST_LINES = 50
"""Of a log, in which a job says why it stopped."""


def lines(cluster: Cluster, run: Run, *, follow: bool) -> Iterator[str]:
    """Yield the log of a run; with `follow` until it ends, over all of its attempts.

    Raises:
        InputError: it has no log yet, and `follow` is not set.
        ClusterError: the cluster cannot be read.
        StorageError: the storage cannot be read.

    """
    seen: set[str] = set()
    while True:
        pod = _live_pod(cluster, run)
        if pod and pod.uid not in seen:
            seen.add(pod.uid)
            yield from cluster.log(pod.name, _speaker(pod).name, follow=follow)
        elif not follow or run.ended:
            if not seen:
                yield from uploaded(run)
            return
        if not follow:
            return
        time.sleep(POLL_S)
        run = next(iter(choose(read_runs(cluster), run.name)))


def uploaded(run: Run) -> Iterator[str]:
    """Yield the log of the last attempt that storage holds.

    Raises:
        InputError: there is none.
        StorageError: the storage cannot be read.

    """
    from lima.storage import Storage

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
