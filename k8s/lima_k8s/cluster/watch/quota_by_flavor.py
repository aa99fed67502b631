"""What a run asks for of each flavor of its queue, and what of it is missing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from lima_k8s.cluster.read.model import (
    ClusterQueue,
    Flavor,
    PodSet,
    Quota,
    Resources,
    Supply,
)

GIB = Decimal(2**30)
NOTHING = Decimal(0)
TINY = Decimal("1e-9")
Flavored = dict[tuple[str, str], Decimal]
"""Amounts by resource and flavor."""


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


def _plain(value: Decimal) -> str:
    return f"{float(value):,.4g}" if value < 10000 else f"{float(value):,.0f}"
