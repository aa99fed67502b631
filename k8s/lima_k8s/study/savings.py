"""What a training writes to storage, how long that takes, and how long GPUs stand still for it.

Estimates, as those of `sizing`; the rate of a node is that of the cluster's profile, or what
earlier runs of a storage have measured (`saves` in the table attempts).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Any

from lima.spec import CellSpec, ShapeSpec, TrainSpec, computes, gpus
from lima.training.schedule import Plan, exported_epochs, state_is_due
from lima.training.sizing.state_size import (
    EXPORTED_BYTES,
    SAVED_BYTES,
    copy_bytes,
    shape_parameters,
    state_gib,
)
from lima_k8s.profile.cluster_spec import ClusterSpec

if TYPE_CHECKING:
    from lima.store.storage import Storage

GIB, MIB = 2**30, 2**20
COPY_BYTES_S = 10e9
"""From a GPU to its host's memory, beside its neighbours (PCIe 4 x16 alone: 25 GB/s)."""
STOP_STATES = 7 / 3
"""What a stop writes, in states: the one on its way, weights (a third at most), and the newest."""
LONG_STOP_S = 600
"""A grace period from which on it is worth a warning."""


@dataclass(frozen=True)
class Saving:
    """What a training writes to storage, beside its steps."""

    states: int
    state_gib: float
    state_s: float
    """Until one state is whole, while training goes on: every node writes its part."""
    stall_s: float
    """That training stands still to copy one aside."""
    host_gib: float
    """Memory of the host that the copy takes, a worker."""
    exports: int
    export_gib: float
    export_s: float
    """Until the weights of one epoch are whole, while training goes on."""
    stop_s: float
    """That a stop may take, beside the step that is under way."""

    @property
    def hours(self) -> float:
        """GPUs stand still: for copies, and at the end for the last state and its weights."""
        copies = (self.states + self.exports) * self.stall_s
        return (copies + self.state_s + self.export_s) / 3600


def saving(
    spec: TrainSpec, shape: ShapeSpec, examples: int, *, nodes: int, workers: int, mib_s: float
) -> Saving:
    """Return what training on so many examples writes, at `mib_s` MiB a second and node."""
    plan = Plan(examples, spec.epochs, spec.batch_size, seed=0)
    steps = range(1, plan.total_steps + 1)
    parameters = shape_parameters(shape)
    state = SAVED_BYTES * parameters
    export = EXPORTED_BYTES[spec.compute.precision] * parameters
    rate = nodes * mib_s * MIB
    return Saving(
        states=sum(state_is_due(spec, plan, step) for step in steps),
        state_gib=state / GIB,
        state_s=state / rate,
        stall_s=state / workers / COPY_BYTES_S,
        host_gib=copy_bytes(round(state / workers), pinned=True) / GIB,
        exports=len(exported_epochs(spec)),
        export_gib=export / GIB,
        export_s=export / rate,
        stop_s=STOP_STATES * state / rate,
    )


def measured(storage: "Storage", experiment: str | None = None) -> float | None:
    """Return the MiB a second that a worker wrote of states, in the median of attempts.

    Args:
        storage: Holds the attempts.
        experiment: Only of this one.

    Returns:
        None: no attempt has told yet.

    Raises:
        StorageError: storage cannot be reached.

    """
    from lima.store.scan import Tables  # takes pyarrow, which lint does without
    from lima.store.tables import ATTEMPTS

    rows = Tables(storage, experiment).read(ATTEMPTS, ["saves", "workers"]).to_pylist()
    rates = [rate for row in rows if row["saves"] for rate in _rates(row)]
    return median(rates) if rates else None


def _rates(row: dict[str, Any]) -> Iterable[float]:
    for save in json.loads(row["saves"]):
        if save["kind"] == "state" and save["seconds"] > 0:
            yield save["bytes"] / save["seconds"] / row["workers"] / MIB


def saves_from_gpus(cell: CellSpec) -> bool:
    """Say whether a run trains on GPUs, so that a stop has to write what they hold."""
    return bool(_training_gpus(cell)) and bool(state_gib(cell))


def _training_gpus(cell: CellSpec) -> int:
    return max((gpus(c) for s, c in computes(cell).items() if s != "generate"), default=0)


def stop_warning(cell: CellSpec, cluster: ClusterSpec, worker_mib_s: float | None) -> str | None:
    """Return what is worth knowing of how long a stop of a run takes; None: nothing.

    Args:
        cell: The run.
        cluster: Whose charts give pods a grace period.
        worker_mib_s: What a worker was measured to write; None: unknown.

    """
    node = cluster.gpu.perNode
    if not saves_from_gpus(cell):
        return None
    share = state_gib(cell) * 1024 / -(-_training_gpus(cell) // node)
    rate, told = float(cluster.stop.uploadMiBps), "cluster.stop.uploadMiBps"
    if worker_mib_s is not None and worker_mib_s * node < rate:
        rate = worker_mib_s * node
        granted = STOP_STATES * share / cluster.stop.uploadMiBps + cluster.stop.marginSeconds
        return (
            f"earlier runs wrote {rate:.0f} MiB/s a node, and {told} says "
            f"{cluster.stop.uploadMiBps}: a stop would take {_minutes(STOP_STATES * share / rate)} "
            f"min, its pods have {_minutes(granted)}; set {told}={rate:.0f}"
        )
    if STOP_STATES * share / rate > LONG_STOP_S:
        return (
            f"a stop may take {_minutes(STOP_STATES * share / rate)} min at {rate:.0f} MiB/s a "
            f"node ({told}), for which a preemption waits; nodes that go with less notice lose "
            "what came after the last whole state"
        )
    return None


def _minutes(seconds: float) -> int:
    return round(seconds / 60)
