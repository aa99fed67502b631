"""What the command knows of a cluster, as plain values. Nothing here is a Kubernetes object."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Literal

from lima_k8s.runs.model import QueuePlace, Run

Resources = dict[str, Decimal]
"""Amounts by resource name, in the resource's own unit: cores, bytes, devices."""
Role = Literal["head", "worker", "submitter", "other"]


@dataclass(frozen=True)
class Condition:
    """A condition of a Kueue object: the last word on one question."""

    status: bool
    reason: str = ""
    message: str = ""
    since: datetime | None = None


@dataclass(frozen=True)
class Toleration:
    """A taint that pods tolerate."""

    key: str = ""
    """Empty: every taint."""
    value: str | None = None
    """None: whatever its value."""
    effect: str = ""
    """Empty: every effect."""


@dataclass(frozen=True)
class Taint:
    """What keeps away pods that do not tolerate it."""

    key: str
    value: str = ""
    effect: str = ""

    def tolerated(self, by: Iterable[Toleration]) -> bool:
        """Say whether one of these tolerations is for it."""
        return any(
            t.key in ("", self.key)
            and t.value in (None, self.value)
            and t.effect in ("", self.effect)
            for t in by
        )


@dataclass(frozen=True)
class PodSet:
    """Pods of a run that are alike."""

    name: str
    count: int = 1
    requests: Resources = field(default_factory=dict)
    """What each of them asks for."""
    tolerations: tuple[Toleration, ...] = ()

    @property
    def total(self) -> Resources:
        """What they ask for together."""
        return {name: value * self.count for name, value in self.requests.items()}


@dataclass(frozen=True)
class Workload:
    """Kueue's view of a run: what it asks for and whether it may have it."""

    name: str
    owner_uid: str = ""
    queue: str = ""
    priority: int = 0
    created: datetime | None = None
    active: bool = True
    conditions: dict[str, Condition] = field(default_factory=dict)
    pod_sets: tuple[PodSet, ...] = ()
    cluster_queue: str = ""
    flavors: dict[str, str] = field(default_factory=dict)
    evictions: dict[str, int] = field(default_factory=dict)
    """How often it was evicted, by reason."""
    checks: dict[str, str] = field(default_factory=dict)
    """Admission checks that are not ready: name and message."""
    uid: str = ""

    @property
    def requests(self) -> Resources:
        """What all of its pods ask for together."""
        total: Resources = {}
        for pod_set in self.pod_sets:
            for name, value in pod_set.total.items():
                total[name] = total.get(name, Decimal(0)) + value
        return total

    def is_true(self, kind: str) -> bool:
        """Say whether a condition is there and true."""
        condition = self.conditions.get(kind)
        return condition is not None and condition.status

    @property
    def has_quota(self) -> bool:
        """Whether quota is set aside for it."""
        return self.is_true("QuotaReserved")

    @property
    def admitted(self) -> bool:
        """Whether its pods may be made."""
        return self.is_true("Admitted")

    @property
    def finished(self) -> bool:
        """Whether it is over and holds no quota."""
        return self.is_true("Finished")


@dataclass(frozen=True)
class Container:
    """The state of one container of a pod."""

    name: str
    image: str = ""
    init: bool = False
    state: Literal["waiting", "running", "terminated", "unknown"] = "unknown"
    reason: str = ""
    message: str = ""
    exit_code: int | None = None
    restarts: int = 0
    last_reason: str = ""
    last_exit_code: int | None = None
    last_message: str = ""
    started: datetime | None = None
    """When it, or the one before it, began to run; None: it never did."""


