"""Takes runs off a cluster: their pods, their quota and their releases; never their results."""

import os
import re
import time
from collections.abc import Collection, Sequence

from lima.errors import ClusterError
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.api import CONFIGMAPS, PODS, RAYJOBS, SECRETS, Cluster, Raw
from lima_k8s.cluster.read.model import Pod
from lima_k8s.cluster.submit.helm import Helm
from lima_k8s.runs.model import Run

POLL_S = 1.0
PENDING_S = 120.0
"""Seconds that another submit may take to install a release."""
STUCK_S = 300.0
"""Seconds in which at least one of the runs that are being deleted goes, if KubeRay runs."""
_RAYJOB_NAME = re.compile(
    r"^kind: RayJob$(?:(?!^kind: ).)*?^  name: \"?([a-z0-9-]+)\"?$", re.MULTILINE | re.DOTALL
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
            forget(cluster, release)
            gone.append(release)
    _delete_tests(cluster, gone)
    return gone


def remove_empty(cluster: Cluster, helm: Helm, there: Collection[Run]) -> list[str]:
    """Forget the releases of our charts that hold no run any more; return their names."""
    from lima_k8s.profile.kinds import CHARTS

    held = {run.release for run in there}
    empty = [
        name
        for name, chart in helm.charts().items()
        if name not in held and chart.rpartition("-")[0] in CHARTS.values()
    ]
    for release in empty:
        await_installed(helm, release)
        take_back(cluster, release)
    _delete_tests(cluster, empty)
    return empty


def take_back(cluster: Cluster, release: str, besides: Collection[str] = ()) -> None:
    """Delete what an install left half made, by its label: Helm deletes by name, whose ever it is.

    Args:
        cluster: The namespace.
        release: Made a moment ago.
        besides: Uids of the RayJobs that were there before; they stay, and the release with them.

    """
    mine = f"app.kubernetes.io/instance={release},{parse.PART_OF}"
    jobs = [raw["metadata"] for raw in cluster.list_all(RAYJOBS, mine)]
    kept = {meta["name"] for meta in jobs if meta.get("uid") in besides}
    for kind in (RAYJOBS, CONFIGMAPS):
        for raw in cluster.list_all(kind, mine):
            if raw["metadata"]["name"] not in kept:
                cluster.delete(kind, raw["metadata"]["name"])
    if not kept:
        forget(cluster, release)


def await_installed(helm: Helm, release: str) -> None:
    """Wait until nobody installs a release; one whose install was killed says so without end."""
    patience = time.monotonic() + PENDING_S
    while helm.state(release).startswith("pending") and time.monotonic() < patience:
        time.sleep(POLL_S)


def _delete_tests(cluster: Cluster, releases: Collection[str]) -> None:
    """Delete the pods that `helm test` left of releases: Helm does not count them as theirs."""
    for release in releases:
        mine = f"app.kubernetes.io/instance={release},{parse.PART_OF},!{parse.PREFIX}run"
        for raw in cluster.list_all(PODS, mine):
            cluster.delete(PODS, raw["metadata"]["name"])


def _moved(helm: Helm, release: str, there: Collection[Run]) -> bool:
    """Say whether a run of `release` was submitted again and belongs to another release now.

    Helm deletes by name, without a look at whose the object is.
    """
    others = {run.name for run in there if run.release != release}
    return bool(others and others & set(_RAYJOB_NAME.findall(helm.manifest(release))))


def forget(cluster: Cluster, release: str) -> None:
    """Delete Helm's records of a release whose objects are gone."""
    kind = CONFIGMAPS if os.environ.get("HELM_DRIVER", "").startswith("configmap") else SECRETS
    for raw in cluster.list_all(kind, f"owner=helm,name={release}"):
        cluster.delete(kind, raw["metadata"]["name"])


def wait_until_removed(cluster: Cluster, runs: Sequence[Run]) -> None:
    """Wait until the RayJobs of these runs are gone: KubeRay keeps each until its job is stopped.

    What is installed under the name of one that is still there goes with it.

    Raises:
        ClusterError: they stay; the message says what holds them.

    """
    wanted, left, patience = {(run.name, run.uid) for run in runs}, len(runs) + 1, 0.0
    while wanted:
        jobs = [raw["metadata"] for raw in cluster.list_all(RAYJOBS, parse.PART_OF)]
        held = [meta for meta in jobs if (meta["name"], meta.get("uid", "")) in wanted]
        if not held:
            return
        if len(held) < left:
            left, patience = len(held), time.monotonic() + STUCK_S
        if time.monotonic() > patience:
            raise _stuck(held, cluster.namespace)
        time.sleep(POLL_S)


def _stuck(held: Sequence[Raw], namespace: str) -> ClusterError:
    """Return the error for deleted RayJobs, given as their metadata, that do not go."""
    names = [meta["name"] for meta in held]
    finalizers = sorted({name for meta in held for name in meta.get("finalizers") or []})
    others = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return ClusterError(
        f"{names[0]}{others}: deleted, but still there after {STUCK_S:.0f} s; held by "
        f"{', '.join(finalizers) or 'no finalizer'}: does KubeRay's operator run? It takes its "
        f"own away; look with: kubectl describe rayjob {names[0]} -n {namespace}"
    )


def wait_until_gone(cluster: Cluster, runs: Sequence[Run]) -> None:
    """Wait until these runs and their pods are gone: until then they hold names and GPUs.

    Raises:
        ClusterError: a RayJob or a pod stays.

    """
    wait_until_removed(cluster, runs)
    names, left, patience = {run.name for run in runs}, -1, 0.0
    while held := [pod for pod in _pods(cluster) if pod.run in names]:
        if len(held) != left:
            left, patience = len(held), time.monotonic() + STUCK_S
        if time.monotonic() > patience:
            raise ClusterError(
                f"pod {held[0].name} of {held[0].run} is still there {STUCK_S:.0f} s after its "
                "run was deleted: does its node answer? Look with: kubectl describe pod "
                f"{held[0].name} -n {cluster.namespace}"
            )
        time.sleep(POLL_S)


def _pods(cluster: Cluster) -> list[Pod]:
    return [parse.pod(raw) for raw in cluster.list_all(PODS, parse.PART_OF)]
