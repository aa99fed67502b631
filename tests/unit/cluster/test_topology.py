"""A run whose profile is not that of its queue, told from one that waits or asks for too much."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from lima_k8s.cluster.causes.causes import find_cause
from lima_k8s.cluster.read.model import Condition, PodSet, Queue, Snapshot, Workload
from lima_k8s.cluster.watch.explain import explain
from lima_k8s.cluster.watch.view import views
from lima_k8s.runs.model import Run

QUEUE = Queue("lima", "shared")
RUN = Run("diverse-32-s0-44ff9a06", uid="u", queue="lima", suspended=True)
ONLY = 'Flavor "lima-gpu" supports only TopologyAwareScheduling'
CPU_NONE = 'Flavor "lima-cpu" does not support TopologyAwareScheduling'
GPU_NONE = 'Flavor "lima-gpu" does not support TopologyAwareScheduling'
NO_LEVEL = 'Flavor "lima-gpu" does not contain the requested level'


def too_much(resource: str, flavor: str, most: str) -> str:
    return (
        f"insufficient quota for {resource} in flavor {flavor}, previously considered podsets "
        f"requests (0) + current podset request (64) > maximum capacity ({most})"
    )


def waits(resource: str, flavor: str) -> str:
    return f"insufficient unused quota for {resource} in flavor {flavor}, 8 more needed"


def pod_set(name: str, *reasons: str) -> str:
    """Return what Kueue says of a pod set: reasons sorted, as it joins them."""
    return f"couldn't assign flavors to pod set {name}: {', '.join(sorted(reasons))}"


def pending(message: str, reason: str = "ExceedsMaxQuota", *, gpus: int = 8) -> Workload:
    return Workload(
        "w",
        "u",
        "lima",
        conditions={"QuotaReserved": Condition(False, reason, message)},
        pod_sets=(
            PodSet(
                "workers",
                requests={"cpu": Decimal(8), **({"nvidia.com/gpu": Decimal(gpus)} if gpus else {})},
            ),
        ),
    )


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            pod_set("workers", ONLY, too_much("nvidia.com/gpu", "lima-cpu", "0")),
            "flavor lima-gpu has a Topology, and the run asks for no place in it",
        ),
        # Kueue goes through resources in no order: the first that is too much ends a flavor.
        (
            pod_set("workers", ONLY, too_much("memory", "lima-cpu", "64Gi")),
            "flavor lima-gpu has a Topology, and the run asks for no place in it",
        ),
        (
            pod_set(
                "workers",
                ONLY,
                waits("cpu", "lima-cpu"),
                too_much("nvidia.com/gpu", "lima-cpu", "0"),
            ),
            "flavor lima-gpu has a Topology, and the run asks for no place in it",
        ),
        (
            "; ".join(
                [
                    pod_set("head", ONLY, waits("cpu", "lima-cpu")),
                    pod_set("workers", ONLY, too_much("memory", "lima-cpu", "64Gi")),
                ]
            ),
            "flavor lima-gpu has a Topology, and the run asks for no place in it",
        ),
        (
            pod_set("workers", CPU_NONE, GPU_NONE),
            "the run asks for a place in a Topology, and flavor lima-cpu or lima-gpu has none",
        ),
        (
            pod_set("workers", CPU_NONE, NO_LEVEL),
            "the Topology of flavor lima-gpu lacks the level that the run asks for",
        ),
    ],
)
def test_a_profile_that_is_not_the_queue_s(message: str, said: str) -> None:
    found = find_cause(RUN, pending(message), (), (), QUEUE)
    assert found
    assert (found.name, found.what, found.fatal) == ("topology-mismatch", said, True)
    assert "submit it with the --cluster" in found.fix


@pytest.mark.parametrize(
    ("workload", "name"),
    [
        # Asks for a place and fits the flavor of GPUs, but for what is taken there.
        (pending(pod_set("workers", CPU_NONE, waits("nvidia.com/gpu", "lima-gpu")), "Pending"), ""),
        (
            pending(pod_set("workers", CPU_NONE, too_much("nvidia.com/gpu", "lima-gpu", "16"))),
            "quota-never-fits",
        ),
        # Kueue has yet to read the Topology.
        (
            pending(
                pod_set("workers", CPU_NONE, 'Flavor "lima-gpu" information missing in TAS cache'),
                "Pending",
            ),
            "",
        ),
        (
            pending(
                pod_set(
                    "workers", CPU_NONE, 'topology "lima" doesn\'t allow to fit any of 4 pod(s)'
                ),
                "Pending",
            ),
            "",
        ),
        # Another flavor of GPUs, without a Topology, will do.
        (
            pending(pod_set("workers", ONLY, waits("nvidia.com/gpu", "others")), "Pending"),
            "",
        ),
        # No GPUs: the flavor that has a Topology is not meant for these pods.
        (pending(pod_set("head", ONLY, waits("cpu", "lima-cpu")), "Pending"), ""),
        (pending(pod_set("head", ONLY, too_much("cpu", "lima-cpu", "4"))), "quota-never-fits"),
        (
            pending(pod_set("workers", ONLY, too_much("cpu", "lima-cpu", "4")), gpus=0),
            "quota-never-fits",
        ),
        (pending(pod_set("workers", ONLY, waits("cpu", "lima-cpu")), "Pending", gpus=0), ""),
        (
            pending(
                pod_set("workers", CPU_NONE, "flavor lima-gpu doesn't match node affinity"),
                "NoMatchingFlavor",
            ),
            "",
        ),
    ],
)
def test_a_flavor_that_is_passed_over_is_not_always_the_cause(
    workload: Workload, name: str
) -> None:
    found = find_cause(RUN, workload, (), (), QUEUE)
    assert (found.name if found else "") == name


def test_explain_says_which_profile_to_take() -> None:
    workload = pending(pod_set("workers", ONLY, too_much("nvidia.com/gpu", "lima-cpu", "0")))
    snapshot = Snapshot((RUN,), {"u": workload}, queues={"lima": QUEUE})
    [view] = views(snapshot, [RUN], {}, datetime(2026, 11, 22, tzinfo=UTC))
    assert view.state == "blocked"  # so `watch` ends
    found = explain(view, snapshot, QUEUE, None)
    assert found.summary.startswith("topology-mismatch: flavor lima-gpu has a Topology")
    [change] = found.changes
    assert change.startswith("the run's cluster profile is not that of its queue")
