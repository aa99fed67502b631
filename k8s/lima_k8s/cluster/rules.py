"""What KubeRay and Kueue refuse, or take and then hang on: judged offline, before any is asked.

`manifest_findings` reads manifests as the API server would get them; `cell_findings` compares
specs with a cluster. The limits are those of KubeRay 1.6 (ray-operator/controllers/ray/utils/
validation.go) and Kueue 0.19 (pkg/controller/jobs/rayjob, raycluster).
"""

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lima.errors import SpecError
from lima.judging.key import KeyOf, keys_of
from lima.lint import Finding
from lima.lint.finding import Level
from lima.spec import CellSpec, computes
from lima_k8s.cluster_spec import ClusterSpec

Raw = dict[str, Any]
MAX_NAME = 47
"""KubeRay makes longer names of it that must fit a label."""
MAX_POD_SETS = 18
"""Of a Kueue Workload: the head, the submitter and the worker groups."""
MAX_LABEL = 63
MAX_CONFIG_BYTES = 1 << 20
MAX_ANNOTATION_BYTES = 1 << 18
RESERVED_GROUPS = ("head", "submitter")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
ELASTIC = "kueue.x-k8s.io/elastic-job"
_DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def not_of_this_machine(findings: Iterable[Finding]) -> list[Finding]:
    """Leave out what a pod does not care about: whether a file is on this machine."""
    return [f for f in findings if "is not on this machine" not in f.message]


def cell_findings(cells: Sequence[CellSpec], cluster: ClusterSpec) -> list[Finding]:
    """Return what is wrong or worth knowing about running `cells` on a cluster."""
    found: dict[tuple[Level, str, str, str], list[str]] = {}
    for cell in cells:
        for level, path, message, fix in _cell(cell, cluster):
            found.setdefault((level, path, message, fix), []).append(f"{cell.arm}/{cell.seed}")
    return [Finding(*key, runs=tuple(runs)) for key, runs in found.items()]


def manifest_findings(manifests: Iterable[Raw]) -> list[Finding]:
    """Return what KubeRay and Kueue would refuse, or hang on, in manifests.

    The path of a finding is `KIND/NAME: path`.
    """
    found = []
    for raw in manifests:
        kind = raw.get("kind", "")
        checks = {"RayJob": (_metadata, _ray_job), "ConfigMap": (_metadata, _config_map)}
        where = f"{kind}/{raw.get('metadata', {}).get('name', '')}"
        for check in checks.get(kind, (_metadata,)):
            found += [
                Finding(level, f"{where}: {path}", message, fix)
                for level, path, message, fix in check(raw)
            ]
    return found


Told = tuple[Level, str, str, str]


