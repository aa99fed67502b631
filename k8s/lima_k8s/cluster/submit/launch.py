"""`submit` on a cluster: from cells and options to releases, and what to type next."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import click

from lima.common.clock import now
from lima.common.variables import SUBMITTED_AT
from lima.errors import InputError
from lima.spec import CellSpec
from lima.spec.codec import run_id
from lima_k8s.cluster.read.uris import is_for_pods, plain
from lima_k8s.cluster.submit.releases import Outcome, Submission, priority_class, submit
from lima_k8s.runs.model import Run
from lima_k8s.study.findings import refuse_errors
from lima_k8s.terminal.output import say, write_json

NAMED = 8
"""Runs that are named one by one before they are counted."""
UNFIT = "this study cannot run on this cluster"


@dataclass(frozen=True)
class Target:
    """Where to submit to, as the options say."""

    context: str | None = None
    namespace: str | None = None
    profile: str | None = None
    queue: str | None = None
    priority: str | None = None
    storage: str | None = None

    @property
    def flags(self) -> str:
        """The options that find the same runs again."""
        context = f" --context {self.context}" if self.context else ""
        return context + (f" -n {self.namespace}" if self.namespace else "")


def prepare(kind: str, cells: Sequence[CellSpec], target: Target) -> Submission:
    """Return what will be submitted.

    Raises:
        InputError: no storage that pods can reach, no such profile, or something that cannot run.

    """
    from lima_k8s.cluster.rules.study import cell_findings, cluster_findings
    from lima_k8s.profile.cluster_spec import cluster_spec

    submission = assemble(kind, cells, target)
    cluster = cluster_spec(submission.cluster)
    findings = [*cluster_findings(cluster), *cell_findings(cells, cluster)]
    refuse_errors(findings, UNFIT)
    return submission


def refuse_unfit(cells: Sequence[CellSpec], target: Target) -> None:
    """Refuse what cannot run on a cluster, before its inputs are brought to the storage.

    Raises:
        InputError: it cannot, or there is no such profile.

    """
    from lima_k8s.cluster.rules.study import cell_findings, cluster_findings
    from lima_k8s.profile.cluster_spec import cluster_spec, cluster_values

    cluster = cluster_spec(cluster_values(target.profile, {}))
    findings = [*cluster_findings(cluster), *cell_findings(cells, cluster)]
    # Warnings are for `prepare`, which knows all options.
    refuse_errors([f for f in findings if f.level == "error"], UNFIT)


def assemble(kind: str, cells: Sequence[CellSpec], target: Target) -> Submission:
    """Return what would be submitted, not judged.

    Raises:
        InputError: no storage that pods can reach, or no such profile.

    """
    from lima.training.sizing.state_size import state_gib
    from lima_k8s.profile.cluster_spec import cluster_values

    uri = storage_of(target)
    overrides: dict[str, Any] = {
        **({"queue": target.queue} if target.queue else {}),
        **priority_class(target.priority),
        "storage": {"uri": uri},
        "stop": {"stateGiB": max(state_gib(cell) for cell in cells)},
    }
    return Submission(kind, tuple(cells), cluster_values(target.profile, overrides))


def storage_of(target: Target) -> str:
    """Return the URI of the storage of what is submitted.

    Raises:
        InputError: no storage that pods can reach, or no such profile.

    """
    from lima_k8s.profile.assets import read_profile

    of_profile = (read_profile(target.profile) if target.profile else {}).get("storage", {})
    uri = target.storage or of_profile.get("uri", "")
    if not is_for_pods(uri):
        raise InputError(
            f"pods cannot reach {uri or 'a folder of this machine'}: name an object store with "
            "--storage s3://BUCKET/PREFIX, or run on this machine with --local"
        )
    return plain(uri)


def launch(
    kind: str, cells: Sequence[CellSpec], target: Target, *, wait: bool, output_format: str
) -> None:
    """Submit cells and say what became of each; with `wait`, follow them to their end.

    Raises:
        InputError: they cannot be submitted as they are.
        ClusterError: the cluster cannot be reached, or refuses.
        LimaError: with `wait`: a run failed.

    """
    from lima_k8s.cluster.read.api import Cluster
    from lima_k8s.cluster.submit.helm import Helm

    submission = prepare(kind, cells, target)
    helm = Helm.here(target.context, target.namespace)

    def connect() -> Cluster:
        return Cluster(target.context, helm.namespace)

    outcome = submit(_dated(submission), connect, helm)
    _tell(outcome, helm.namespace)
    _warn_of_stops(submission)
    if output_format == "json":
        write_json(_as_json(outcome, submission, helm.namespace))
    if wait:
        _wait(connect(), submission)
    else:
        _tell_next(submission, target)


def _dated(submission: Submission) -> Submission:
    """Let the pods know when they were asked for, so that their metrics tell how long that took."""
    from lima_k8s.profile.cluster_spec import merge

    said = {"env": {SUBMITTED_AT: now().isoformat()}}
    return replace(submission, cluster=merge(submission.cluster, said))


def _warn_of_stops(submission: Submission) -> None:
    """Say how long stops may take, by what earlier runs of these studies have measured."""
    from lima_k8s.profile.cluster_spec import cluster_spec
    from lima_k8s.study.savings import saves_from_gpus, stop_warning

    cluster = cluster_spec(submission.cluster)
    cells = [cell for cell in submission.cells if saves_from_gpus(cell)]
    rates = {e: _measured_rate(cluster.storage.uri, e) for e in {c.experiment for c in cells}}
    warnings = (stop_warning(cell, cluster, rates[cell.experiment]) for cell in cells)
    for warning in dict.fromkeys(filter(None, warnings)):
        say(f"warning: {warning}")


def _measured_rate(uri: str, experiment: str) -> float | None:
    """Return the MiB that a worker wrote a second; None: not known from here."""
    from lima.errors import StorageError
    from lima.store.reachable import require_answer
    from lima.store.storage import Storage
    from lima_k8s.study.savings import measured

    try:
        require_answer(uri)
        return measured(Storage(uri), experiment)
    except StorageError:  # pods may reach what this machine does not
        return None


def render(kind: str, cells: Sequence[CellSpec], target: Target, output_format: str) -> None:
    """Write the manifests that would be installed; nothing is asked of the cluster."""
    from lima_k8s.cluster.submit.helm import Helm
    from lima_k8s.profile.assets import chart
    from lima_k8s.profile.kinds import CHARTS

    submission = prepare(kind, cells, target)
    helm = Helm.here(target.context, target.namespace)
    folder = chart(CHARTS[kind])
    texts = {
        release: helm.template(release, folder, values) for release, values in submission.releases()
    }
    if output_format == "json":
        write_json({"releases": [{"name": n, "manifests": t} for n, t in texts.items()]})
        return
    for text in texts.values():
        click.echo(text, nl=False)


def _tell(outcome: Outcome, namespace: str) -> None:
    for left in outcome.left_out[:NAMED]:
        say(f"{left.run.name}: {left.why}, not submitted again")
    if len(outcome.left_out) > NAMED:
        say(f"… and {len(outcome.left_out) - NAMED} more that are there already or finished")
    for name in outcome.renewed[:NAMED]:
        say(f"{name}: had failed, submitted again; it goes on where it was")
    count = len(outcome.submitted)
    runs = f"{count} run{'' if count == 1 else 's'}"
    where = f" in release {', '.join(outcome.releases)}" if outcome.releases else ""
    say(f"submitted {runs} to namespace {namespace}{where}")


def _tell_next(submission: Submission, target: Target) -> None:
    name = f" {run_id(submission.cells[0])}" if len(submission.cells) == 1 else ""
    say(
        f"next:    lima-k8s watch{name}{target.flags}\n"
        f"         lima-k8s explain {run_id(submission.cells[0])}{target.flags}\n"
        f"results: lima-k8s aggregate {submission.storage}"
    )


def _wait(cluster: Any, submission: Submission) -> None:
    from lima_k8s.cluster.watch.follow import watch
    from lima_k8s.runs.view import raise_for

    ids = {run_id(cell) for cell in submission.cells}

    def ours(runs: Sequence[Run]) -> list[Run]:
        return [run for run in runs if run.run_id in ids and run.storage == submission.storage]

    raise_for(watch(cluster, ours, ids))


def _as_json(outcome: Outcome, submission: Submission, namespace: str) -> dict[str, Any]:
    return {
        "namespace": namespace,
        "storage": submission.storage,
        "releases": outcome.releases,
        "submitted": [
            {"run_id": run_id(cell), "arm": cell.arm, "seed": cell.seed}
            for cell in outcome.submitted
        ],
        "left_out": [
            {"name": left.run.name, "run_id": left.run.run_id, "why": left.why}
            for left in outcome.left_out
        ],
        "renewed": outcome.renewed,
    }
