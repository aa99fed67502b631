"""What KubeRay and Kueue refuse, or take and then hang on: judged offline, before any is asked.

Manifests are read as the API server would get them. The limits are those of KubeRay 1.6
(ray-operator/controllers/ray/utils/validation.go) and Kueue 0.19 (pkg/controller/jobs/rayjob,
raycluster).
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from lima.lint import Finding
from lima_k8s.cluster.rules.names import name_findings
from lima_k8s.cluster.rules.pods import pod_findings
from lima_k8s.study.findings import Told

Raw = dict[str, Any]
MAX_POD_SETS = 18
"""Of a Kueue Workload: the head, the submitter and the worker groups."""
MAX_LABEL = 63
MAX_CONFIG_BYTES = 1 << 20
MAX_ANNOTATION_BYTES = 1 << 18
RESERVED_GROUPS = ("head", "submitter")
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
ELASTIC = "kueue.x-k8s.io/elastic-job"
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


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
    yield from name_findings(raw)
    yield from _queue(raw)
    yield from _job_settings(raw)
    yield from pod_findings(raw)
    cluster = raw.get("spec", {}).get("rayClusterSpec")
    if cluster:
        yield from _groups(raw, cluster)
        yield from _head(cluster.get("headGroupSpec", {}))
        yield from _authentication(cluster)


def _queue(raw: Raw) -> Iterator[Told]:
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
