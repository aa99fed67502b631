"""Asks the API server whether it would take the runs of a submission, before any is made."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from lima.errors import InputError
from lima_k8s.cluster.api import RAYJOBS, Cluster
from lima_k8s.cluster.rules import manifest_findings

Raw = dict[str, Any]


def require_admission(cluster: Cluster, manifests: Sequence[Raw]) -> None:
    """Refuse runs that the rules of KubeRay and Kueue, or the cluster itself, refuse.

    Of runs that differ in their names alone one is asked for: each question costs a webhook's call.

    Raises:
        InputError: a run is refused.
        ClusterError: the cluster cannot be reached, or a right is missing.

    """
    errors = [found for found in manifest_findings(manifests) if found.level == "error"]
    if errors:
        told = "\n  ".join(f"{found.path}: {found.message}" for found in errors[:5])
        raise InputError(f"the cluster would refuse these runs:\n  {told}")
    for job in _unlike(raw for raw in manifests if raw["kind"] == "RayJob"):
        cluster.would_take(RAYJOBS, job)


def _unlike(jobs: Iterable[Raw]) -> list[Raw]:
    """Return the first of each of the RayJobs that are alike but for what names them."""
    found: dict[str, Raw] = {}
    for job in jobs:
        metadata = job["metadata"]
        labels = {k: v for k, v in metadata.get("labels", {}).items() if "kueue" in k}
        shape = json.dumps([labels, _without_names(job["spec"])], sort_keys=True)
        found.setdefault(shape.replace(metadata["name"], ""), job)
    return list(found.values())


def _without_names(value: Any) -> Any:
    """Return a part of a manifest without its annotations: they say the run, and bind nobody."""
    if isinstance(value, dict):
        return {k: _without_names(v) for k, v in value.items() if k != "annotations"}
    if isinstance(value, list):
        return [_without_names(item) for item in value]
    return value
