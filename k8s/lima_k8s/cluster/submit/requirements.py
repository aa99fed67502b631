"""What a cluster must have for a run to start, asked for before it would wait without end."""

from collections.abc import Iterable, Iterator
from typing import Any

from lima.errors import ClusterError, InputError
from lima_k8s.cluster.causes.queueing import NO_CLUSTER_QUEUE
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.api import (
    ACCOUNTS,
    CLAIMS,
    CONFIGMAPS,
    PRIORITY_CLASSES,
    QUEUES,
    SECRETS,
    Cluster,
    Kind,
)
from lima_k8s.cluster.read.parse import TERMINATING
from lima_k8s.cluster.read.snapshot import behind
from lima_k8s.terminal.output import say

Raw = dict[str, Any]


def require_queue(cluster: Cluster, name: str) -> None:
    """Refuse a queue that is not there or will not last: its runs would wait without end.

    Raises:
        InputError: there is no such LocalQueue (the message names those that are), or what is
            behind it is gone or going.

    """
    raw = cluster.get(QUEUES, name)
    if raw is None:
        names = [raw["metadata"]["name"] for raw in cluster.list_all(QUEUES)]
        known = f"queues there: {', '.join(names)}" if names else "there is none"
        raise InputError(
            f"no LocalQueue {name!r} in namespace {cluster.namespace!r}; {known}; choose with "
            "--queue and -n, or have lima-queue installed (docs/cluster.md)"
        )
    [queue] = behind(cluster, [parse.queue(raw)])
    if queue.active.reason in (NO_CLUSTER_QUEUE, TERMINATING):
        state = "is being deleted" if queue.active.reason == TERMINATING else "does not exist"
        raise InputError(
            f"queue {name!r} draws on ClusterQueue {queue.cluster_queue!r}, which {state}: nothing "
            "in it would ever start; ask the platform team to install lima-queue again"
        )
    if not queue.active.status:
        say(f"queue {name} admits nothing now: {queue.active.message}")


def require_priority(cluster: Cluster, name: str) -> None:
    """Refuse a priority that is not there: Kueue would never see the run.

    Raises:
        InputError: there is no such WorkloadPriorityClass.

    """
    if _is_missing(cluster, PRIORITY_CLASSES, name):
        raise InputError(
            f"no WorkloadPriorityClass {name!r} in this cluster; lima-queue brings low, normal and "
            "high; name another with --priority, or --priority none"
        )


def require_references(cluster: Cluster, manifests: Iterable[Raw]) -> None:
    """Refuse what pods name and the namespace lacks: they would never start.

    Raises:
        InputError: there is no such Secret, ConfigMap, claim or service account.

    """
    manifests = list(manifests)
    own = {(CONFIGMAPS, m["metadata"]["name"]) for m in manifests if m["kind"] == "ConfigMap"}
    named = dict.fromkeys(found for m in manifests for found in _references(m))
    for kind, name in named:
        if (kind, name) not in own and _is_missing(cluster, kind, name):
            raise InputError(_missing(kind, name, cluster.namespace))


def _references(value: Any) -> Iterator[tuple[Kind, str]]:
    """Yield the objects of the namespace that a part of a manifest needs."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item)
        return
    if not isinstance(value, dict):
        return
    for key, part in value.items():
        if key in _NAMING and isinstance(part, dict) and not part.get("optional"):
            kind, name = _NAMING[key]
            yield from [(kind, part[name])] if part.get(name) else []
        elif key == "imagePullSecrets":
            yield from ((SECRETS, item["name"]) for item in part or [])
        elif key == "serviceAccountName" and part:
            yield ACCOUNTS, part
        yield from _references(part)


_NAMING = {
    "secretRef": (SECRETS, "name"),
    "secretKeyRef": (SECRETS, "name"),
    "secret": (SECRETS, "secretName"),
    "configMapRef": (CONFIGMAPS, "name"),
    "configMapKeyRef": (CONFIGMAPS, "name"),
    "configMap": (CONFIGMAPS, "name"),
    "persistentVolumeClaim": (CLAIMS, "claimName"),
}
"""Parts of a pod that name an object, and under which key."""


def _missing(kind: Kind, name: str, namespace: str) -> str:
    if kind is SECRETS:
        return (
            f"no Secret {name!r} in namespace {namespace!r}, which the profile names; make it: "
            f"kubectl -n {namespace} create secret generic {name} "
            "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…"
        )
    titles = {CONFIGMAPS: "ConfigMap", CLAIMS: "PersistentVolumeClaim", ACCOUNTS: "ServiceAccount"}
    return f"no {titles[kind]} {name!r} in namespace {namespace!r}, which the profile names"


def _is_missing(cluster: Cluster, kind: Kind, name: str) -> bool:
    """Say whether an object is asked for and known not to be there."""
    try:
        return bool(name) and cluster.get(kind, name) is None
    except ClusterError:
        return False  # the user may not know; `watch` will find out
