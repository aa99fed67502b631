"""Takes runs off a cluster: their pods, their quota and their releases; never their results."""

import os
import re
import time
from collections.abc import Collection, Sequence

from lima_k8s.cluster import parse
from lima_k8s.cluster.api import CONFIGMAPS, PODS, RAYJOBS, SECRETS, Cluster
from lima_k8s.cluster.helm import Helm
from lima_k8s.cluster.model import Run

POLL_S = 1.0
_RAYJOB_NAME = re.compile(
    r"^kind: RayJob$.*?^  name: \"?([a-z0-9-]+)\"?$", re.MULTILINE | re.DOTALL
)


def remove(cluster: Cluster, helm: Helm, runs: Sequence[Run], there: Collection[Run]) -> list[str]:
    """Delete runs; a release that has none left goes with them.

    Args:
        cluster: The namespace.
        helm: For the same namespace.
        runs: Which to delete.
        there: All runs of the namespace.

    Returns:
        The names of the releases that are gone.

    """
    gone, names = [], {run.name for run in runs}
    for release in sorted({run.release for run in runs}):
        mine = [run for run in runs if run.release == release]
        rest = [r for r in there if r.release == release and r.name not in names]
        alone = release and not rest and not _moved(helm, release, there)
        if alone and helm.uninstall(release):
            gone.append(release)
            continue
        # Part of a release, or applied without Helm, as from `submit --dry-run`.
        for run in mine:
            cluster.delete(RAYJOBS, run.name)
            cluster.delete(CONFIGMAPS, run.name)
        if release and not rest and not alone:
            _forget(cluster, release)
            gone.append(release)
    return gone


def _moved(helm: Helm, release: str, there: Collection[Run]) -> bool:
    """Say whether a run of `release` was submitted again and belongs to another release now.

    Helm deletes by name, without a look at whose the object is.
    """
    others = {run.name for run in there if run.release != release}
    return bool(others and others & set(_RAYJOB_NAME.findall(helm.manifest(release))))


def _forget(cluster: Cluster, release: str) -> None:
    """Delete Helm's records of a release whose objects are gone."""
    kind = CONFIGMAPS if os.environ.get("HELM_DRIVER", "").startswith("configmap") else SECRETS
    for raw in cluster.list_all(kind, f"owner=helm,name={release}"):
        cluster.delete(kind, raw["metadata"]["name"])


def wait_until_gone(cluster: Cluster, runs: Sequence[Run]) -> None:
    """Wait until no pod of these runs is left: until then they hold their GPUs."""
    names = {run.name for run in runs}
    while names:
        pods = [parse.pod(raw) for raw in cluster.list_all(PODS, parse.PART_OF)]
        names &= {pod.run for pod in pods}
        if names:
            time.sleep(POLL_S)
