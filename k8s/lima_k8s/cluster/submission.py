"""Submits cells as Helm releases, each run once however often it is submitted."""

import contextlib
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lima.codec import encode, run_id, sha256_key
from lima.errors import InputError, LimaError
from lima.spec import CellSpec
from lima_k8s.assets import chart, chart_for
from lima_k8s.cluster.api import Cluster
from lima_k8s.cluster.helm import Helm, TakenError
from lima_k8s.cluster.model import Run
from lima_k8s.cluster.removal import remove, wait_until_removed
from lima_k8s.cluster.requirements import require_priority, require_queue, require_secret
from lima_k8s.cluster.snapshot import read_runs
from lima_k8s.cluster.uris import plain
from lima_k8s.cluster_spec import ClusterSpec
from lima_k8s.output import say

MAX_RUNS = 50
"""Runs of one release. Helm sends them all at once, and Kueue's webhook has 10 s to answer each;
and it keeps a release in one Secret, which holds 1 MiB."""
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
        return plain(self.cluster["storage"]["uri"])

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


def submit(submission: Submission, connect: Callable[[], Cluster], helm: Helm) -> Outcome:
    """Submit what does not run and is not finished.

    The releases are installed while the queue and the Secret are looked up, since importing the
    Kubernetes library takes longer than Helm: what turns out wrong is taken back at once. Helm
    itself refuses a run that exists, by its name; but one of a release of the same name that is
    being deleted it takes for its own, and that one goes. So the runs are listed after Helm is
    through: what is not there then has to be installed anew.

    Args:
        submission: What to run.
        connect: Returns the cluster; called in a thread of its own.
        helm: For the same namespace.

    Raises:
        InputError: the queue or the Secret is missing, or the cluster refuses a run.
        ClusterError: the cluster cannot be reached, a right is missing, or runs that are being
            deleted stay.

    """
    with ThreadPoolExecutor(1) as pool:
        looked_up = pool.submit(_look_up, submission, connect)
        installed, refusal = _install_all(submission, helm)
        try:
            cluster = looked_up.result()
            runs = read_runs(cluster)
            dying = _dying(submission, runs)
            if refusal and not dying and not isinstance(refusal, TakenError):
                raise refusal
        except LimaError:
            _take_back(helm, installed)
            raise
    if refusal is None and _stands(submission, runs, installed):
        return Outcome(installed, list(submission.cells))
    _take_back(helm, installed)
    if installed or dying:
        runs = _after_deletions(submission, cluster)
    return _submit_the_rest(submission, cluster, helm, runs)


def _look_up(submission: Submission, connect: Callable[[], Cluster]) -> Cluster:
    """Return the cluster, if it has all that the submission needs."""
    cluster, values = connect(), submission.cluster
    require_queue(cluster, values.get("queue", ClusterSpec.queue))
    require_secret(cluster, values["storage"].get("secretName", ""))
    require_priority(cluster, values.get("priorityClass", ClusterSpec.priorityClass))
    return cluster


def _stands(submission: Submission, runs: Sequence[Run], installed: Sequence[str]) -> bool:
    """Say whether each cell has its run in the releases just installed, and in no other."""
    ids = {run_id(cell) for cell in submission.cells}
    ours = {run.run_id for run in runs if run.release in installed and not run.deleting}
    return ids <= ours and not _there(submission, runs, besides=installed)


def _dying(submission: Submission, runs: Sequence[Run]) -> list[Run]:
    """Return the runs of the submission's cells that are being deleted.

    The ConfigMap of such a run goes at once, and its run id with it; its annotations stay.
    """
    ids = {run_id(cell) for cell in submission.cells}
    marks = {(cell.experiment, cell.arm, cell.seed) for cell in submission.cells}
    return [
        run
        for run in runs
        if run.deleting
        and run.storage == submission.storage
        and (run.run_id in ids or (not run.run_id and (run.experiment, run.arm, run.seed) in marks))
    ]


def _after_deletions(submission: Submission, cluster: Cluster) -> tuple[Run, ...]:
    """Return the runs of the namespace once those of this submission that go are gone."""
    runs = read_runs(cluster)
    dying = _dying(submission, runs)
    _wait_for_names(cluster, dying)
    return tuple(run for run in runs if run not in dying)


def _wait_for_names(cluster: Cluster, dying: Sequence[Run]) -> None:
    """Wait until runs that are being deleted are gone, and say so."""
    if dying:
        others = f" and {len(dying) - 1} more" if len(dying) > 1 else ""
        say(f"{dying[0].name}{others}: being deleted; submitted anew as soon as that is done")
        wait_until_removed(cluster, dying)


def _install_all(submission: Submission, helm: Helm) -> tuple[list[str], LimaError | None]:
    """Install every release; return those that are in, and what stopped it."""
    folder, installed = chart(chart_for(submission.kind)), list[str]()
    for release, values in submission.releases():
        try:
            helm.install(release, folder, values)
        except LimaError as error:
            _take_back_failed(helm, release)
            return installed, error
        installed.append(release)
    return installed, None


def _take_back(helm: Helm, releases: Sequence[str]) -> None:
    """Uninstall releases of this submission, whatever keeps us from it."""
    for release in releases:
        with contextlib.suppress(LimaError):
            helm.uninstall(release)


def _take_back_failed(helm: Helm, release: str) -> None:
    """Uninstall what a failed install left half-made; a release that runs is not touched."""
    with contextlib.suppress(LimaError):
        if helm.state(release) == "failed":
            helm.uninstall(release)


def _there(submission: Submission, runs: Sequence[Run], besides: Sequence[str]) -> dict[str, Run]:
    """Return by run id the runs of the submission's cells that other releases hold."""
    ids = {run_id(cell) for cell in submission.cells}
    return {
        run.run_id: run
        for run in runs
        if run.run_id in ids
        and run.storage == submission.storage
        and run.release not in besides
        and not run.deleting
    }


def _submit_the_rest(
    submission: Submission, cluster: Cluster, helm: Helm, runs: Sequence[Run]
) -> Outcome:
    """Submit the cells that have no run, and those whose run failed."""
    outcome, failed = Outcome(), []
    there = _there(submission, runs, besides=())
    for cell in submission.cells:
        run = there.get(run_id(cell))
        if run is None or (run.ended and not run.succeeded):
            outcome.submitted.append(cell)
            failed += [run] if run else []
        else:
            outcome.left_out.append(LeftOut(run, "finished" if run.succeeded else "there already"))
    remove(cluster, helm, failed, runs)
    _wait_for_names(cluster, failed)
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
        _refuse_another_submit(helm, cluster, release, error)
        helm.uninstall(release)
        helm.install(release, folder, values)
    except LimaError:
        _take_back_failed(helm, release)
        raise


def _refuse_another_submit(helm: Helm, cluster: Cluster, release: str, error: Exception) -> None:
    """Raise unless a release is a leftover without runs, which may be taken away."""
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
