"""JSON of the API server to the values of `model`. Whatever is missing there is empty here."""

import json
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any

from lima.errors import SpecError
from lima.spec import CellSpec
from lima_k8s.cluster.read.model import (
    ClusterQueue,
    Condition,
    Container,
    Event,
    Flavor,
    Pod,
    PodSet,
    Queue,
    Quota,
    Resources,
    Role,
    Taint,
    Toleration,
    Workload,
)
from lima_k8s.cluster.read.uris import plain
from lima_k8s.runs.model import Run

Raw = dict[str, Any]
PREFIX = "lima-k8s.io/"
PART_OF = "app.kubernetes.io/part-of=lima-k8s"
SPECS_KEY = "specs.json"
RAY_ROLE = "ray.io/node-type"
STOPPED = ("Hold", "HoldAndDrain")
TERMINATING = "Terminating"
"""Kueue's reason for a queue that goes."""


def run(raw: Raw, configs: dict[str, Raw]) -> Run:
    """Return a RayJob; `configs` are the ConfigMaps by name."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    labels, notes = meta.get("labels", {}), meta.get("annotations", {})
    cell = _cell(configs.get(meta["name"]))
    return Run(
        name=meta["name"],
        uid=meta.get("uid", ""),
        release=labels.get("app.kubernetes.io/instance", ""),
        kind=labels.get(f"{PREFIX}kind", ""),
        experiment=notes.get(f"{PREFIX}experiment", ""),
        arm=notes.get(f"{PREFIX}arm", ""),
        seed=int(notes.get(f"{PREFIX}seed") or 0),
        storage=plain(notes.get(f"{PREFIX}storage", "")),
        queue=labels.get("kueue.x-k8s.io/queue-name", ""),
        priority_class=labels.get("kueue.x-k8s.io/priority-class", ""),
        created=time(meta.get("creationTimestamp")),
        suspended=bool(spec.get("suspend")),
        deployment_status=status.get("jobDeploymentStatus", ""),
        job_status=status.get("jobStatus", ""),
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        ray_cluster=status.get("rayClusterName", ""),
        cell=cell,
        run_id=_run_id(cell),
        deleting="deletionTimestamp" in meta,
        failed_starts=status.get("failed") or 0,
    )


def workload(raw: Raw) -> Workload:
    """Return a Workload."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    owners = [o["uid"] for o in meta.get("ownerReferences", []) if o.get("controller")]
    admission = status.get("admission") or {}
    assigned = [a.get("flavors", {}) for a in admission.get("podSetAssignments", [])]
    evictions = status.get("schedulingStats", {}).get("evictions", [])
    return Workload(
        name=meta["name"],
        owner_uid=owners[0] if owners else "",
        uid=meta.get("uid", ""),
        queue=spec.get("queueName", ""),
        priority=spec.get("priority") or 0,
        created=time(meta.get("creationTimestamp")),
        active=spec.get("active", True),
        conditions=conditions(status),
        pod_sets=tuple(map(_pod_set, spec.get("podSets", []))),
        cluster_queue=admission.get("clusterQueue", ""),
        flavors={name: flavor for flavors in assigned for name, flavor in flavors.items()},
        evictions={e["reason"]: e.get("count", 1) for e in evictions},
        checks={
            c["name"]: c.get("message", "") or c.get("state", "")
            for c in status.get("admissionChecks", [])
            if c.get("state") != "Ready"
        },
    )


def pod(raw: Raw) -> Pod:
    """Return a pod."""
    meta, spec, status = raw["metadata"], raw.get("spec", {}), raw.get("status", {})
    found = {c["type"]: c for c in status.get("conditions", [])}
    scheduled = found.get("PodScheduled", {})
    waits = scheduled.get("status") == "False"
    images = {c["name"]: c.get("image", "") for c in _containers(spec)}
    labels = meta.get("labels", {})
    return Pod(
        name=meta["name"],
        run=labels.get(f"{PREFIX}run", ""),
        role=_role(labels),
        phase=status.get("phase", ""),
        node=spec.get("nodeName", ""),
        uid=meta.get("uid", ""),
        ready=found.get("Ready", {}).get("status") == "True",
        deleting="deletionTimestamp" in meta,
        created=time(meta.get("creationTimestamp")),
        node_selector=spec.get("nodeSelector") or {},
        unschedulable=scheduled.get("message", "no node takes it") if waits else "",
        reason=status.get("reason", ""),
        message=status.get("message", ""),
        containers=tuple(
            _container(c, images, init=key.startswith("init"))
            for key in ("initContainerStatuses", "containerStatuses")
            for c in status.get(key, [])
        ),
    )


def event(raw: Raw) -> Event:
    """Return an event."""
    about = raw.get("involvedObject", {})
    return Event(
        kind=about.get("kind", ""),
        name=about.get("name", ""),
        reason=raw.get("reason", ""),
        message=raw.get("message", ""),
        warning=raw.get("type") == "Warning",
        count=raw.get("count") or 1,
        at=time(raw.get("lastTimestamp") or raw.get("eventTime")),
    )


def queue(raw: Raw) -> Queue:
    """Return a LocalQueue."""
    spec = raw.get("spec", {})
    return Queue(
        name=raw["metadata"]["name"],
        cluster_queue=spec.get("clusterQueue", ""),
        stopped=spec.get("stopPolicy") in STOPPED,
        active=conditions(raw.get("status", {})).get("Active", Condition(True)),
    )


