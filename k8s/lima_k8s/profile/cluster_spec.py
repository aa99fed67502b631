"""Where runs run: what a cluster gives them, as frozen dataclasses.

They are the one source of `cluster:` in every chart's values.yaml and values.schema.json. Fields
are written as Helm users write keys (camelCase): a profile in k8s/clusters/ is such a `cluster:`
document, merged over the defaults here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from lima import __version__
from lima.spec.codec import decode, encode

RAY_VERSION = "2.60.0"
"""Of the images; KubeRay wants to know it."""

DNS_NAME = "[a-z0-9]([-a-z0-9.]*[a-z0-9])?"
Name = Annotated[str, Meta(max_length=253, pattern=f"^({DNS_NAME})?$")]
Strings = dict[str, str]
_LABEL = "[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
Labels = dict[
    Annotated[str, Meta(max_length=317, pattern=f"^({DNS_NAME}/)?{_LABEL}$")],
    Annotated[str, Meta(max_length=63, pattern=f"^({_LABEL})?$")],
]


@dataclass(frozen=True)
class ImageSpec:
    """The images of the pods."""

    registry: Annotated[
        str,
        Meta(
            pattern=r"^((\[[0-9A-Fa-f:]+\]|[A-Za-z0-9._-]+)(:[0-9]+)?(/[a-z0-9._-]+)*)?$",
            description="Put before all names, as registry.example.com/team; empty: the names "
            "below are whole.",
        ),
    ] = ""
    cpu: Annotated[str, Meta(min_length=1, description="Image without CUDA.")] = (
        f"lima-k8s-cpu:{__version__}"
    )
    gpu: Annotated[str, Meta(min_length=1, description="Image of runs that use GPUs.")] = (
        f"lima-k8s-gpu:{__version__}"
    )
    vllm: Annotated[
        str,
        Meta(
            min_length=1,
            description="Image of the workers of runs whose `generate.engine` is `vllm`, with GPUs "
            "or without.",
        ),
    ] = f"lima-k8s-vllm:{__version__}"
    pullPolicy: Annotated[
        Literal["IfNotPresent", "Always", "Never"], Meta(description="As Kubernetes defines it.")
    ] = "IfNotPresent"
    pullSecrets: Annotated[
        tuple[Name, ...], Meta(description="Names of Secrets that open the registry.")
    ] = ()


@dataclass(frozen=True)
class StorageSpec:
    """Where all results go. Credentials come from a Secret or from the service account."""

    uri: Annotated[
        str,
        Meta(
            # Before a path no colon but that of a port: no password fits in.
            pattern=r"^([a-z][a-z0-9+.-]*://[A-Za-z0-9._~%+=@,-]+(:[0-9]+)?(/[A-Za-z0-9._~/%+=@:,-]*)?)?$",
            description="s3://BUCKET/PREFIX, gs:// or abfs://. Must be set to install.",
        ),
    ] = ""
    endpoint: Annotated[
        str,
        Meta(
            pattern="^(https?://[^@]+)?$",
            description="URL of an S3 server other than AWS (AWS_ENDPOINT_URL).",
        ),
    ] = ""
    region: Annotated[str, Meta(description="AWS_REGION of the pods; empty: not set.")] = ""
    secretName: Annotated[
        Name, Meta(description="Secret whose keys (AWS_ACCESS_KEY_ID, …) become environment.")
    ] = ""


@dataclass(frozen=True)
class PlainSizeSpec:
    """What a pod requests; limits are the same."""

    cpu: Annotated[float, Meta(ge=0.001, description="CPU cores.")]
    memoryGiB: Annotated[float, Meta(ge=0.001, description="Memory, shared memory included.")]
    diskGiB: Annotated[
        float,
        Meta(
            ge=0,
            description="The node's own disk that it is sure to have, for /tmp and logs; it may "
            "fill this and its cache. 0: not counted.",
        ),
    ] = 0.0


@dataclass(frozen=True)
class SizeSpec(PlainSizeSpec):
    """What a pod, or each worker in it, requests; limits are the same."""

    sharedMemoryGiB: Annotated[
        float, Meta(ge=0, description="Part of the memory that /dev/shm may take.")
    ] = 0.0


@dataclass(frozen=True)
class CpuSpec:
    """Worker pods of runs without GPUs."""

    workersPerPod: Annotated[int, Meta(ge=1, description="Worker processes in a pod.")] = 4
    worker: Annotated[SizeSpec, Meta(description="For each worker process.")] = SizeSpec(
        cpu=2, memoryGiB=8, sharedMemoryGiB=2, diskGiB=5
    )


@dataclass(frozen=True)
class TolerationSpec:
    """A taint that runs tolerate."""

    key: Annotated[str, Meta(description="Of the taint; empty: every taint.")] = ""
    operator: Annotated[Literal["Exists", "Equal"], Meta(description="How it matches.")] = "Exists"
    value: Annotated[str, Meta(description="Only for Equal.")] = ""
    effect: Annotated[
        Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"],
        Meta(description="Empty: every effect."),
    ] = ""


@dataclass(frozen=True)
class GpuSpec:
    """Worker pods of runs with GPUs, and the nodes that they need."""

    resource: Annotated[str, Meta(min_length=1, description="Resource name of a GPU.")] = (
        "nvidia.com/gpu"
    )
    perNode: Annotated[int, Meta(ge=1, description="GPUs of a node, the most of a pod.")] = 8
    flavor: Annotated[
        str,
        Meta(
            pattern="^([a-z0-9]([-a-z0-9]*[a-z0-9])?)?$",
            description="The kind that a run wants, as lima-queue's `flavors` name it; empty: the "
            "first of them that Kueue can give.",
        ),
    ] = ""
    worker: Annotated[SizeSpec, Meta(description="For each GPU.")] = SizeSpec(
        cpu=11, memoryGiB=200, sharedMemoryGiB=50, diskGiB=5
    )
    fabric: Annotated[
        Strings,
        Meta(
            description="Resources of the network between nodes (EFA, RDMA) that a pod of a run "
            "on several nodes requests."
        ),
    ] = field(default_factory=dict)
    nccl: Annotated[Strings, Meta(description="Environment of GPU workers: NCCL, EFA, UCX.")] = (
        field(default_factory=dict)
    )
    podAnnotations: Annotated[
        Strings, Meta(description="Annotations of GPU workers, as for more network interfaces.")
    ] = field(default_factory=dict)
    runtimeClassName: Annotated[
        str, Meta(description="Runtime class of GPU workers; empty: the default.")
    ] = ""
    nodeLabels: Annotated[
        Strings, Meta(description="Labels of the nodes; lima-queue makes them a ResourceFlavor.")
    ] = field(default_factory=dict)
    tolerations: Annotated[
        tuple[TolerationSpec, ...],
        Meta(description="Taints of the nodes that runs tolerate; part of the ResourceFlavor."),
    ] = ()


@dataclass(frozen=True)
class TopologySpec:
    """How near to each other the workers of a run are placed."""

    levels: Annotated[
        tuple[str, ...],
        Meta(description="Node labels from the widest level to the node; empty: no topology."),
    ] = ()
    level: Annotated[
        str, Meta(description="Level within which a run's workers shall lie; empty: anywhere.")
    ] = ""
    required: Annotated[
        bool, Meta(description="Wait for such a place, instead of only preferring it.")
    ] = False


@dataclass(frozen=True)
class CacheSpec:
    """The disk of a pod for weights, models and states on their way to storage."""

    sizeGiB: Annotated[int, Meta(ge=1, description="Most that a pod may keep there.")] = 500
    storageClass: Annotated[
        str,
        Meta(
            description="Class of a volume that lives as long as a pod with GPUs; empty, and in "
            "all other pods: the node's own disk (emptyDir), which the profiles put on NVMe."
        ),
    ] = ""


@dataclass(frozen=True)
class StopSpec:
    """How long a pod that must go may take to save its state."""

    stateGiB: Annotated[
        float, Meta(ge=0, description="Training state of a run; `lima-k8s submit` computes it.")
    ] = 0.0
    uploadMiBps: Annotated[
        int, Meta(ge=1, description="MiB that a pod writes to storage a second.")
    ] = 250
    marginSeconds: Annotated[
        int, Meta(ge=5, description="For the step that is under way, and for everything else.")
    ] = 120


@dataclass(frozen=True)
class AutoscalingSpec:
    """Worker pods that come and go with the work; Kueue admits each (elastic jobs)."""

    enabled: Annotated[bool, Meta(description="Let the worker group grow and shrink.")] = False
    minPods: Annotated[int, Meta(ge=0, description="Worker pods at the start and at least.")] = 1
    idleSeconds: Annotated[
        int, Meta(ge=1, description="A worker pod without work goes after this.")
    ] = 120
    withTopology: Annotated[
        bool,
        Meta(
            description="Also for GPU workers on a topology; Kueue must have its gate "
            "ElasticJobsViaWorkloadSlicesWithTAS. Else their number is fixed there."
        ),
    ] = False


Object = dict[str, Any]
"""A part of a manifest, as Kubernetes writes it."""


@dataclass(frozen=True)
class PodSpec:
    """What pods have besides, as Kubernetes writes it; ours of a name are the last word."""

    labels: Annotated[Labels, Meta(description="More labels.")] = field(default_factory=dict)
    annotations: Annotated[
        Strings,
        Meta(description="More annotations, as cluster-autoscaler.kubernetes.io/safe-to-evict."),
    ] = field(default_factory=dict)
    env: Annotated[Strings, Meta(description="More environment, as HTTPS_PROXY; no secrets.")] = (
        field(default_factory=dict)
    )
    volumes: Annotated[
        tuple[Object, ...], Meta(description="More volumes: claims, caches of data sets.")
    ] = ()
    volumeMounts: Annotated[
        tuple[Object, ...], Meta(description="Where the container finds them.")
    ] = ()
    initContainers: Annotated[
        tuple[Object, ...], Meta(description="Containers that run before.")
    ] = ()
    nodeSelector: Annotated[Strings, Meta(description="Labels of nodes beyond the flavor's.")] = (
        field(default_factory=dict)
    )
    affinity: Annotated[Object, Meta(description="Affinity and anti-affinity.")] = field(
        default_factory=dict
    )
    topologySpreadConstraints: Annotated[
        tuple[Object, ...], Meta(description="How pods are spread.")
    ] = ()
    tolerations: Annotated[
        tuple[Object, ...], Meta(description="More taints to tolerate than the flavor's.")
    ] = ()
    schedulerName: Annotated[str, Meta(description="Scheduler; empty: the default one.")] = ""
    priorityClassName: Annotated[
        str,
        Meta(
            description="PriorityClass of the pods, for the scheduler; Kueue goes by "
            "cluster.priorityClass where that is set. lima-queue must allow it."
        ),
    ] = ""
    hostNetwork: Annotated[
        bool, Meta(description="The node's own network; pod security `restricted` refuses it.")
    ] = False
    podOverrides: Annotated[
        Object,
        Meta(
            description="A strategic merge patch of the pod template for all the rest: metadata "
            "and spec; containers are called ray-head, ray-worker and ray-job-submitter."
        ),
    ] = field(default_factory=dict)


@dataclass(frozen=True)
class PodsSpec:
    """What pods have besides: all of them, then those of one role."""

    all: PodSpec = PodSpec()
    head: PodSpec = PodSpec()
    worker: PodSpec = PodSpec()
    submitter: PodSpec = PodSpec()


@dataclass(frozen=True)
class CaBundleSpec:
    """Certificates that all pods trust: a whole bundle, the public ones too if they are needed."""

    configMap: Annotated[
        Name, Meta(description="ConfigMap of the namespace that holds them; empty: the image's.")
    ] = ""
    key: Annotated[str, Meta(min_length=1, description="Its key.")] = "ca-bundle.crt"


@dataclass(frozen=True)
class ClusterSpec:
    """Where a run runs. Nothing here changes what it finds."""

    queue: Annotated[
        str,
        Meta(max_length=63, pattern=f"^{DNS_NAME}$", description="LocalQueue of the namespace."),
    ] = "lima"
    priorityClass: Annotated[
        str,
        Meta(
            max_length=63,
            pattern=f"^({DNS_NAME})?$",
            description="WorkloadPriorityClass of the run; empty: none.",
        ),
    ] = "lima-normal"
    image: ImageSpec = ImageSpec()
    storage: StorageSpec = StorageSpec()
    secrets: Annotated[
        tuple[Name, ...],
        Meta(description="More Secrets that become environment: HF_TOKEN, the judge's key."),
    ] = ()
    env: Annotated[Strings, Meta(description="More environment of all pods; no secrets.")] = field(
        default_factory=dict
    )
    serviceAccount: Annotated[
        Name, Meta(description="Identity of the pods; empty: the namespace's default.")
    ] = ""
    podLabels: Annotated[
        Labels,
        Meta(
            description="More labels of all pods, as Azure's workload identity asks; ours are the "
            "last word."
        ),
    ] = field(default_factory=dict)
    pods: PodsSpec = PodsSpec()
    caBundle: CaBundleSpec = CaBundleSpec()
    jobLabels: Annotated[Labels, Meta(description="More labels of the RayJob.")] = field(
        default_factory=dict
    )
    jobAnnotations: Annotated[Strings, Meta(description="More annotations of the RayJob.")] = field(
        default_factory=dict
    )
    deadlineSeconds: Annotated[
        int,
        Meta(
            ge=0,
            description="A start of the run that takes longer is ended (activeDeadlineSeconds); it "
            "counts anew after a preemption. 0: none.",
        ),
    ] = 0
    user: Annotated[int, Meta(ge=1, description="User and group id of all processes.")] = 1000
    head: Annotated[SizeSpec, Meta(description="The head pod, where the driver runs.")] = SizeSpec(
        cpu=4, memoryGiB=16, sharedMemoryGiB=4, diskGiB=10
    )
    submitter: Annotated[PlainSizeSpec, Meta(description="The pod that hands the job to Ray.")] = (
        PlainSizeSpec(cpu=0.5, memoryGiB=1, diskGiB=1)
    )
    cpu: CpuSpec = CpuSpec()
    gpu: GpuSpec = GpuSpec()
    topology: TopologySpec = TopologySpec()
    cache: CacheSpec = CacheSpec()
    stop: StopSpec = StopSpec()
    autoscaling: AutoscalingSpec = AutoscalingSpec()
    retries: Annotated[
        int, Meta(ge=0, le=100, description="New Ray clusters after a failure; work goes on.")
    ] = 5
    waitMinutes: Annotated[
        int,
        Meta(
            ge=1,
            description="The driver waits this long for its worker pods, and for a storage that "
            "stopped answering.",
        ),
    ] = 30
    preflight: Annotated[
        bool, Meta(description="Check GPUs and network before weights are loaded.")
    ] = True
    extensions: Annotated[
        bool, Meta(description="Run Python files of a study's own (option `--extension`).")
    ] = False
    tokenAuth: Annotated[
        bool, Meta(description="Ray answers only to the run's own token (Ray 2.52, KubeRay 1.6).")
    ] = True
    rayVersion: Annotated[str, Meta(pattern=r"^\d+\.\d+\.\d+$", description="Of the images.")] = (
        RAY_VERSION
    )


def merge(defaults: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `defaults` with `changes` over them, as Helm merges values: mappings deep."""
    merged = dict(defaults)
    for key, value in changes.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping)
        merged[key] = merge(old, value) if both else value  # type: ignore[arg-type]
    return merged


def cluster_spec(values: Mapping[str, Any], where: str = "cluster") -> ClusterSpec:
    """Return the cluster that `values` (the content of `cluster:`) says, over the defaults.

    Raises:
        SpecError: an unknown key, a wrong type or a value out of range.

    """
    return decode(ClusterSpec, merge(encode(ClusterSpec()), values), where)


def load_cluster(
    profile: str | None = None, overrides: Mapping[str, Any] | None = None
) -> ClusterSpec:
    """Return the cluster of a profile (a name, or a file), with `overrides` over it.

    Raises:
        InputError: there is no such profile, or it says something that no cluster has.

    """
    return cluster_spec(cluster_values(profile, overrides), profile or "cluster")


def cluster_values(
    profile: str | None = None, overrides: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what differs from a chart's defaults, to be given to Helm as `cluster:`.

    Raises:
        InputError: there is no such profile.

    """
    from lima_k8s.profile.assets import read_profile

    return merge(read_profile(profile) if profile else {}, overrides or {})
