"""One run as a person sees it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from lima.errors import LimaError
from lima_k8s.runs.model import Cause, QueuePlace, Run
from lima_k8s.runs.records import Records

State = Literal[
    "queued", "preempted", "starting", "running", "stopping", "blocked", "stopped", "done", "failed"
]
STATES: dict[State, str] = {
    "queued": "waits for quota",
    "preempted": "made way for another run; goes on when there is quota again",
    "starting": "admitted; its pods are starting",
    "running": "its job runs",
    "stopping": "is being taken down",
    "blocked": "does not go on, for the cause that is named",
    "stopped": "nothing works on it: its job was stopped or killed; submitted again, it goes on",
    "done": "finished",
    "failed": "failed, for the cause that is named",
}
"""Every state of a run and what it means."""
ENDED: tuple[State, ...] = ("done", "failed", "stopped")


@dataclass(frozen=True)
class View:
    """A run with its state, its cause if it has one, and its records."""

    run: Run
    state: State
    place: QueuePlace | None = None
    cause: Cause | None = None
    records: Records | None = None
    eta_s: float | None = None
    """Seconds until its current stage ends; None: not known."""
    admitted: bool = False
    """Whether it has what it needs to run; on one machine it always has."""
    evictions: Mapping[str, int] = field(default_factory=dict)
    """How often it lost that, by reason."""

    @property
    def stage(self) -> str:
        """The stage that it is in."""
        return str(self.progress.get("stage", ""))

    @property
    def progress(self) -> dict[str, Any]:
        """Its last progress record."""
        return self.records.progress if self.records else {}

    @property
    def ended(self) -> bool:
        """Whether it will not go on by itself."""
        return self.state in ENDED


def retry_text(view: View) -> str:
    """Return what a run that is started again came to the last time; empty: it never failed."""
    if not view.run.failed_starts or view.ended:
        return ""
    records = view.records
    known = records and records.last_outcome not in ("", "completed")
    why = records.last_reason if records and known else view.run.message
    return f"start {view.run.failed_starts + 1}; the last one failed{f': {why}' if why else ''}"


def as_json(view: View) -> dict[str, Any]:
    """Return a view as it is written by --format json."""
    run, records = view.run, view.records
    return {
        "name": run.name,
        "run_id": run.run_id or None,
        "kind": run.kind,
        "release": run.release,
        "experiment": run.experiment,
        "arm": run.arm,
        "seed": run.seed,
        "state": view.state,
        "queue": run.queue,
        "priority_class": run.priority_class or None,
        "queue_position": view.place.in_queue if view.place else None,
        "cluster_queue_position": view.place.in_cluster_queue if view.place else None,
        "admitted": view.admitted,
        "evictions": dict(view.evictions),
        "progress": view.progress or None,
        "eta_s": round(view.eta_s, 1) if view.eta_s is not None else None,
        "failed_starts": run.failed_starts,
        "stage_starts": records.stage_starts if records else None,
        "retries": records.retries if records else None,
        "gpu_hours": round(records.gpu_hours, 4) if records else None,
        "last_attempt": (
            {"outcome": records.last_outcome, "reason": records.last_reason}
            if records and records.last_outcome
            else None
        ),
        "cause": asdict(view.cause) if view.cause else None,
        "storage": run.storage,
        "created": run.created.isoformat() if run.created else None,
    }


@dataclass(frozen=True)
class Gone(View):
    """A run that was taken off the cluster before it was done."""


def raise_for(views_: Sequence[View], *, asked_for: bool = True) -> None:
    """Raise if a run did not end well.

    Args:
        views_: The runs as they ended.
        asked_for: They were named. Else one that somebody took off the cluster is not ours.

    Raises:
        LimaError: the message names each run with its cause and what to do.

    """
    bad = [v for v in views_ if v.state != "done" and (asked_for or not isinstance(v, Gone))]
    if not bad:
        return
    lines = [_end(view) for view in bad]
    counts = f"{len(bad)} of {len(views_)} runs" if len(views_) > 1 else "the run"
    raise LimaError("\n  ".join([f"{counts} did not finish:", *lines]))


def _end(view: View) -> str:
    if isinstance(view, Gone):
        return (
            f"{view.run.name}: was taken off the cluster before it was done; if that was not "
            "meant, submit it again: it goes on where it was"
        )
    if view.cause is None:
        return f"{view.run.name}: {view.state}; lima-k8s logs {view.run.name}"
    return f"{view.run.name}: {view.cause.text}\n    fix: {view.cause.fix}"
