"""What a platform team applies once, as frozen dataclasses: the source of lima-queue's `queue:`."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from lima_k8s.cluster_spec import DNS_NAME, Strings, TolerationSpec

Port = Annotated[int, Meta(ge=1, le=65535)]
ObjectName = Annotated[str, Meta(max_length=253, pattern=f"^{DNS_NAME}$")]


@dataclass(frozen=True)
class PrioritySpec:
    """Values of the WorkloadPriorityClasses; a higher one preempts a lower one."""

    low: Annotated[int, Meta(description="lima-low")] = -100
    normal: Annotated[int, Meta(description="lima-normal")] = 0
    high: Annotated[int, Meta(description="lima-high")] = 100


@dataclass(frozen=True)
class QuotaSpec:
    """What all runs of the queue may hold together."""

    cpu: Annotated[float, Meta(ge=0, description="CPU cores outside GPU nodes.")] = 64
    memoryGiB: Annotated[float, Meta(ge=0, description="Memory outside GPU nodes.")] = 256
    gpuNodes: Annotated[int, Meta(ge=0, description="GPU nodes of `cluster.gpu`.")] = 4
    nodeLabels: Annotated[
        Strings, Meta(description="Labels of the nodes without GPUs; empty: any node.")
    ] = field(default_factory=dict)
    tolerations: Annotated[
        tuple[TolerationSpec, ...], Meta(description="Taints of the nodes without GPUs.")
    ] = ()


@dataclass(frozen=True)
class SubmittersSpec:
    """Who may submit, watch and cancel runs in the namespace."""

    users: Annotated[tuple[str, ...], Meta(description="User names.")] = ()
    groups: Annotated[tuple[str, ...], Meta(description="Group names.")] = ()
    serviceAccounts: Annotated[
        tuple[str, ...], Meta(description="Service accounts, as NAMESPACE/NAME.")
    ] = ()
    helmSecrets: Annotated[
        bool,
        Meta(
            description="Let them keep Helm's records in Secrets, Helm's default. Without it "
            "they set HELM_DRIVER=configmap."
        ),
    ] = True


@dataclass(frozen=True)
class NetworkPolicySpec:
    """What the pods of runs may talk to, besides each other and DNS."""

    enabled: Annotated[bool, Meta(description="Make the NetworkPolicies.")] = True
    egressPorts: Annotated[
        tuple[Port, ...],
        Meta(description="TCP ports of storage, hub, judge and API server, at any address."),
    ] = (443, 6443)
    metadataServer: Annotated[
        bool,
        Meta(
            description="Let runs ask the node's metadata server, which gives GKE's workload "
            "identity and EKS Pod Identity their tokens."
        ),
    ] = False
    extraEgress: Annotated[
        tuple[dict[str, Any], ...], Meta(description="More rules, as NetworkPolicy has them.")
    ] = ()
    operatorLabels: Annotated[
        Strings, Meta(description="Labels of the KubeRay operator's pods, which may ask the head.")
    ] = field(default_factory=lambda: {"app.kubernetes.io/component": "kuberay-operator"})
    monitoringNamespace: Annotated[
        str, Meta(description="Namespace that may read metrics; empty: none.")
    ] = "monitoring"


@dataclass(frozen=True)
class PodMonitorSpec:
    """Metrics of Ray for the Prometheus operator."""

    enabled: Annotated[bool, Meta(description="Make a PodMonitor.")] = False
    labels: Annotated[Strings, Meta(description="Labels by which Prometheus finds it.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class QueueSpec:
    """What a platform team applies once: the `queue:` of lima-queue."""

    namespace: Annotated[
        str,
        Meta(max_length=63, pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", description="Of the runs."),
    ] = "lima"
    createNamespace: Annotated[
        bool, Meta(description="Make it, with pod security `restricted` enforced.")
    ] = True
    shared: Annotated[
        bool,
        Meta(
            description="Make what all queues of a cluster share: flavors, topology, priority "
            "classes, the reader's role. False for the queues of more teams."
        ),
    ] = True
    localQueue: Annotated[ObjectName, Meta(description="Its LocalQueue.")] = "lima"
    clusterQueue: Annotated[ObjectName, Meta(description="The ClusterQueue behind.")] = "lima"
    cohort: Annotated[
        str, Meta(description="Cohort to lend quota to and borrow from; empty: none.")
    ] = ""
    quota: QuotaSpec = QuotaSpec()
    priorities: PrioritySpec = PrioritySpec()
    preemption: Annotated[
        Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"],
        Meta(description="Whom a waiting run may preempt in this queue."),
    ] = "LowerPriority"
    submitters: SubmittersSpec = SubmittersSpec()
    networkPolicy: NetworkPolicySpec = NetworkPolicySpec()
    podMonitor: PodMonitorSpec = PodMonitorSpec()
