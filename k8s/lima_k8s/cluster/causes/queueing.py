"""Why Kueue does not admit a run."""

from collections.abc import Iterator

from lima_k8s.cluster.causes.kueue_quota_messages import never_fits
from lima_k8s.cluster.causes.kueue_topology_messages import wrong_topology
from lima_k8s.cluster.read.model import Queue, Workload
from lima_k8s.cluster.read.parse import TERMINATING
from lima_k8s.runs.model import Cause, Run

NO_CLUSTER_QUEUE = "ClusterQueueDoesNotExist"
"""Kueue's reason for a queue with nothing behind it."""


def from_queue(run: Run, workload: Workload | None, queue: Queue | None) -> Iterator[Cause]:
    """Yield what keeps Kueue from admitting a run."""
    if queue is None and not (workload and workload.has_quota):
        yield Cause(
            "queue-missing",
            f"there is no LocalQueue {run.queue!r} in this namespace",
            "submit with --queue NAME: kubectl get localqueues",
        )
        return
    if workload is None:
        if run.suspended:
            yield Cause(
                "not-managed",
                "Kueue has made no Workload for it yet",
                "if this stays: is Kueue running, and does it manage RayJobs?",
                fatal=False,
            )
        return
    if not workload.active:
        reason = workload.conditions.get("Evicted")
        yield Cause(
            "deactivated",
            reason.message if reason else "its Workload was set inactive",
            "mend what made it fail, then cancel and submit again",
            workload.name,
        )
    elif queue is not None and not workload.has_quota:
        yield from _no_quota(workload, queue)
    for name, message in workload.checks.items():
        yield Cause("check-failing", f"{name}: {message}", "ask the platform team", fatal=False)


def _no_quota(workload: Workload, queue: Queue) -> Iterator[Cause]:
    condition = workload.conditions.get("QuotaReserved")
    message = condition.message if condition else ""
    reason = condition.reason if condition else ""
    if not queue.active.status:
        # What Kueue said of quota before is of no account.
        yield _inactive(queue, f"queue {workload.queue}")
        return
    never = never_fits(reason, message)
    misplaced = wrong_topology(message, devices=any("/" in name for name in workload.requests))
    if misplaced:
        yield Cause(
            "topology-mismatch",
            misplaced,
            "the run's cluster profile is not that of its queue: cancel it, and submit it with the "
            "--cluster (Helm: -f k8s/clusters/NAME.yaml) that lima-queue was installed with",
            f"queue {workload.queue}",
        )
    elif never:
        yield Cause(
            "quota-never-fits",
            never,
            "fewer workers or GPUs, another --queue, or more quota: ask the platform team",
            f"queue {workload.queue}",
        )
    elif "ClusterQueue" in message and "doesn't exist" in message:
        yield Cause("queue-missing", message, "ask the platform team", f"queue {workload.queue}")
    elif queue.stopped or "is inactive" in message or "is stopped" in message:
        yield Cause(
            "queue-stopped",
            message or "it is on hold",
            "ask the platform team",
            f"queue {workload.queue}",
            fatal=False,
        )


def _inactive(queue: Queue, where: str) -> Cause:
    """Return why a queue admits nothing, by the reason that Kueue gives."""
    why, gone = queue.active, queue.active.reason in (NO_CLUSTER_QUEUE, TERMINATING)
    if gone:
        state = "is being deleted" if why.reason == TERMINATING else "does not exist"
        return Cause(
            "queue-missing",
            f"ClusterQueue {queue.cluster_queue} {state}",
            "ask the platform team; the run starts when it is there again",
            where,
        )
    return Cause(
        "queue-stopped", why.message or "it is on hold", "ask the platform team", where, fatal=False
    )
