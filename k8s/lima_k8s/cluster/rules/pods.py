"""What KubeRay, Kueue and a restricted namespace do not admit of a run's pods."""

from collections.abc import Iterator
from typing import Any

from lima_k8s.study.findings import Told

Raw = dict[str, Any]
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
MARK = "lima-k8s.io/flavor"
"""Taint by which lima-queue keeps pods without GPUs out of a flavor with them."""
MAIN = {"head": "ray-head", "worker": "ray-worker", "submitter": "ray-job-submitter"}
"""The container that KubeRay takes for Ray's: the first of its pod."""


def pod_findings(job: Raw) -> Iterator[Told]:
    """Yield what is wrong with the pod templates of a RayJob."""
    for role, path, template in _templates(job):
        spec = template.get("spec") or {}
        for check in (_containers, _lifetime, _placing, _restricted):
            yield from check(role, f"{path}.spec", spec)
        yield from _labels(f"{path}.metadata.labels", template.get("metadata", {}))


def _templates(job: Raw) -> Iterator[tuple[str, str, Raw]]:
    spec = job.get("spec", {})
    if submitter := spec.get("submitterPodTemplate"):
        yield "submitter", "spec.submitterPodTemplate", submitter
    cluster = spec.get("rayClusterSpec") or {}
    if head := cluster.get("headGroupSpec", {}).get("template"):
        yield "head", "spec.rayClusterSpec.headGroupSpec.template", head
    for index, group in enumerate(cluster.get("workerGroupSpecs") or []):
        if template := group.get("template"):
            yield "worker", f"spec.rayClusterSpec.workerGroupSpecs[{index}].template", template


def _containers(role: str, path: str, spec: Raw) -> Iterator[Told]:
    names = [str(container.get("name", "")) for container in spec.get("containers") or []]
    if names and names[0] != MAIN[role]:
        yield (
            "error",
            f"{path}.containers[0]",
            f"{names[0]!r} stands first: KubeRay takes that one for Ray's",
            f"{MAIN[role]} first, others after it",
        )
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        yield "error", f"{path}.containers", f"{doubled[0]!r} is there twice", "one of each name"


def _lifetime(role: str, path: str, spec: Raw) -> Iterator[Told]:
    if role == "submitter" and spec.get("restartPolicy") not in ("Never", "OnFailure"):
        yield (
            "error",
            f"{path}.restartPolicy",
            f"{spec.get('restartPolicy')!r}: the submitter is a Job, which refuses that",
            "Never",
        )
    if spec.get("activeDeadlineSeconds"):
        yield (
            "warning",
            f"{path}.activeDeadlineSeconds",
            "it ends the pod, and KubeRay makes another: the run does not end",
            "cluster.deadlineSeconds",
        )


def _placing(role: str, path: str, spec: Raw) -> Iterator[Told]:
    if spec.get("nodeName"):
        yield (
            "error",
            f"{path}.nodeName",
            f"{spec['nodeName']!r} passes the scheduler and the flavor that Kueue gives",
            "nodeSelector",
        )
    if spec.get("hostNetwork") and role != "submitter":
        yield (
            "warning",
            f"{path}.hostNetwork",
            "Ray's ports are then the node's: two pods of runs on one node meet there",
            "pods of whole nodes only",
        )
    if not _has_devices(spec):
        for index, toleration in enumerate(spec.get("tolerations") or []):
            if _passes_mark(toleration):
                yield (
                    "warning",
                    f"{path}.tolerations[{index}]",
                    f"it tolerates {MARK} too: Kueue may give a pod without GPUs the room of those",
                    "a toleration for each taint, by its key",
                )


def _has_devices(spec: Raw) -> bool:
    limits = (c.get("resources", {}).get("limits") or {} for c in spec.get("containers") or [])
    return any("/" in name for names in limits for name in names)


def _passes_mark(toleration: Raw) -> bool:
    """Say whether a toleration is one of lima-queue's mark, or of every taint."""
    if toleration.get("effect") not in (None, "", "NoSchedule"):
        return False
    key = toleration.get("key")
    return key == MARK or (not key and toleration.get("operator") == "Exists")


def _restricted(_: str, path: str, spec: Raw) -> Iterator[Told]:
    """Find what the pod security level of lima-queue's namespace refuses."""
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield "warning", f"{path}.{key}", "pod security `restricted` refuses it", "leave it out"
    for volume in spec.get("volumes") or []:
        if "hostPath" in volume:
            yield (
                "warning",
                f"{path}.volumes.{volume.get('name', '')}",
                "pod security `restricted` refuses hostPath",
                "a claim, or an ephemeral volume",
            )


def _labels(path: str, metadata: Raw) -> Iterator[Told]:
    if QUEUE_LABEL in (metadata.get("labels") or {}):
        yield (
            "error",
            f"{path}.{QUEUE_LABEL}",
            "Kueue would line up the pod by itself too, for quota that the run has",
            "on the RayJob alone",
        )
