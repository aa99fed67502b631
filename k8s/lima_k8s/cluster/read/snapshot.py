"""Reads a namespace: one list request a kind, however many runs there are."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.api import (
    CLUSTER_QUEUES,
    CONFIGMAPS,
    EVENTS,
    PODS,
    QUEUES,
    RAYJOBS,
    RESOURCE_FLAVORS,
    WORKLOADS,
    Cluster,
)
from lima_k8s.cluster.read.model import Event, Pod, Queue, Snapshot, Supply, Workload
from lima_k8s.runs.model import QueuePlace, Run


def read_runs(cluster: Cluster) -> tuple[Run, ...]:
    """Return our runs in the namespace, the oldest first.

    Raises:
        ClusterError: the cluster cannot be read.

    """
    with ThreadPoolExecutor(2) as pool:
        jobs = pool.submit(cluster.list_all, RAYJOBS, parse.PART_OF)
        configs = pool.submit(cluster.list_all, CONFIGMAPS, parse.PART_OF)
        by_name = {c["metadata"]["name"]: c for c in configs.result()}
        runs = [parse.run(raw, by_name) for raw in jobs.result()]
    return tuple(sorted(runs, key=lambda r: (str(r.created), r.name)))


def read(cluster: Cluster, *, places: bool = True) -> Snapshot:
    """Return everything about our runs; with `places`, also where they stand in their queues.

    Raises:
        ClusterError: the cluster cannot be read.

    """
    with ThreadPoolExecutor(5) as pool:
        runs = pool.submit(read_runs, cluster)
        workloads = pool.submit(cluster.list_all, WORKLOADS)
        pods = pool.submit(cluster.list_all, PODS, parse.PART_OF)
        events = pool.submit(cluster.list_all, EVENTS)
        queues = pool.submit(cluster.list_all, QUEUES)
        found = runs.result()
        loads = [parse.workload(raw) for raw in workloads.result()]
        ours, used = {run.uid for run in found}, {run.queue for run in found if not run.ended}
        known = [parse.queue(raw) for raw in queues.result()]
        asked = behind(cluster, (queue for queue in known if queue.name in used))
        return Snapshot(
            runs=found,
            workloads=by_owner(w for w in loads if w.owner_uid in ours),
            others=tuple(w for w in loads if w.owner_uid not in ours),
            pods=_by_run(parse.pod(raw) for raw in pods.result()),
            events=_by_object(parse.event(raw) for raw in events.result()),
            queues={queue.name: queue for queue in (*known, *asked)},
            places=_places(cluster, loads) if places else {},
        )


def read_supply(cluster: Cluster) -> Supply:
    """Return the quota behind all queues, as far as the user may know."""
    queues = map(parse.cluster_queue, cluster.may_list(CLUSTER_QUEUES))
    flavors = map(parse.flavor, cluster.may_list(RESOURCE_FLAVORS))
    return Supply({q.name: q for q in queues}, {f.name: f for f in flavors})


def behind(cluster: Cluster, queues: Iterable[Queue]) -> list[Queue]:
    """Return queues, each with what the ClusterQueue behind it says of itself.

    A LocalQueue says no reason, and that it is active while its ClusterQueue is being deleted.
    """
    found = []
    for queue in queues:
        raw = cluster.may_get(CLUSTER_QUEUES, queue.cluster_queue)
        active = parse.cluster_queue(raw).active if raw else queue.active
        found.append(queue if active.status else replace(queue, active=active))
    return found


def by_owner(workloads: Iterable[Workload]) -> dict[str, Workload]:
    """Return the workload that speaks for each run, by the run's uid.

    A run that changes its size has several for a while: Kueue queues a slice of the new size beside
    the one that holds quota, and finishes that once the new one is admitted.
    """
    slices: dict[str, list[Workload]] = {}
    for workload in workloads:
        slices.setdefault(workload.owner_uid, []).append(workload)
    return {uid: _speaker(found) for uid, found in slices.items()}


def queue_of(snapshot: Snapshot, run: Run) -> Queue | None:
    """Return the LocalQueue of a run."""
    return snapshot.queues.get(run.queue)


def events_of(snapshot: Snapshot, run: Run) -> list[Event]:
    """Return the events about a run and everything that was made for it."""
    names = {run.name, run.ray_cluster, *(pod.name for pod in snapshot.pods.get(run.name, ()))}
    return [event for name in names if name for event in snapshot.events.get(name, ())]


def order(workload: Workload) -> tuple[int, str, str]:
    """Return the key by which Kueue lines up what waits: priority, age to the second, UID.

    An evicted workload keeps its creation time unless Kueue is told otherwise
    (`requeuingStrategy.timestamp`), in which case the visibility API says better.
    """
    return -workload.priority, str(workload.created), workload.uid


def _speaker(slices: Sequence[Workload]) -> Workload:
    alive = [w for w in slices if not w.finished] or slices
    best = max(alive, key=lambda w: (w.has_quota, str(w.created), w.uid))
    evictions = sum((Counter(w.evictions) for w in slices), Counter[str]())
    return replace(best, evictions=dict(evictions))


def _by_run(pods: Iterable[Pod]) -> dict[str, tuple[Pod, ...]]:
    found: dict[str, tuple[Pod, ...]] = {}
    for pod in sorted(pods, key=lambda p: (p.role, p.name)):
        found[pod.run] = (*found.get(pod.run, ()), pod)
    return found


def _by_object(events: Iterable[Event]) -> dict[str, tuple[Event, ...]]:
    found: dict[str, tuple[Event, ...]] = {}
    for event in events:
        found[event.name] = (*found.get(event.name, ()), event)
    return found


def _places(cluster: Cluster, workloads: Sequence[Workload]) -> dict[str, QueuePlace]:
    """Return the places of everything that waits, by Kueue's own count where it gives it."""
    waiting = [w for w in workloads if not w.has_quota and not w.finished and w.active]
    places: dict[str, QueuePlace] = {}
    for queue in sorted({w.queue for w in waiting if w.queue}):
        told = cluster.places(queue)
        if told is not None:
            places |= {
                item["metadata"]["name"]: QueuePlace(
                    item["positionInLocalQueue"] + 1, item["positionInClusterQueue"] + 1
                )
                for item in told
            }
            continue
        line = sorted((w for w in waiting if w.queue == queue), key=order)
        places |= {w.name: QueuePlace(i) for i, w in enumerate(line, 1)}
    return places
