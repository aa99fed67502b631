"""Which flavor of a queue each of a run's pods would take, and what of it is missing."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.model import (
    Condition,
    Flavor,
    PodSet,
    Queue,
    Snapshot,
    Supply,
    Taint,
    Toleration,
    Workload,
)
from lima_k8s.cluster.watch.explain import explain
from lima_k8s.cluster.watch.quota_by_flavor import needs_of
from lima_k8s.cluster.watch.view import views
from lima_k8s.runs.model import Run

GPU, EFA, HUGE = "nvidia.com/gpu", "vpc.amazonaws.com/efa", "hugepages-2Mi"
QUEUE = Queue("lima", "lima")


def pod_set(name: str, count: int = 1, **requests: str) -> PodSet:
    """Return pods that are alike; `gpu`, `efa` and `huge` stand for the full names."""
    names = {"gpu": GPU, "efa": EFA, "huge": HUGE}
    return PodSet(name, count, {names.get(k, k): parse.amount(v) for k, v in requests.items()})


WORKERS = {"cpu": "176", "memory": "1840Gi", "gpu": "8", "efa": "32", "huge": "5Gi"}
PAPER = (
    pod_set("head", cpu="4", memory="16Gi"),
    pod_set("workers", 4, **WORKERS),
    pod_set("submitter", cpu="500m", memory="1Gi"),
)
"""What lima-train asks for with the profile eks-p5."""
LIMA_CPU = {"cpu": "64", "memory": "256Gi", GPU: 0, HUGE: 0, EFA: 0}
LIMA_GPU = {"cpu": "704", "memory": "7360Gi", GPU: 32, HUGE: "20Gi", EFA: 128}
"""What lima-queue has for four nodes with that profile."""


def queue_of(
    *groups: dict[str, dict[str, Any]],
    used: dict[str, dict[str, Any]] | None = None,
    borrow: dict[str, int] | None = None,
    cohort: str = "",
) -> dict[str, Any]:
    """Return a ClusterQueue; each group has flavors, each flavor amounts."""

    def quota(flavor: str, name: str, nominal: Any) -> dict[str, Any]:
        limit = {"borrowingLimit": borrow[flavor]} if borrow and flavor in borrow else {}
        return {"name": name, "nominalQuota": nominal, **limit}

    return {
        "metadata": {"name": "lima"},
        "spec": {
            "cohortName": cohort,
            "resourceGroups": [
                {
                    "flavors": [
                        {"name": f, "resources": [quota(f, n, v) for n, v in amounts.items()]}
                        for f, amounts in group.items()
                    ]
                }
                for group in groups
            ],
        },
        "status": {
            "flavorsReservation": [
                {"name": f, "resources": [{"name": n, "total": v} for n, v in amounts.items()]}
                for f, amounts in (used or {}).items()
            ]
        },
    }


def supply(*raws: dict[str, Any], flavors: tuple[Flavor, ...] = ()) -> Supply:
    """Return what these ClusterQueues and flavors give."""
    queues = [parse.cluster_queue(raw) for raw in raws]
    return Supply({queue.name: queue for queue in queues}, {f.name: f for f in flavors})


def asked(pod_sets: tuple[PodSet, ...], raw: dict[str, Any]) -> dict[tuple[str, str], Any]:
    needs = needs_of(pod_sets, parse.cluster_queue(raw))
    return {(n.resource, n.flavor): (float(n.asked), n.fits_ever) for n in needs}


def test_the_run_of_the_paper_fits_four_empty_nodes() -> None:
    needs = needs_of(
        PAPER, parse.cluster_queue(queue_of({"lima-cpu": LIMA_CPU, "lima-gpu": LIMA_GPU}))
    )
    assert {(n.resource, n.flavor, n.asked) for n in needs} == {
        ("cpu", "lima-cpu", Decimal("4.5")),
        ("memory", "lima-cpu", 17 * 2**30),
        ("cpu", "lima-gpu", 704),
        ("memory", "lima-gpu", 7360 * 2**30),
        (GPU, "lima-gpu", 32),
        (HUGE, "lima-gpu", 20 * 2**30),
        (EFA, "lima-gpu", 128),
    }
    assert all(need.fits_ever and not need.missing for need in needs)


def test_what_must_become_free_is_told_of_each_flavor_that_is_needed() -> None:
    used: dict[str, dict[str, Any]] = {
        "lima-cpu": {"cpu": "62"},
        "lima-gpu": {"cpu": "176", GPU: 8},
    }
    raw = queue_of({"lima-cpu": LIMA_CPU, "lima-gpu": LIMA_GPU}, used=used)
    waits = {"QuotaReserved": Condition(False)}
    workload = Workload("w", "u", "lima", conditions=waits, pod_sets=PAPER)
    run = Run("r", uid="u", queue="lima", suspended=True)
    snapshot = Snapshot((run,), {"u": workload}, queues={"lima": QUEUE})
    [view] = views(snapshot, [run], {}, datetime.now(UTC))
    found = explain(view, snapshot, QUEUE, supply(raw))
    assert found.changes[0] == (
        "2.5 CPU of flavor lima-cpu, 176 CPU of flavor lima-gpu, 8 GPUs of flavor lima-gpu "
        "must become free"
    )


@pytest.mark.parametrize(
    ("pod_sets", "raw", "expected"),
    [
        pytest.param(
            (pod_set("workers", 2, gpu="8", cpu="8"),),
            queue_of({"small": {GPU: 8, "cpu": 900}, "large": {GPU: 16, "cpu": 16}}),
            {("cpu", "large"): (16, True), (GPU, "large"): (16, True)},
            id="one flavor holds all resources of a group",
        ),
        pytest.param(
            (pod_set("a", gpu="8"), pod_set("b", gpu="8"), pod_set("c", gpu="2")),
            queue_of({"first": {GPU: 10}, "second": {GPU: 8}}),
            {(GPU, "first"): (10, True), (GPU, "second"): (8, True)},
            id="what was given is taken",
        ),
        pytest.param(
            (pod_set("workers", 8, gpu="8", cpu="8"),),
            queue_of({"cpus": {GPU: 0, "cpu": 900}, "gpus": {GPU: 32, "cpu": 100}}),
            {("cpu", "gpus"): (64, True), (GPU, "gpus"): (64, False)},
            id="no flavor is large enough: the one with most of what is scarce",
        ),
        pytest.param(
            (pod_set("workers", gpu="8", cpu="8"),),
            queue_of({"cpus": {"cpu": 9}}, {"none": {GPU: 0}}),
            {("cpu", "cpus"): (8, True), (GPU, "none"): (8, False)},
            id="groups give apart",
        ),
        pytest.param(
            (pod_set("workers", gpu="8"),),
            queue_of({"a": {GPU: 2}, "b": {GPU: 2}}, borrow={"b": 6}, cohort="all"),
            {(GPU, "b"): (8, True)},
            id="what may be borrowed counts",
        ),
        pytest.param(
            (pod_set("workers", gpu="8"),),
            queue_of({"a": {GPU: 2}, "b": {GPU: 4}}, borrow={"b": 6}),
            {(GPU, "b"): (8, False)},
            id="nobody lends without a cohort",
        ),
        pytest.param(
            (pod_set("workers", gpu="8"),),
            queue_of({"a": {GPU: 0}, "b": {GPU: 4}}, cohort="all"),
            {(GPU, "b"): (8, True)},
            id="a cohort without a limit may lend everything",
        ),
        pytest.param(
            (pod_set("head", cpu="4", gpu="0", memory="1Gi"),),
            queue_of({"cpus": {"cpu": 9, GPU: 0}}),
            {("cpu", "cpus"): (4, True)},
            id="nothing is asked of what is zero or has no quota",
        ),
    ],
)
def test_each_pod_set_takes_the_first_flavor_that_holds_it(
    pod_sets: tuple[PodSet, ...], raw: dict[str, Any], expected: dict[Any, Any]
) -> None:
    assert asked(pod_sets, raw) == expected


def test_without_a_view_of_the_queue_nothing_is_told() -> None:
    assert needs_of(PAPER, None) == []


MARK = Taint("lima-k8s.io/flavor", "gpu", "NoSchedule")
MARKED = (Flavor("lima-cpu"), Flavor("lima-gpu", taints=(MARK,)))


def test_pods_without_gpus_are_never_of_a_flavor_with_a_mark() -> None:
    raw = queue_of({"lima-cpu": {"cpu": "4"}, "lima-gpu": {"cpu": "704"}})
    needs = needs_of(
        (pod_set("head", cpu="8"),), parse.cluster_queue(raw), supply(raw, flavors=MARKED)
    )
    assert [(n.flavor, n.fits_ever) for n in needs] == [("lima-cpu", False)]
    for toleration, there in (
        (Toleration("lima-k8s.io/flavor"), True),
        (Toleration("lima-k8s.io/flavor", "gpu"), True),
        (Toleration("lima-k8s.io/flavor", "h100"), False),
        (Toleration(), True),
    ):
        pods = replace(pod_set("workers", cpu="8"), tolerations=(toleration,))
        assert MARKED[1].suits(pods) is there


def test_what_is_lent_to_others_is_not_free() -> None:
    """The queue's own share is idle there, and another of the cohort runs on it."""
    mine = queue_of({"c": {"cpu": 10}}, cohort="all")
    theirs = queue_of({"c": {"cpu": 10}}, used={"c": {"cpu": 18}}, cohort="all")
    theirs["metadata"]["name"] = "theirs"
    mine["spec"]["preemption"] = {"reclaimWithinCohort": "Any"}
    waits = {"QuotaReserved": Condition(False)}
    for amount, code in (("2", "looks-again"), ("8", "lent-out"), ("15", "quota-taken")):
        workload = Workload(
            "w", "u", "lima", conditions=waits, pod_sets=(pod_set("head", cpu=amount),)
        )
        run = Run("r", uid="u", queue="lima", suspended=True)
        snapshot = Snapshot((run,), {"u": workload}, queues={"lima": QUEUE})
        [view] = views(snapshot, [run], {}, datetime.now(UTC))
        found = explain(view, snapshot, QUEUE, supply(mine, theirs))
        assert found.waits == (code,)
        assert ("is lent to queue theirs: Kueue takes it back" in found.changes[0]) == (
            code == "lent-out"
        )
