"""Submits cells as Helm releases, each run once however often it is submitted."""

import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

from lima.errors import InputError, LimaError
from lima.spec import CellSpec
from lima.spec.codec import encode, run_id, sha256_key
from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.snapshot import read_runs
from lima_k8s.cluster.read.uris import plain
from lima_k8s.cluster.submit.admission import Raw, require_admission
from lima_k8s.cluster.submit.helm import Helm, InUseError, TakenError
from lima_k8s.cluster.submit.removal import await_installed, remove, take_back, wait_until_removed
from lima_k8s.cluster.submit.requirements import require_priority, require_queue, require_references
from lima_k8s.profile.assets import chart
from lima_k8s.profile.cluster_spec import ClusterSpec
from lima_k8s.profile.kinds import CHARTS
from lima_k8s.runs.model import Run
from lima_k8s.terminal.output import say

MAX_RUNS = 50
"""Runs of one release. Helm sends them all at once, and Kueue's webhook has 10 s to answer each;
and it keeps a release in one Secret, which holds 1 MiB."""
RELEASE_LENGTH = 53
"""Longest name of a release that Helm takes."""
PRIORITIES = ("low", "normal", "high")
TRIES = 5
"""How often others may come first before we give up."""


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

    All that can refuse is asked before anything is made: what is made is admitted at once, and may
    take the room of a run that goes on well. A run that another submit makes meanwhile is refused
    by its name; it is looked for again then.

    Args:
        submission: What to run.
        connect: Returns the cluster; importing the Kubernetes library takes as long as Helm.
        helm: For the same namespace.

    Raises:
        InputError: something that a run needs is missing, or the cluster refuses a run.
        ClusterError: the cluster cannot be reached, a right is missing, or runs that are being
            deleted stay.

    """
    with ThreadPoolExecutor(1) as pool:
        rendered = pool.submit(_render, submission, helm)
        cluster = connect()
        _require_surroundings(submission, cluster)
        manifests = rendered.result()
    require_references(cluster, manifests)
    require_admission(cluster, manifests)
    outcome = Outcome()
    for _ in range(TRIES):
        runs = _after_deletions(submission, cluster)
        wanted = _sort_out(submission, runs, outcome)
        _take_away_failed(cluster, helm, wanted, runs, outcome)
        try:
            _install_all(replace(submission, cells=tuple(wanted)), cluster, helm, outcome, runs)
        except InUseError as error:
            _after_another_submit(error, cluster, helm)
        except TakenError:
            pass  # the next look finds the run
        else:
            return outcome
    raise InputError(
        "others keep submitting and cancelling these runs: the same command again says which stand"
    )


def _render(submission: Submission, helm: Helm) -> list[Raw]:
    """Return every manifest of the submission."""
    folder = chart(CHARTS[submission.kind])
    return [
        manifest
        for release, values in submission.releases()
        for manifest in helm.manifests(release, folder, values)
    ]


def _require_surroundings(submission: Submission, cluster: Cluster) -> None:
    values = submission.cluster
    require_queue(cluster, values.get("queue", ClusterSpec.queue))
    require_priority(cluster, values.get("priorityClass", ClusterSpec.priorityClass))


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


def _there(submission: Submission, runs: Sequence[Run], besides: Collection[str]) -> dict[str, Run]:
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


def _sort_out(submission: Submission, runs: Sequence[Run], outcome: Outcome) -> list[CellSpec]:
    """Return the cells that have no run, or one that failed; note the others as left out."""
    there = _there(submission, runs, besides=outcome.releases)
    ours = {run_id(cell) for cell in outcome.submitted}
    outcome.left_out, wanted = [], list[CellSpec]()
    for cell in submission.cells:
        run = there.get(run_id(cell))
        if run_id(cell) in ours:
            continue
        if run is None or (run.ended and not run.succeeded):
            wanted.append(cell)
        else:
            outcome.left_out.append(LeftOut(run, "finished" if run.succeeded else "there already"))
    return wanted


def _take_away_failed(
    cluster: Cluster, helm: Helm, wanted: Sequence[CellSpec], runs: Sequence[Run], outcome: Outcome
) -> None:
    """Remove the failed runs of cells that are submitted again: they hold their names."""
    ids = {run_id(cell) for cell in wanted}
    failed = [r for r in runs if r.run_id in ids and r.ended and not r.deleting]
    remove(cluster, helm, failed, runs)
    _wait_for_names(cluster, failed)
    outcome.renewed += [run.name for run in failed]


def _install_all(
    wanted: Submission, cluster: Cluster, helm: Helm, outcome: Outcome, runs: Sequence[Run]
) -> None:
    """Install the releases of the cells that are wanted; one that fails leaves nothing behind.

    Raises:
        InUseError: there is a release of this name.
        TakenError: there is a run of this name; nothing was made.
        InputError: the cluster refuses a run.
        ClusterError: the cluster cannot be reached, or a right is missing.

    """
    folder, before = chart(CHARTS[wanted.kind]), {run.uid for run in runs}
    for start, (release, values) in enumerate(wanted.releases()):
        try:
            helm.install(release, folder, values)
        except InUseError:
            raise  # it is another's
        except (LimaError, KeyboardInterrupt):
            take_back(cluster, release, besides=before)
            raise
        outcome.releases.append(release)
        outcome.submitted += wanted.cells[start * MAX_RUNS : (start + 1) * MAX_RUNS]


def _after_another_submit(error: InUseError, cluster: Cluster, helm: Helm) -> None:
    """Wait until another submit has made a release; one that holds no run is taken away."""
    await_installed(helm, error.release)
    if not any(run.release == error.release for run in read_runs(cluster)):
        take_back(cluster, error.release)