@dataclass(frozen=True)
class Pod:
    """A pod of a run."""

    name: str
    run: str = ""
    role: Role = "other"
    phase: str = ""
    node: str = ""
    uid: str = ""
    ready: bool = False
    deleting: bool = False
    created: datetime | None = None
    unschedulable: str = ""
    """Why no node takes it; empty when one did."""
    node_selector: dict[str, str] = field(default_factory=dict)
    """Labels that its node must have."""
    reason: str = ""
    """Why the pod as a whole failed: Evicted, NodeLost and the like."""
    message: str = ""
    containers: tuple[Container, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether all of its containers run."""
        states = [container.state for container in self.containers if not container.init]
        return bool(states) and set(states) == {"running"}

    @property
    def began(self) -> datetime | None:
        """When the last of its containers began to run, or else when it was made."""
        return max(filter(None, (c.started for c in self.containers)), default=self.created)


@dataclass(frozen=True)
class Event:
    """Something a controller or a kubelet said about an object."""

    kind: str
    name: str
    reason: str
    message: str
    warning: bool = True
    count: int = 1
    at: datetime | None = None


@dataclass(frozen=True)
class Quota:
    """What a ClusterQueue has of one resource in one flavor, and what is taken."""

    resource: str
    flavor: str
    nominal: Decimal
    used: Decimal = Decimal(0)
    borrowing_limit: Decimal | None = None
    lending_limit: Decimal | None = None
    group: int = 0
    """The resource group: pods that are alike get one flavor for all resources of a group."""

    @property
    def free(self) -> Decimal:
        """What is left of the nominal quota."""
        return max(self.nominal - self.used, Decimal(0))

    @property
    def borrowed(self) -> Decimal:
        """What is used beyond the nominal quota."""
        return max(self.used - self.nominal, Decimal(0))

    @property
    def lendable(self) -> Decimal:
        """What others may take of it now; negative: what it has borrowed."""
        idle = self.nominal - self.used
        return idle if self.lending_limit is None else min(idle, self.lending_limit)


@dataclass(frozen=True)
class Flavor:
    """The nodes that quota stands for."""

    name: str
    labels: dict[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tolerations: tuple[Toleration, ...] = ()

    def suits(self, pods: PodSet) -> bool:
        """Say whether Kueue would give these pods room of it."""
        given = (*pods.tolerations, *self.tolerations)
        hard = (t for t in self.taints if t.effect != "PreferNoSchedule")
        return all(taint.tolerated(given) for taint in hard)


@dataclass(frozen=True)
class ClusterQueue:
    """The quota that a queue draws from."""

    name: str
    quotas: tuple[Quota, ...] = ()
    cohort: str = ""
    strategy: str = ""
    preemption: str = ""
    reclaim: str = ""
    """Whose borrowed quota it takes back: Never, LowerPriority or Any."""
    stopped: bool = False
    active: Condition = Condition(True)


@dataclass(frozen=True)
class Supply:
    """Where quota comes from, as far as the user may know."""

    cluster_queues: Mapping[str, ClusterQueue] = field(default_factory=dict)
    """All of the cluster."""
    flavors: Mapping[str, Flavor] = field(default_factory=dict)

    def cohort_of(self, queue: ClusterQueue) -> list[ClusterQueue]:
        """Return the other ClusterQueues of the same cohort."""
        return [
            other
            for other in self.cluster_queues.values()
            if queue.cohort and other.cohort == queue.cohort and other.name != queue.name
        ]


@dataclass(frozen=True)
class Queue:
    """A LocalQueue: where a namespace's runs line up."""

    name: str
    cluster_queue: str = ""
    stopped: bool = False
    active: Condition = Condition(True)


@dataclass(frozen=True)
class Snapshot:
    """Everything the command has read of a namespace at one time."""

    runs: tuple[Run, ...] = ()
    workloads: dict[str, Workload] = field(default_factory=dict)
    """By the uid of the run."""
    pods: dict[str, tuple[Pod, ...]] = field(default_factory=dict)
    """By the name of the run."""
    events: dict[str, tuple[Event, ...]] = field(default_factory=dict)
    """By the name of the object they are about."""
    queues: dict[str, Queue] = field(default_factory=dict)
    places: dict[str, QueuePlace] = field(default_factory=dict)
    """By the name of the workload."""
    others: tuple[Workload, ...] = ()
    """Workloads in the namespace that are not ours."""