def _cell(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    yield from _gpu_shape(cell, cluster)
    yield from _files(cell)
    yield from _keys(cell, cluster)


def _gpu_shape(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Compare the GPUs of a stage with those of a node."""
    node = cluster.gpu.perNode
    for stage, compute in computes(cell).items():
        if compute.device != "cuda":
            continue
        path = f"{stage}.compute"
        if compute.gpus_per_worker > node:
            yield (
                "error",
                f"{path}.gpus_per_worker",
                f"a worker of {compute.gpus_per_worker} GPUs fits no node of {node}",
                f"--set {path}.gpus_per_worker={node}, or compute.offload",
            )
        elif (compute.workers * compute.gpus_per_worker) % node and compute.workers > node:
            yield (
                "warning",
                f"{path}.workers",
                f"{compute.workers * compute.gpus_per_worker} GPUs do not fill nodes of {node}: "
                "the rest of a node stays empty",
                f"a multiple of {node} GPUs",
            )


def _files(cell: CellSpec) -> Iterator[Told]:
    """Name the files that pods read below the storage."""
    for stage in ("base", "train", "generate"):
        spec = getattr(cell, stage)
        for name in ("data", "heldout", "prompts"):
            data = getattr(spec, name, None)
            if data is None or ":" in data.path or data.path.startswith("/"):
                continue
            path = f"{stage}.{name}.path"
            yield (
                "note",
                path,
                f"pods read {data.path} below the storage",
                f"put it there, or name another place: --set {path}=s3://…",
            )


def _keys(cell: CellSpec, cluster: ClusterSpec) -> Iterator[Told]:
    """Say that no Secret could hold a key, where a public endpoint will ask for one."""
    if cluster.secrets or cluster.storage.secretName:
        return
    for key in _public_keys(cell):
        if key.variable not in cluster.env:
            yield (
                "warning",
                key.setting,
                f"no Secret is named that could hold {key.variable}, the key of {key.url}; without "
                "the key a run ends before its first stage",
                "name one in cluster.secrets of a profile of your own"
                + (", or --set judge=null" if key.stage == "judge" else ""),
            )


def _public_keys(cell: CellSpec) -> list[KeyOf]:
    with contextlib.suppress(SpecError):  # an address that is none is told without a cluster too
        return [key for key in keys_of(cell) if key.looks_public]
    return []


def _metadata(raw: Raw) -> Iterator[Told]:
    meta = raw.get("metadata", {})
    for key, value in meta.get("labels", {}).items():
        if len(str(value)) > MAX_LABEL or not _LABEL_VALUE.fullmatch(str(value)):
            yield (
                "error",
                f"metadata.labels.{key}",
                f"{value!r} is no label value: at most {MAX_LABEL} of A-Z a-z 0-9 - _ .",
                "shorter, or an annotation",
            )
    size = sum(len(str(v).encode()) for v in meta.get("annotations", {}).values())
    if size > MAX_ANNOTATION_BYTES:
        yield "error", "metadata.annotations", f"{size} bytes of at most 256 KiB", "shorten them"


def _config_map(raw: Raw) -> Iterator[Told]:
    size = sum(len(str(value).encode()) for value in (raw.get("data") or {}).values())
    if size > MAX_CONFIG_BYTES:
        yield "error", "data", f"{size} bytes of at most 1 MiB", "fewer runs in one file"


def _ray_job(raw: Raw) -> Iterator[Told]:
    yield from _names(raw)
    yield from _job_settings(raw)
    cluster = raw.get("spec", {}).get("rayClusterSpec")
    if cluster:
        yield from _groups(raw, cluster)
        yield from _head(cluster.get("headGroupSpec", {}))
        yield from _authentication(cluster)


def _names(raw: Raw) -> Iterator[Told]:
    name = raw.get("metadata", {}).get("name", "")
    if len(name) > MAX_NAME:
        yield (
            "error", "metadata.name",
            f"{len(name)} characters; KubeRay takes {MAX_NAME}", "a shorter name",
        )  # fmt: skip
    if not _DNS_1035.fullmatch(name):
        yield (
            "error",
            "metadata.name",
            "not a DNS label that begins with a letter: KubeRay never starts it",
            "a-z first, then a-z, 0-9 and -",
        )
    if not raw.get("metadata", {}).get("labels", {}).get(QUEUE_LABEL):
        yield (
            "warning",
            f"metadata.labels.{QUEUE_LABEL}",
            "without a queue it starts at once, outside all quota",
            "name the LocalQueue of the namespace",
        )


def _job_settings(raw: Raw) -> Iterator[Told]:
    spec = raw.get("spec", {})
    selector, cluster = spec.get("clusterSelector"), spec.get("rayClusterSpec")
    if bool(selector) == bool(cluster):
        yield (
            "error",
            "spec.rayClusterSpec",
            "both or neither of rayClusterSpec and clusterSelector: Kueue refuses it",
            "rayClusterSpec alone",
        )
    if not spec.get("shutdownAfterJobFinishes"):
        yield (
            "error",
            "spec.shutdownAfterJobFinishes",
            "Kueue refuses a RayJob that would keep its cluster",
            "true",
        )
    if spec.get("ttlSecondsAfterFinished", 0) > 0:
        yield (
            "warning",
            "spec.ttlSecondsAfterFinished",
            f"GPUs stay taken for {spec['ttlSecondsAfterFinished']} s after the end",
            "0",
        )
    if spec.get("submissionMode", "K8sJobMode") != "K8sJobMode":
        yield (
            "error",
            "spec.submissionMode",
            f"{spec['submissionMode']} hangs under Kueue: the head stays NotReady after the job",
            "K8sJobMode",
        )
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(key) is not None and spec[key] <= 0:
            yield "error", f"spec.{key}", f"{spec[key]} is not positive", "leave it out"
    if spec.get("activeDeadlineSeconds"):
        yield (
            "note",
            "spec.activeDeadlineSeconds",
            "counts anew after each preemption",
            "",
        )


def _groups(raw: Raw, cluster: Raw) -> Iterator[Told]:
    groups, path = cluster.get("workerGroupSpecs") or [], "spec.rayClusterSpec.workerGroupSpecs"
    elastic = raw["metadata"].get("annotations", {}).get(ELASTIC) == "true"
    scales = bool(cluster.get("enableInTreeAutoscaling"))
    if len(groups) + 2 > MAX_POD_SETS:
        yield (
            "error",
            path,
            f"{len(groups)} groups, a head and a submitter: Kueue takes {MAX_POD_SETS} pod sets",
            f"at most {MAX_POD_SETS - 2} groups",
        )
    if scales and not elastic:
        yield (
            "error",
            "spec.rayClusterSpec.enableInTreeAutoscaling",
            "Kueue refuses autoscaling of a RayJob that is not elastic",
            f"annotation {ELASTIC}: 'true'",
        )
    names = [str(group.get("groupName", "")) for group in groups]
    for index, group in enumerate(groups):
        yield from _group(group, f"{path}[{index}]", names, scales)


def _group(group: Raw, path: str, names: list[str], scales: bool) -> Iterator[Told]:
    name = str(group.get("groupName", ""))
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if name.lower() in RESERVED_GROUPS or names.count(name) > 1:
        yield (
            "error",
            f"{path}.groupName",
            f"{name!r} is taken: Kueue names pod sets by it",
            "another name",
        )
    if not scales and (least is None or most is None):
        yield (
            "error",
            path,
            "minReplicas and maxReplicas must both be set without autoscaling",
            "set both to replicas",
        )
    if least is not None and most is not None and not 0 <= least <= most:
        yield "error", path, f"minReplicas {least}, maxReplicas {most}", "0 <= min <= max"
    replicas = group.get("replicas", 1)
    if not scales and least is not None and most is not None and not least <= replicas <= most:
        yield (
            "error",
            f"{path}.replicas",
            f"{replicas} is not within {least} to {most}: the job waits for pods that never come",
            "replicas = minReplicas = maxReplicas",
        )
    if not group.get("template", {}).get("spec", {}).get("containers"):
        yield "error", f"{path}.template", "no container", "add one"


def _head(head: Raw) -> Iterator[Told]:
    path = "spec.rayClusterSpec.headGroupSpec"
    if not head.get("template", {}).get("spec", {}).get("containers"):
        yield "error", f"{path}.template", "no container", "add one"
    if head.get("rayStartParams", {}).get("num-gpus", "0") != "0":
        yield (
            "warning",
            f"{path}.rayStartParams.num-gpus",
            "work is placed on the head, which the driver needs",
            "'0'",
        )


def _authentication(cluster: Raw) -> Iterator[Told]:
    if cluster.get("authOptions", {}).get("mode") != "token":
        return
    version = re.fullmatch(r"(\d+)\.(\d+)\.\d+.*", str(cluster.get("rayVersion", "")))
    if version is None or (int(version[1]), int(version[2])) < (2, 52):
        yield (
            "error",
            "spec.rayClusterSpec.rayVersion",
            f"{cluster.get('rayVersion')!r}: KubeRay wants Ray 2.52 or newer for token "
            "authentication",
            "the version of the image",
        )
