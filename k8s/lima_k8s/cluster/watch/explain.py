"""Why a run waits, and what would have to change: quota by flavor, who is ahead, who holds it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lima.spec import training_compute
from lima_k8s.cluster.read.model import (
    ClusterQueue,
    Queue,
    Resources,
    Snapshot,
    Supply,
    Workload,
)
from lima_k8s.cluster.read.snapshot import order
from lima_k8s.cluster.watch.quota_by_flavor import Need, amount_text, amounts_text, needs_of
from lima_k8s.cluster.watch.view import ClusterView
from lima_k8s.runs.model import QueuePlace
from lima_k8s.runs.view import STATES

NAMED = 5
"""Runs that a line names before it counts."""
WAITS = {
    "lent-out": "What it needs of its queue's own quota is lent to others of the cohort.",
    "quota-taken": "What it needs is in use.",
    "behind-others": "Others come before it.",
    "preempts": "It takes the quota of runs of lower priority, which save their state and go.",
    "looks-again": "There is room: Kueue looks at it again shortly.",
}
"""Why a run waits that nothing is wrong with, by a name for programs."""


@dataclass(frozen=True)
class Explanation:
    """Why a run is where it is."""

    name: str
    state: str
    summary: str
    place: QueuePlace | None = None
    ahead: tuple[str, ...] = ()
    """Our runs and other workloads of the namespace that come before it."""
    holding: tuple[str, ...] = ()
    """Who holds the quota in this namespace, as `name (what)`."""
    needs: tuple[Need, ...] = ()
    waits: tuple[str, ...] = ()
    """Why it waits, as `WAITS` names it."""
    changes: tuple[str, ...] = ()
    """What would let it run."""
    kueue_says: str = ""


def explain(
    view: ClusterView, snapshot: Snapshot, queue: Queue | None, supply: Supply | None = None
) -> Explanation:
    """Return why a run does not run, or that it does.

    Args:
        view: The run.
        snapshot: Its namespace.
        queue: Its LocalQueue, if there is one.
        supply: What that draws from; None: not known to this user.

    """
    supply = supply or Supply()
    cluster_queue = supply.cluster_queues.get(queue.cluster_queue) if queue else None
    workload = view.workload
    summary = STATES[view.state]
    if view.cause:
        summary = view.cause.text
    if workload is None or workload.has_quota or view.ended:
        fix = (view.cause.fix,) if view.cause else ()
        return Explanation(view.run.name, view.state, summary, changes=fix)
    needs = needs_of(workload.pod_sets, cluster_queue, supply)
    names = {w.name: run.name for run in snapshot.runs if (w := snapshot.workloads.get(run.uid))}
    same = [w for w in _all(snapshot) if _shares(w, workload, snapshot, queue)]
    ahead = [w for w in same if _waits(w) and order(w) < order(workload)]
    holding = [w for w in same if w.has_quota and not w.finished]
    condition = workload.conditions.get("QuotaReserved")
    closed = _is_closed(queue, cluster_queue)
    return Explanation(
        view.run.name,
        view.state,
        summary,
        place=view.place,
        ahead=tuple(names.get(w.name, w.name) for w in sorted(ahead, key=order)),
        holding=tuple(
            f"{names.get(w.name, w.name)} ({amounts_text(_scarce(w.requests, needs))})"
            for w in holding
        ),
        needs=tuple(needs),
        waits=() if closed else tuple(_waits_for(workload, needs, ahead, holding, cluster_queue)),
        changes=tuple(
            _opens(view)
            if closed
            else _changes(
                view=view,
                workload=workload,
                needs=needs,
                ahead=ahead,
                holding=holding,
                cluster_queue=cluster_queue,
            )
        ),
        kueue_says=condition.message if condition else "",
    )


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as it is written by --format json."""
    document = asdict(explanation)
    for need in document["needs"]:
        for key in ("asked", "nominal", "used", "missing"):
            need[key] = float(need[key])
    return document


def _is_closed(queue: Queue | None, cluster_queue: ClusterQueue | None) -> bool:
    """Say whether nothing is admitted, however much quota there is."""
    return any(q is not None and (q.stopped or not q.active.status) for q in (queue, cluster_queue))


