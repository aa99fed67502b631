"""Why a run waits, and what would have to change: quota by flavor, who is ahead, who holds it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from lima_k8s.cluster.read.model import (
    ClusterQueue,
    Flavor,
    Place,
    PodSet,
    Queue,
    Quota,
    Resources,
    Snapshot,
    Supply,
    Workload,
)
from lima_k8s.cluster.read.snapshot import order
from lima_k8s.cluster.watch.view import STATES, View

GIB = Decimal(2**30)
NOTHING = Decimal(0)
TINY = Decimal("1e-9")
Flavored = dict[tuple[str, str], Decimal]
"""Amounts by resource and flavor."""
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
class Need:
    """One resource that a run asks for, against the flavor of its queue that should give it."""

    resource: str
    flavor: str
    asked: Decimal
    nominal: Decimal
    used: Decimal
    missing: Decimal
    """How much more would have to be free; 0: it fits."""
    fits_ever: bool
    """Whether it would fit an empty queue."""
    lent_to: tuple[str, ...] = ()
    """ClusterQueues that hold what of this is the queue's own."""


@dataclass(frozen=True)
class Explanation:
    """Why a run is where it is."""

    name: str
    state: str
    summary: str
    place: Place | None = None
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
    view: View, snapshot: Snapshot, queue: Queue | None, supply: Supply | None = None
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
        waits=tuple(_waits_for(workload, needs, ahead, holding, cluster_queue)),
        changes=tuple(
            _changes(
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


def needs_of(
    pod_sets: Sequence[PodSet], cluster_queue: ClusterQueue | None, supply: Supply | None = None
) -> list[Need]:
    """Return what pods ask for, summed over those that would take the same flavor.

    As Kueue does, each pod set takes the first flavor of a resource group that suits it and can
    hold it in an empty queue.
    """
    if cluster_queue is None:
        return []
    supply = supply or Supply()
    asked = _assign(pod_sets, cluster_queue, supply.flavors)
    others = supply.cohort_of(cluster_queue)
    return [
        _need(asked[quota.resource, quota.flavor], quota, cluster_queue, others)
        for quota in sorted(cluster_queue.quotas, key=lambda quota: quota.resource)
        if (quota.resource, quota.flavor) in asked
    ]


def amount_text(resource: str, value: Decimal) -> str:
    """Return an amount as people say it: `8 GPUs`, `2.5 CPU`, `16 GiB memory`."""
    if resource in ("memory", "ephemeral-storage"):
        return f"{_plain(value / GIB)} GiB {resource}"
    if resource == "cpu":
        return f"{_plain(value)} CPU"
    if resource.endswith("/gpu"):
        return f"{_plain(value)} GPU{'' if value == 1 else 's'}"
    return f"{_plain(value)} {resource}"


def amounts_text(requests: Resources) -> str:
    """Return several amounts in one line."""
    return ", ".join(amount_text(name, value) for name, value in sorted(requests.items()))


def as_json(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as it is written by --format json."""
    document = asdict(explanation)
    for need in document["needs"]:
        for key in ("asked", "nominal", "used", "missing"):
            need[key] = float(need[key])
    return document


def _assign(
    pod_sets: Sequence[PodSet], cluster_queue: ClusterQueue, flavors: Mapping[str, Flavor]
) -> Flavored:
    """Return how much of each flavor pods would take."""
    given: Flavored = {}
    for pod_set in pod_sets:
        for group in sorted({quota.group for quota in cluster_queue.quotas}):
            quotas = [quota for quota in cluster_queue.quotas if quota.group == group]
            known = {q.flavor: flavors.get(q.flavor) or Flavor(q.flavor) for q in quotas}
            suited = [q for q in quotas if known[q.flavor].suits(pod_set)]
            quotas = suited or quotas
            most = {(q.resource, q.flavor): _known_most(q, cluster_queue) for q in quotas}
            covered = {quota.resource for quota in quotas}
            asked = {name: n for name, n in pod_set.total.items() if n and name in covered}
            if not asked:
                continue
            flavor = _flavor(asked, given, most)
            for name, value in asked.items():
                given[name, flavor] = given.get((name, flavor), NOTHING) + value
    return given


def _flavor(asked: Resources, given: Flavored, most: Flavored) -> str:
    """Return the first flavor that holds `asked` beside `given`, else that with most of the scarce.

    Scarce is what comes nearest to all that any flavor has of it.
    """
    flavors = list(dict.fromkeys(flavor for _, flavor in most))
    for flavor in flavors:
        if all(
            given.get((name, flavor), NOTHING) + value <= most.get((name, flavor), NOTHING)
            for name, value in asked.items()
        ):
            return flavor
    best = {name: max(most.get((name, f), NOTHING) for f in flavors) for name in asked}
    scarce = max(asked, key=lambda name: asked[name] / max(best[name], TINY))
    return max(flavors, key=lambda f: most.get((scarce, f), NOTHING))


def _known_most(quota: Quota, cluster_queue: ClusterQueue) -> Decimal:
    """Return what a queue has, with what it may borrow where that is limited."""
    limit = quota.borrowing_limit if cluster_queue.cohort else None
    return quota.nominal + (limit or NOTHING)


def _need(
    asked: Decimal, quota: Quota, cluster_queue: ClusterQueue, others: Sequence[ClusterQueue]
) -> Need:
    # In a cohort, without a limit, only what the others have is one.
    unlimited = cluster_queue.cohort and quota.borrowing_limit is None
    theirs = {queue.name: same for queue in others if (same := _same(quota, queue))}
    free = quota.nominal - quota.used + sum((q.lendable for q in theirs.values()), NOTHING)
    if not unlimited:
        free = min(free, _known_most(quota, cluster_queue) - quota.used)
    missing = min(max(asked - max(free, NOTHING), NOTHING), asked)
    own = asked <= quota.nominal - quota.used
    return Need(
        quota.resource,
        quota.flavor,
        asked,
        quota.nominal,
        quota.used,
        missing=missing,
        fits_ever=bool(unlimited) or asked <= _known_most(quota, cluster_queue),
        lent_to=tuple(n for n, q in theirs.items() if q.borrowed) if missing and own else (),
    )


def _same(quota: Quota, other: ClusterQueue) -> Quota | None:
    """Return another queue's quota of the same resource and flavor."""
    names = (quota.resource, quota.flavor)
    return next((q for q in other.quotas if (q.resource, q.flavor) == names), None)


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


def _changes(
    *,
    view: View,
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


def _plain(value: Decimal) -> str:
    return f"{float(value):,.4g}" if value < 10000 else f"{float(value):,.0f}"
