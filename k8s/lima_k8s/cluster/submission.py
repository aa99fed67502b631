"""Submits cells as Helm releases, each run once however often it is submitted."""

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lima.codec import encode, run_id, sha256_key
from lima.errors import ClusterError, InputError, LimaError
from lima.spec import CellSpec
from lima_k8s.assets import chart, chart_for
from lima_k8s.cluster.api import PRIORITY_CLASSES, QUEUES, SECRETS, Cluster
from lima_k8s.cluster.helm import Helm, TakenError
from lima_k8s.cluster.model import Run
from lima_k8s.cluster.removal import remove
from lima_k8s.cluster.snapshot import read_runs
from lima_k8s.cluster_spec import ClusterSpec

MAX_RUNS = 200
"""Runs of one release: Helm keeps a release in one Secret, which holds 1 MiB."""
RELEASE_LENGTH = 53
"""Longest name of a release that Helm takes."""
PRIORITIES = ("low", "normal", "high")


@dataclass(frozen=True)
class Submission:
    """What one `submit` asks for."""

    kind: str
    cells: tuple[CellSpec, ...]
    cluster: dict[str, Any]
    """The `cluster:` values that differ from the chart's defaults."""

    @property
    def storage(self) -> str:
        """URI of the study's storage."""
        return str(self.cluster["storage"]["uri"])

    def releases(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the name and the values of each release that holds these cells."""
        found = []
        for start in range(0, len(self.cells), MAX_RUNS):
            cells = self.cells[start : start + MAX_RUNS]
            values = {"cluster": self.cluster, "runs": [encode(cell) for cell in cells]}
            found.append((release_name(self.kind, cells, self.storage), values))
        return found


@dataclass(frozen=True)
class LeftOut:
    """A cell that is not submitted, since it is there."""

    run: Run
    why: str


@dataclass
class Outcome:
    """What became of a submission."""

    releases: list[str] = field(default_factory=list)
    submitted: list[CellSpec] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    """Names of failed runs that were taken away to be submitted again."""


def release_name(kind: str, cells: Sequence[CellSpec], storage: str) -> str:
    """Return the name of the release of these cells: the same for the same cells and storage."""
    digest = sha256_key([sorted(run_id(cell) for cell in cells), storage])[:8]
    experiment = re.sub(r"[^a-z0-9]+", "-", cells[0].experiment.lower()).strip("-")
    start = f"lima-{kind}-{experiment}"[: RELEASE_LENGTH - len(digest) - 1].rstrip("-")
    return f"{start}-{digest}"


def priority_class(priority: str | None) -> dict[str, str]:
    """Return the values for a priority: low, normal, high or none, or a class of another name."""
    if priority is None:
        return {}
    if priority == "none":
        return {"priorityClass": ""}
    return {"priorityClass": f"lima-{priority}" if priority in PRIORITIES else priority}


def submit(submission: Submission, cluster: Cluster, helm: Helm) -> Outcome:
    """Submit what does not run and is not finished.

    Args:
        submission: What to run.
        cluster: Where.
        helm: For the same namespace.

    Raises:
        InputError: the queue or the Secret is missing, or the cluster refuses a run.
        ClusterError: the cluster cannot be reached, or a right is missing.

    """
    require_queue(cluster, submission.cluster.get("queue", ClusterSpec.queue))
    require_secret(cluster, submission.cluster["storage"].get("secretName", ""))
    priority = submission.cluster.get("priorityClass", ClusterSpec.priorityClass)
    require_priority(cluster, priority)
    runs = read_runs(cluster)
    outcome, failed = Outcome(), []
    there = {r.run_id: r for r in runs if r.storage == submission.storage and r.run_id}
    for cell in submission.cells:
        run = there.get(run_id(cell))
        if run is None or (run.ended and not run.succeeded):
            outcome.submitted.append(cell)
            failed += [run] if run else []
        else:
            outcome.left_out.append(LeftOut(run, "finished" if run.succeeded else "there already"))
    remove(cluster, helm, failed, runs)
    outcome.renewed = [run.name for run in failed]
    wanted = Submission(submission.kind, tuple(outcome.submitted), submission.cluster)
    folder = chart(chart_for(submission.kind))
    for release, values in wanted.releases():
        install(helm, cluster, release, folder, values)
        outcome.releases.append(release)
    return outcome


def install(helm: Helm, cluster: Cluster, release: str, folder: Path, values: Any) -> None:
    """Install a release; what an earlier attempt left half-made is taken away first.

    Raises:
        InputError: the cluster refuses a run, or the same is being submitted elsewhere.
        ClusterError: the cluster cannot be reached, or a right is missing.

    """
    try:
        helm.install(release, folder, values)
    except TakenError as error:
        state = helm.state(release)
        if state.startswith("pending"):
            raise InputError(
                f"release {release} is being installed by another submit; if that one was killed: "
                f"helm uninstall {release} -n {cluster.namespace}"
            ) from error
        if not state or any(run.release == release for run in read_runs(cluster)):
            raise InputError(
                "these runs were submitted by someone else a moment ago; the same command says "
                f"which ({error})"
            ) from error
        helm.uninstall(release)
        helm.install(release, folder, values)
    except LimaError:
        with contextlib.suppress(LimaError):
            helm.uninstall(release)  # nothing half-made stays behind
        raise


def require_queue(cluster: Cluster, queue: str) -> None:
    """Refuse a queue that is not there: its runs would wait without end.

    Raises:
        InputError: there is no such LocalQueue; the message names those that are.

    """
    if cluster.get(QUEUES, queue) is not None:
        return
    names = [raw["metadata"]["name"] for raw in cluster.list_all(QUEUES)]
    known = f"queues there: {', '.join(names)}" if names else "there is none"
    raise InputError(
        f"no LocalQueue {queue!r} in namespace {cluster.namespace!r}; {known}; choose with "
        "--queue and -n, or have lima-queue installed (docs/cluster.md)"
    )


def require_priority(cluster: Cluster, name: str) -> None:
    """Refuse a priority that is not there, where the user may know: Kueue would never see the run.

    Raises:
        InputError: there is no such WorkloadPriorityClass.

    """
    try:
        missing = bool(name) and cluster.get(PRIORITY_CLASSES, name) is None
    except ClusterError:
        return
    if missing:
        raise InputError(
            f"no WorkloadPriorityClass {name!r} in this cluster; lima-queue brings low, normal and "
            "high; name another with --priority, or --priority none"
        )


def require_secret(cluster: Cluster, name: str) -> None:
    """Refuse a Secret that is not there, where the user may know.

    Raises:
        InputError: there is no such Secret.

    """
    try:
        missing = bool(name) and cluster.get(SECRETS, name) is None
    except ClusterError:
        return  # who may not look lets `watch` find out
    if missing:
        raise InputError(
            f"no Secret {name!r} in namespace {cluster.namespace!r}, which the profile names for "
            f"the storage; make it: kubectl -n {cluster.namespace} create secret generic {name} "
            "--from-literal=AWS_ACCESS_KEY_ID=… --from-literal=AWS_SECRET_ACCESS_KEY=…"
        )
