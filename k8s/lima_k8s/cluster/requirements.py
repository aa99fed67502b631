"""What a cluster must have for a run to start, asked for before it would wait without end."""

from lima.errors import ClusterError, InputError
from lima_k8s.cluster.api import PRIORITY_CLASSES, QUEUES, SECRETS, Cluster, Kind


def require_queue(cluster: Cluster, queue: str) -> None:
    """Refuse a queue that is not there: its runs would wait without end.

    Raises:
        InputError: there is no such LocalQueue; the message names those that are.

    """
    if cluster.get(QUEUES, queue) is not None:
        return
    names = [raw["metadata"]["name"] for raw in cluster.list_all(QUEUES)]
    known = f"queues there: {', '.join(names)}" if names else "there is none"
    raise InputError(
        f"no LocalQueue {queue!r} in namespace {cluster.namespace!r}; {known}; choose with "
        "--queue and -n, or have lima-queue installed (docs/cluster.md)"
    )


def require_priority(cluster: Cluster, name: str) -> None:
    """Refuse a priority that is not there: Kueue would never see the run.

    Raises:
        InputError: there is no such WorkloadPriorityClass.

    """
    _require(
        cluster,
        PRIORITY_CLASSES,
        name,
        f"no WorkloadPriorityClass {name!r} in this cluster; lima-queue brings low, normal and "
        "high; name another with --priority, or --priority none",
    )


def require_secret(cluster: Cluster, name: str) -> None:
    """Refuse a Secret that is not there: its pods would never start.

    Raises:
        InputError: there is no such Secret.

    """
    _require(
        cluster,
        SECRETS,
        name,
        f"no Secret {name!r} in namespace {cluster.namespace!r}, which the profile names for "
        f"the storage; make it: kubectl -n {cluster.namespace} create secret generic {name} "
        "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…",
    )


def _require(cluster: Cluster, kind: Kind, name: str, otherwise: str) -> None:
    """Raise unless an object is there, or nothing is asked for, or the user may not know."""
    try:
        missing = bool(name) and cluster.get(kind, name) is None
    except ClusterError:
        return  # `watch` will find out
    if missing:
        raise InputError(otherwise)
