"""A run, its place in a queue, and why it does not go on, as plain values."""

from dataclasses import dataclass
from datetime import datetime

from lima.spec import CellSpec


@dataclass(frozen=True)
class Run:
    """A RayJob of ours, with the spec from its ConfigMap."""

    name: str
    uid: str = ""
    release: str = ""
    kind: str = ""
    experiment: str = ""
    arm: str = ""
    seed: int = 0
    storage: str = ""
    queue: str = ""
    priority_class: str = ""
    created: datetime | None = None
    suspended: bool = False
    deployment_status: str = ""
    job_status: str = ""
    reason: str = ""
    message: str = ""
    ray_cluster: str = ""
    cell: CellSpec | None = None
    run_id: str = ""
    """Id of the cell; empty when its ConfigMap is gone or was made by another version."""
    deleting: bool = False
    failed_starts: int = 0
    """How many Ray clusters it has used up."""

    @property
    def ended(self) -> bool:
        """Whether it will not run again by itself."""
        return self.deployment_status in ("Complete", "Failed", "ValidationFailed")

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.deployment_status == "Complete" and self.job_status in ("SUCCEEDED", "")

    @property
    def job_runs(self) -> bool:
        """Whether its job runs at this moment, so that all of its pods have been there."""
        return (
            not self.deleting
            and self.deployment_status == "Running"
            and self.job_status == "RUNNING"
        )


@dataclass(frozen=True)
class QueuePlace:
    """A place in a queue, counted from 1."""

    in_queue: int
    in_cluster_queue: int | None = None
    """None: Kueue's visibility API is not there, so other namespaces are not counted."""


@dataclass(frozen=True)
class Cause:
    """Why a run does not go on.

    A fatal cause does not go away by waiting; the others may.
    """

    name: str
    what: str
    fix: str
    where: str = ""
    fatal: bool = True

    @property
    def text(self) -> str:
        """The cause in one line."""
        return f"{self.name}: {self.what}{f' ({self.where})' if self.where else ''}"