def _opens(view: ClusterView) -> list[str]:
    """Return what would let a run of a queue start that admits nothing."""
    return [view.cause.fix if view.cause else "the queue admits nothing: ask the platform team"]


def _waits_for(
    workload: Workload,
    needs: Sequence[Need],
    ahead: Sequence[Workload],
    holding: Sequence[Workload],
    cluster_queue: ClusterQueue | None,
) -> Iterator[str]:
    """Yield why a run waits, as `WAITS` names it."""
    missing = [need for need in needs if need.missing]
    if any(need.lent_to for need in missing):
        yield "lent-out"
    if any(not need.lent_to for need in missing) or (not needs and holding):
        yield "quota-taken"
    if ahead:
        yield "behind-others"
    stays = cluster_queue is None or cluster_queue.preemption == "Never"
    if missing and not stays and any(w.priority < workload.priority for w in holding):
        yield "preempts"
    if needs and not missing and not ahead:
        yield "looks-again"


def _trains_together(view: ClusterView) -> bool:
    """Say whether a run trains with several workers, so that it could go on with fewer."""
    spec = view.run.cell.train if view.run.cell else None
    return spec is not None and training_compute(spec).workers > 1


def _changes(
    *,
    view: ClusterView,
    workload: Workload,
    needs: Sequence[Need],
    ahead: Sequence[Workload],
    holding: Sequence[Workload],
    cluster_queue: ClusterQueue | None,
) -> list[str]:
    """Return what would let a waiting run start."""
    if view.cause and view.cause.fatal:
        return [view.cause.fix]
    changes = []
    missing = [n for n in needs if n.missing and n.fits_ever]
    lent = [n for n in missing if n.lent_to]
    if lent:
        names = ", ".join(dict.fromkeys(name for n in lent for name in n.lent_to))
        taken = cluster_queue is not None and cluster_queue.reclaim != "Never"
        how = "Kueue takes it back" if taken else "it must end there (reclaimWithinCohort: Never)"
        changes.append(f"{_amounts(lent)} is lent to queue {names}: {how}")
    if taken_here := [n for n in missing if not n.lent_to]:
        changes.append(f"{_amounts(taken_here)} must become free")
    elif not needs and holding:
        changes.append("a run that holds quota must end")
    if missing and _trains_together(view):
        changes.append("or submit it with fewer workers (--set train.on_workers=N): it goes on")
    if ahead:
        changes.append(f"{len(ahead)} before it must start or leave: lima-k8s cancel RUN")
    lower = [w for w in holding if w.priority < workload.priority]
    if cluster_queue and cluster_queue.preemption == "Never":
        changes.append("nothing is preempted in this queue: a higher --priority only moves it up")
    elif holding and not lower and workload.priority <= max(w.priority for w in holding):
        changes.append("or submit it with a higher --priority than those that hold the quota")
    return changes or ["nothing: Kueue looks at it again shortly"]


def _amounts(needs: Iterable[Need]) -> str:
    return ", ".join(f"{amount_text(n.resource, n.missing)} of flavor {n.flavor}" for n in needs)


def _scarce(requests: Resources, needs: Iterable[Need]) -> Resources:
    """Return the part of `requests` that somebody waits for; all of it if nobody knows."""
    short = {n.resource for n in needs if n.missing}
    return {name: value for name, value in requests.items() if not short or name in short}


def _all(snapshot: Snapshot) -> list[Workload]:
    return [*snapshot.workloads.values(), *snapshot.others]


def _waits(workload: Workload) -> bool:
    return not workload.has_quota and not workload.finished and workload.active


def _shares(other: Workload, own: Workload, snapshot: Snapshot, queue: Queue | None) -> bool:
    """Say whether another workload draws on the same ClusterQueue."""
    if other.name == own.name:
        return False
    if queue is None:
        return other.queue == own.queue
    theirs = snapshot.queues.get(other.queue)
    return theirs is not None and theirs.cluster_queue == queue.cluster_queue