def cluster_queue(raw: Raw) -> ClusterQueue:
    """Return a ClusterQueue with the quota of each flavor and what is reserved of it."""
    spec, status = raw.get("spec", {}), raw.get("status", {})
    used = {
        (flavor["name"], r["name"]): amount(r.get("total"))
        for flavor in status.get("flavorsReservation", [])
        for r in flavor.get("resources", [])
    }
    quotas = [
        Quota(
            resource=r["name"],
            flavor=flavor["name"],
            nominal=amount(r.get("nominalQuota")),
            used=used.get((flavor["name"], r["name"]), Decimal(0)),
            borrowing_limit=amount(r["borrowingLimit"]) if "borrowingLimit" in r else None,
            lending_limit=amount(r["lendingLimit"]) if "lendingLimit" in r else None,
            group=number,
        )
        for number, group in enumerate(spec.get("resourceGroups", []))
        for flavor in group.get("flavors", [])
        for r in flavor.get("resources", [])
    ]
    return ClusterQueue(
        name=raw["metadata"]["name"],
        quotas=tuple(quotas),
        cohort=spec.get("cohortName", ""),
        strategy=spec.get("queueingStrategy", ""),
        preemption=spec.get("preemption", {}).get("withinClusterQueue", "Never"),
        reclaim=spec.get("preemption", {}).get("reclaimWithinCohort", "Never"),
        stopped=spec.get("stopPolicy") in STOPPED,
        active=_active(raw),
    )


def _active(raw: Raw) -> Condition:
    """Return whether a ClusterQueue admits; Kueue lets one that is being deleted say that it does.

    It stays as long as it has given quota away.
    """
    if "deletionTimestamp" in raw["metadata"]:
        return Condition(False, TERMINATING, "it is being deleted")
    return conditions(raw.get("status", {})).get("Active", Condition(True))


def flavor(raw: Raw) -> Flavor:
    """Return a ResourceFlavor."""
    spec = raw.get("spec") or {}
    taints = spec.get("nodeTaints", [])
    return Flavor(
        name=raw["metadata"]["name"],
        labels=spec.get("nodeLabels") or {},
        taints=tuple(Taint(t["key"], t.get("value", ""), t.get("effect", "")) for t in taints),
        tolerations=tuple(map(_toleration, spec.get("tolerations", []))),
    )


def conditions(status: Raw) -> dict[str, Condition]:
    """Return the conditions of a status by their type."""
    return {
        c["type"]: Condition(
            c.get("status") == "True",
            c.get("reason", ""),
            c.get("message", ""),
            time(c.get("lastTransitionTime")),
        )
        for c in status.get("conditions", [])
    }


def time(text: str | None) -> datetime | None:
    """Return a time of the API server."""
    return datetime.fromisoformat(text) if text else None


def amount(quantity: object) -> Decimal:
    """Return a Kubernetes quantity (`500m`, `2Gi`) as a number."""
    from kubernetes.utils.quantity import parse_quantity

    return Decimal(parse_quantity(quantity or 0))  # type: ignore[no-untyped-call]


def _cell(config: Raw | None) -> CellSpec | None:
    """Return the spec in a ConfigMap; None if it was deleted, or written by another version."""
    from lima.spec.codec import decode

    try:
        document = json.loads((config or {}).get("data", {}).get(SPECS_KEY, ""))
        first = document["runs"][0]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    try:
        return decode(CellSpec, first)
    except SpecError:
        return None


def _run_id(cell: CellSpec | None) -> str:
    from lima.spec.codec import run_id

    return run_id(cell) if cell else ""


def _role(labels: dict[str, str]) -> Role:
    role = labels.get(RAY_ROLE)
    if role in ("head", "worker"):
        return role  # type: ignore[return-value]  # narrowed just above
    return "submitter" if "batch.kubernetes.io/job-name" in labels else "other"


def _containers(spec: Raw) -> Iterable[Raw]:
    return (*spec.get("initContainers", []), *spec.get("containers", []))


def _container(raw: Raw, images: dict[str, str], *, init: bool) -> Container:
    state, last = raw.get("state", {}), raw.get("lastState", {}).get("terminated", {})
    kind = next((k for k in ("waiting", "running", "terminated") if k in state), "unknown")
    now = state.get(kind, {})
    return Container(
        name=raw["name"],
        image=images.get(raw["name"]) or str(raw.get("image", "")),
        init=init,
        state=kind,  # type: ignore[arg-type]  # one of the four above
        reason=now.get("reason", ""),
        message=now.get("message", ""),
        exit_code=now.get("exitCode"),
        restarts=raw.get("restartCount", 0),
        last_reason=last.get("reason", ""),
        last_exit_code=last.get("exitCode"),
        last_message=last.get("message", ""),
        started=time(now.get("startedAt") or last.get("startedAt")),
    )


def _pod_set(raw: Raw) -> PodSet:
    spec = raw.get("template", {}).get("spec", {})
    tolerations = tuple(map(_toleration, spec.get("tolerations", [])))
    return PodSet(raw.get("name", ""), raw.get("count", 1), _pod_requests(spec), tolerations)


def _toleration(raw: Raw) -> Toleration:
    exact = raw.get("operator", "Equal") == "Equal"
    return Toleration(
        raw.get("key", ""), raw.get("value", "") if exact else None, raw.get("effect", "")
    )


def _pod_requests(spec: Raw) -> Resources:
    """Return what a pod asks for: its containers together, or its largest init container."""
    total: Resources = {}
    for container in spec.get("containers", []):
        for name, value in _container_requests(container).items():
            total[name] = total.get(name, Decimal(0)) + value
    for container in spec.get("initContainers", []):
        for name, value in _container_requests(container).items():
            total[name] = max(total.get(name, Decimal(0)), value)
    return total


def _container_requests(container: Raw) -> Resources:
    resources = container.get("resources", {})
    # What has a limit and no request requests its limit.
    raw = {**resources.get("limits", {}), **resources.get("requests", {})}
    return {name: amount(value) for name, value in raw.items()}
