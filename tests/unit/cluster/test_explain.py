"""Why a run waits: quota by flavor, who is ahead, who holds it, what would have to change."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from lima.recipes.paper import lima_65b
from lima.spec import CellSpec
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.model import Condition, PodSet, Queue, Snapshot, Workload
from lima_k8s.cluster.watch.explain import WAITS, Explanation, as_json, explain
from lima_k8s.cluster.watch.quota_by_flavor import amount_text
from lima_k8s.cluster.watch.view import views
from lima_k8s.runs.model import Run
from tests.conftest import ROOT
from tests.unit.cluster.test_flavors import supply

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
QUEUE = Queue("lima", "shared")
CLUSTER_QUEUE: dict[str, Any] = {
    "metadata": {"name": "shared"},
    "spec": {
        "preemption": {"withinClusterQueue": "LowerPriority"},
        "resourceGroups": [
            {
                "coveredResources": ["cpu", "memory"],
                "flavors": [
                    {
                        "name": "any",
                        "resources": [
                            {"name": "cpu", "nominalQuota": "10"},
                            {"name": "memory", "nominalQuota": "64Gi"},
                        ],
                    }
                ],
            },
            {
                "coveredResources": ["nvidia.com/gpu"],
                "flavors": [
                    {"name": "h100", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": 16}]},
                    {"name": "a100", "resources": [{"name": "nvidia.com/gpu", "nominalQuota": 4}]},
                ],
            },
        ],
    },
    "status": {
        "flavorsReservation": [
            {"name": "any", "resources": [{"name": "cpu", "total": "2500m"}]},
            {"name": "h100", "resources": [{"name": "nvidia.com/gpu", "total": "16"}]},
        ]
    },
}


def workload(name: str, minutes: int, priority: int = 0, *, holds: bool = False) -> Workload:
    """Return a workload that asks for 8 GPUs and 3 CPU."""
    return Workload(
        name,
        f"uid-{name}",
        "lima",
        priority,
        NOON + timedelta(minutes=minutes),
        conditions={"QuotaReserved": Condition(holds, "WaitingForQuota", "8 more needed")},
        pod_sets=(PodSet("workers", 2, {"nvidia.com/gpu": Decimal(4), "cpu": Decimal("1.5")}),),
    )


def explained(
    *workloads: Workload,
    of: str = "c",
    others: tuple[Workload, ...] = (),
    cell: CellSpec | None = None,
    **changes: Any,
) -> Explanation:
    raw = {**CLUSTER_QUEUE, "spec": {**CLUSTER_QUEUE["spec"], **changes}}
    runs = [
        Run(w.name.upper(), uid=w.owner_uid, queue="lima", suspended=True, cell=cell)
        for w in workloads
    ]
    snapshot = Snapshot(
        tuple(runs), {w.owner_uid: w for w in workloads}, queues={"lima": QUEUE}, others=others
    )
    run = next(r for r in runs if r.name == of.upper())
    [view] = views(snapshot, [run], {}, NOON)
    return explain(view, snapshot, QUEUE, supply(raw))


def test_those_of_one_second_are_ordered_by_uid() -> None:
    one, other = replace(workload("a", 1), uid="2"), replace(workload("b", 1), uid="1")
    assert explained(one, other, of="a").ahead == ("B",)
    assert explained(one, other, of="b").ahead == ()


def test_who_is_ahead_is_ordered_by_priority_then_age() -> None:
    found = explained(
        workload("a", 0, holds=True),
        workload("b", 1),
        workload("c", 2),
        workload("d", 3),
        workload("e", 4, priority=100),
    )
    assert found.ahead == ("E", "B")
    assert found.holding == ("A (8 GPUs)",)


def test_a_run_that_trains_together_could_take_less() -> None:
    [cell] = lima_65b()
    asked = explained(workload("a", 0, holds=True), workload("c", 2), cell=cell)
    assert "or submit it with fewer workers (--set train.on_workers=N): it goes on" in asked.changes
    assert cell.train
    alone = replace(cell, train=replace(cell.train, on_workers=1))
    asked = explained(workload("a", 0, holds=True), workload("c", 2), cell=alone)
    assert not any("on_workers" in change for change in asked.changes)


def test_quota_is_told_by_flavor() -> None:
    needs = {(n.resource, n.flavor): n for n in explained(workload("c", 0)).needs}
    assert list(needs) == [("cpu", "any"), ("nvidia.com/gpu", "h100")]
    assert needs["nvidia.com/gpu", "h100"].missing == 8
    assert needs["nvidia.com/gpu", "h100"].fits_ever
    assert needs["cpu", "any"].missing == 0


def test_what_would_have_to_change() -> None:
    found = explained(workload("a", 0, holds=True), workload("b", 1), workload("c", 2))
    assert found.changes == (
        "8 GPUs of flavor h100 must become free",
        "1 before it must start or leave: lima-k8s cancel RUN",
        "or submit it with a higher --priority than those that hold the quota",
    )
    assert found.kueue_says == "8 more needed"


def test_without_preemption_a_priority_frees_nothing() -> None:
    found = explained(
        workload("a", 0, holds=True), workload("c", 2), preemption={"withinClusterQueue": "Never"}
    )
    assert found.changes[-1].startswith("nothing is preempted in this queue")


def test_in_a_queue_that_admits_nothing_no_quota_is_waited_for() -> None:
    for others in ((), (workload("a", 0, holds=True), workload("b", 1))):
        found = explained(*others, workload("c", 2), stopPolicy="Hold")
        assert found.waits == ()
        assert found.changes == ("the queue admits nothing: ask the platform team",)
        assert found.needs, "what there is stays to be seen"


def test_workloads_that_are_not_ours_count() -> None:
    other = workload("notebook", 0)
    assert explained(workload("c", 2), others=(other,)).ahead == ("notebook",)


def test_a_cohort_without_a_limit_may_lend_everything() -> None:
    found = explained(workload("c", 0), cohortName="all")
    assert all(need.fits_ever for need in found.needs)


def test_a_run_with_quota_needs_no_explanation() -> None:
    found = explained(workload("c", 0, holds=True))
    assert (found.needs, found.ahead, found.changes) == ((), (), ())


def test_json_has_plain_numbers() -> None:
    document = as_json(explained(workload("c", 0)))
    assert {n["asked"] for n in document["needs"]} == {3.0, 8.0}


@pytest.mark.parametrize(
    ("resource", "value", "text"),
    [
        ("nvidia.com/gpu", "1", "1 GPU"),
        ("nvidia.com/gpu", "32", "32 GPUs"),
        ("cpu", "500m", "0.5 CPU"),
        ("memory", "2560Mi", "2.5 GiB memory"),
        ("memory", "16Ti", "16,384 GiB memory"),
        ("vpc.amazonaws.com/efa", "32", "32 vpc.amazonaws.com/efa"),
    ],
)
def test_amounts_in_words(resource: str, value: str, text: str) -> None:
    assert amount_text(resource, parse.amount(value)) == text


def test_every_reason_to_wait_is_in_the_guide() -> None:
    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    assert all(f"| {name} | " in text for name in WAITS)
