"""The driver's log of a run: from its pod while there is one, else from its storage."""

import time
from collections.abc import Iterator

from lima.errors import ClusterError, InputError
from lima_k8s.cluster import parse
from lima_k8s.cluster.api import PODS, Cluster
from lima_k8s.cluster.model import Container, Pod, Run
from lima_k8s.cluster.snapshot import choose, read_runs

POLL_S = 2.0


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


def _live_pod(cluster: Cluster, run: Run) -> Pod | None:
    """Return the newest pod that prints the driver's log: the one that submits the job."""
    selector = f"{parse.PREFIX}run={run.name}"
    pods = [parse.pod(raw) for raw in cluster.list_all(PODS, selector)]
    talking = [p for p in pods if p.role == "submitter" and _has_spoken(p)]
    return max(talking, key=lambda p: str(p.created), default=None)


def _has_spoken(pod: Pod) -> bool:
    return any(c.state in ("running", "terminated") for c in pod.containers if not c.init)


def _speaker(pod: Pod) -> Container:
    spoken = next((c for c in pod.containers if not c.init), None)
    if spoken is None:
        raise ClusterError(f"pod {pod.name} has no container yet; try again")
    return spoken
