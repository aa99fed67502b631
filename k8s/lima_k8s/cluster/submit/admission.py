"""Asks the API server whether it would take the runs of a submission, before any is made."""

import json
import time
from collections.abc import Iterable, Sequence
from typing import Any

from lima.errors import InputError
from lima_k8s.cluster.read.api import RAYJOBS, Cluster
from lima_k8s.cluster.read.failures import UnreachableError
from lima_k8s.cluster.rules.manifests import manifest_findings
from lima_k8s.terminal.output import say

Raw = dict[str, Any]
PATIENCE_S, POLL_S = 60.0, 1.0
"""Seconds that Kueue's webhook may be away, and between two questions."""


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
        _ask(cluster, job)


def _ask(cluster: Cluster, job: Raw) -> None:
    """Ask whether a RayJob would be taken; a webhook that is away, as in a restart, is awaited."""
    patience, told = time.monotonic() + PATIENCE_S, False
    while True:
        try:
            cluster.would_take(RAYJOBS, job)
        except UnreachableError as error:
            if time.monotonic() > patience:
                raise
            if not told:
                say(f"waiting: {error}")
            told = True
            time.sleep(POLL_S)
        else:
            return


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
