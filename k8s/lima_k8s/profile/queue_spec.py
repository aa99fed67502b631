"""What a platform team applies once, as frozen dataclasses: the source of lima-queue's `queue:`."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from lima_k8s.profile.cluster_spec import DNS_NAME, Name, Strings, TolerationSpec

Port = Annotated[int, Meta(ge=1, le=65535)]
ObjectName = Annotated[str, Meta(max_length=253, pattern=f"^{DNS_NAME}$")]


@dataclass(frozen=True)
class PrioritySpec:
    """Values of the WorkloadPriorityClasses; a higher one preempts a lower one."""

    low: Annotated[int, Meta(description="lima-low")] = -100
    normal: Annotated[int, Meta(description="lima-normal")] = 0
    high: Annotated[int, Meta(description="lima-high")] = 100


Share = Annotated[float, Meta(ge=0)]


@dataclass(frozen=True)
class QuotaSpec:
    """What all runs of the queue may hold together."""

    cpu: Annotated[float, Meta(ge=0, description="CPU cores outside GPU nodes.")] = 64
    memoryGiB: Annotated[float, Meta(ge=0, description="Memory outside GPU nodes.")] = 256
    diskGiB: Annotated[float, Meta(ge=0, description="Nodes' own disk outside GPU nodes.")] = 1024
    gpuNodes: Annotated[
        int, Meta(ge=0, description="GPU nodes of `cluster.gpu`, where `flavors` is empty.")
    ] = 4
    borrow: Annotated[
        Share | None,
        Meta(
            description="Most that may be borrowed from the cohort, as a share of the queue's own "
            "quota: 0 nothing, 1 as much again; null: all that is idle."
        ),
    ] = None
    lend: Annotated[
        Share | None,
        Meta(description="Most that may be lent, as a share of the queue's own quota; null: all."),
    ] = None
    nodeLabels: Annotated[
        Strings, Meta(description="Labels of the nodes without GPUs; empty: any node.")
    ] = field(default_factory=dict)
    tolerations: Annotated[
        tuple[TolerationSpec, ...], Meta(description="Taints of the nodes without GPUs.")
    ] = ()


@dataclass(frozen=True)
class FlavorSpec:
    """Nodes with one kind of GPU: a ResourceFlavor, taken in the order of the list."""

    name: Annotated[
        str,
        Meta(
            max_length=40,
            pattern="^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            description="As runs name it (cluster.gpu.flavor): h100, a100-spot.",
        ),
    ] = "gpu"
    nodes: Annotated[int, Meta(ge=0, description="How many.")] = 1
    resource: Annotated[
        str,
        Meta(description="Name of a GPU or of a MIG slice; empty: that of cluster.gpu."),
    ] = ""
    perNode: Annotated[
        int, Meta(ge=0, description="GPUs, or slices, of a node; 0: as cluster.gpu.")
    ] = 0
    cpu: Annotated[
        float,
        Meta(ge=0, description="CPU cores of a node for runs; 0: cluster.gpu.worker's a GPU."),
    ] = 0
    memoryGiB: Annotated[
        float, Meta(ge=0, description="Memory of a node; 0: cluster.gpu.worker's for each GPU.")
    ] = 0
    nodeLabels: Annotated[Strings, Meta(description="Labels of the nodes.")] = field(
        default_factory=dict
    )
    tolerations: Annotated[
        tuple[TolerationSpec, ...], Meta(description="Taints of the nodes that runs tolerate.")
    ] = ()
    topology: Annotated[bool, Meta(description="The nodes have the levels of the topology.")] = True
    fabric: Annotated[bool, Meta(description="They have the devices of cluster.gpu.fabric.")] = True


@dataclass(frozen=True)
class FungibilitySpec:
    """When a run tries the next kind of GPU instead of the first that it may have."""

    whenCanBorrow: Annotated[
        Literal["MayStopSearch", "TryNextFlavor"], Meta(description="If it would have to borrow.")
    ] = "MayStopSearch"
    whenCanPreempt: Annotated[
        Literal["MayStopSearch", "TryNextFlavor"], Meta(description="If it would have to preempt.")
    ] = "TryNextFlavor"


@dataclass(frozen=True)
class CheckSpec:
    """An AdmissionCheck: a ProvisioningRequest for new nodes, MultiKueue."""

    name: Annotated[ObjectName, Meta(description="Of the AdmissionCheck.")] = "check"
    flavors: Annotated[
        tuple[str, ...],
        Meta(description="Names of the flavors that it guards, as in `flavors`; empty: all."),
    ] = ()


@dataclass(frozen=True)
class SubjectsSpec:
    """People and programs."""

    users: Annotated[tuple[str, ...], Meta(description="User names.")] = ()
    groups: Annotated[tuple[str, ...], Meta(description="Group names.")] = ()
    serviceAccounts: Annotated[
        tuple[str, ...], Meta(description="Service accounts, as NAMESPACE/NAME.")
    ] = ()


@dataclass(frozen=True)
class AdmissionSpec:
    """What a ValidatingAdmissionPolicy keeps out of the namespace."""

    enabled: Annotated[
        bool,
        Meta(description="Make the policies; the cluster must be Kubernetes 1.30 or newer."),
    ] = True
    operators: Annotated[
        tuple[str, ...],
        Meta(
            description="Service accounts that make pods, Ray clusters and jobs for others, as "
            "NAMESPACE/NAME; * is any namespace, or any name."
        ),
    ] = ("kube-system/*", "kueue-system/*", "*/kuberay-operator")
    exemptGroups: Annotated[
        tuple[str, ...], Meta(description="Groups that the policies do not bind.")
    ] = ("system:masters", "system:nodes")
    exemptUsers: Annotated[
        tuple[str, ...], Meta(description="Users that the policies do not bind.")
    ] = ("system:kube-controller-manager",)
    high: Annotated[
        SubjectsSpec, Meta(description="Who may use lima-high; nobody named: every submitter.")
    ] = SubjectsSpec()
    podMemory: Annotated[
        str,
        Meta(
            pattern="^[0-9]+[KMGT]i$",
            description="Most memory of a container that a submitter makes by hand, as `helm test` "
            "does; it has no GPU and ends within an hour.",
        ),
    ] = "2Gi"
    podPriorityClasses: Annotated[
        tuple[str, ...],
        Meta(
            description="PriorityClasses that pods of runs may name: without lima-* Kueue takes "
            "the run's priority from them."
        ),
    ] = ()
    guardUninstall: Annotated[
        bool,
        Meta(
            description="Refuse `helm uninstall` while runs hold quota of the queue, which would "
            "vanish under them; `--no-hooks` goes past it."
        ),
    ] = True


@dataclass(frozen=True)
class SubmittersSpec(SubjectsSpec):
    """Who may submit, watch and cancel runs in the namespace."""

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
    defaultDeny: Annotated[
        bool,
        Meta(description="No other pod of the namespace talks to anyone without a policy's leave."),
    ] = True
    egressPorts: Annotated[
        tuple[Port, ...],
        Meta(
            description="TCP ports of storage, hub, judge and API server, at any address; that of "
            "cluster.storage.endpoint is added."
        ),
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
    """Metrics of Ray and of runs for the Prometheus operator."""

    enabled: Annotated[bool, Meta(description="Make a PodMonitor.")] = False
    labels: Annotated[Strings, Meta(description="Labels by which Prometheus finds it.")] = field(
        default_factory=dict
    )


@dataclass(frozen=True)
class DashboardSpec:
    """A Grafana dashboard of the runs, dashboards/lima-runs.json of this chart."""

    enabled: Annotated[
        bool, Meta(description="Make a ConfigMap of it, for the sidecar of Grafana's chart.")
    ] = False
    labels: Annotated[Strings, Meta(description="Labels by which the sidecar finds it.")] = field(
        default_factory=lambda: {"grafana_dashboard": "1"}
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
    prefix: Annotated[
        Name,
        Meta(
            description="Begins the names of flavors, topology and roles. Empty: the release's "
            "name without `-queue`; where `shared` is false: lima, of the release lima-queue."
        ),
    ] = ""
    localQueue: Annotated[ObjectName, Meta(description="Its LocalQueue.")] = "lima"
    clusterQueue: Annotated[
        Name,
        Meta(description="The ClusterQueue behind; empty: the release's name without `-queue`."),
    ] = ""
    cohort: Annotated[
        str, Meta(description="Cohort to lend quota to and borrow from; empty: none.")
    ] = ""
    quota: QuotaSpec = QuotaSpec()
    flavors: Annotated[
        tuple[FlavorSpec, ...],
        Meta(
            description="Kinds of GPU nodes, the one to be taken first first. Empty: one, `gpu`, "
            "of `cluster.gpu` and `quota.gpuNodes`."
        ),
    ] = ()
    fungibility: FungibilitySpec = FungibilitySpec()
    admissionChecks: Annotated[
        tuple[CheckSpec, ...],
        Meta(description="AdmissionChecks that must say yes, each a name and its flavors."),
    ] = ()
    fairSharingWeight: Annotated[
        Share | None, Meta(description="Weight in the cohort where Kueue shares fairly; null: 1.")
    ] = None
    resourceQuota: Annotated[
        dict[str, str],
        Meta(
            description="`hard` of a ResourceQuota of the namespace, as count/rayjobs.ray.io; "
            "empty: none. It refuses what Kueue would let wait."
        ),
    ] = field(default_factory=dict)
    priorities: PrioritySpec = PrioritySpec()
    preemption: Annotated[
        Literal["Never", "LowerPriority", "LowerOrNewerEqualPriority"],
        Meta(description="Whom a waiting run may preempt in this queue."),
    ] = "LowerPriority"
    reclaim: Annotated[
        Literal["Never", "LowerPriority", "Any"],
        Meta(description="Whose borrowed quota the queue takes back from its cohort."),
    ] = "Any"
    submitters: SubmittersSpec = SubmittersSpec()
    admission: AdmissionSpec = AdmissionSpec()
    networkPolicy: NetworkPolicySpec = NetworkPolicySpec()
    podMonitor: PodMonitorSpec = PodMonitorSpec()
    dashboard: DashboardSpec = DashboardSpec()
