"""Small studies for the cluster, and what must come out of them as it does on one machine."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from lima.model.checkpoint_manifest import completion_path
from lima.runs.progress import read_progress
from lima.spec import CellSpec, ModelSpec, ShapeSpec, stage_cell
from lima.spec.codec import encode, run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS
from tests.cluster.harness.kubectl import Kubectl
from tests.integration.runs import Job, rows, study_cell, weights

SHAPE = ShapeSpec(
    vocab_size=400, hidden_size=32, layers=2, heads=4, intermediate_size=64, context_length=256
)
OWN_PODS = "app.kubernetes.io/part-of=lima-k8s"


def scratch_cell(seed: int = 0, epochs: int = 40) -> CellSpec:
    """Return the study of the integration tests on a model that the run makes itself."""
    cell = study_cell(Path("none"), seed=seed)
    assert cell.train
    kept = replace(cell.train.checkpoints, first_epoch=epochs - 1, last_epoch=epochs)
    model = ModelSpec("scratch", shape=SHAPE)
    return replace(cell, train=replace(cell.train, model=model, epochs=epochs, checkpoints=kept))


def write_study(path: Path, cells: Sequence[CellSpec]) -> str:
    """Write a file of specs; return its name."""
    path.write_text(json.dumps({"runs": [encode(cell) for cell in cells]}))
    return str(path)


def run_here(cells: Sequence[CellSpec], folder: Path) -> Storage:
    """Run cells on this machine, undisturbed; return their storage."""
    job = Job(cells, str(folder / "study"), folder)
    job.finish()
    return job.storage


def assert_same(cell: CellSpec, storage: Storage, expected: Storage) -> None:
    """Check that weights are bit-equal and all rows identical."""
    there, here = weights(storage, cell), weights(expected, cell)
    assert there, f"seed {cell.seed}: no weights"
    assert there == here, f"seed {cell.seed}: weights differ"
    tables, wanted = rows(storage, cell), rows(expected, cell)
    for name, found in tables.items():
        pairs = zip_longest(map(_comparable, found), map(_comparable, wanted[name]))
        differing = [pair for pair in pairs if pair[0] != pair[1]]
        assert found, f"seed {cell.seed}: {name} is empty"
        assert not differing, f"seed {cell.seed}: {name} differs: {differing[:2]}"


def _comparable(row: dict[str, Any]) -> dict[str, Any]:
    # The image has a Python of its own, and inputs that `submit` brought lie elsewhere.
    return {name: value for name, value in row.items() if name not in ("versions", "spec")}


def attempts(storage: Storage, cell: CellSpec) -> list[dict[str, Any]]:
    """Return how the attempts at training ended, in order."""
    table = RunTable(storage, ATTEMPTS, stage_cell(cell, "train")).read().to_pylist()
    return sorted((row for row in table if row["event"] == "ended"), key=lambda row: row["at"])


def trains(storage: Storage, cell: CellSpec) -> bool:
    """Say whether a run is among its training steps."""
    record = read_progress(storage, run_id(cell)) or {"stage": "none"}
    return record["stage"] == "train" and bool(0 < record["done"] < record["total"])


def await_training(storage: Storage, *cells: CellSpec) -> None:
    """Wait until all runs are among their training steps at the same time."""
    while not all(trains(storage, cell) for cell in cells):
        through = [c.seed for c in cells if storage.exists(completion_path(run_id(c, "train")))]
        assert not through, f"seeds {through} have trained before the others began"
        time.sleep(0.2)


def await_progress(
    storage: Storage, cell: CellSpec, reached: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """Wait until a run says a progress that is what `reached` says; return it."""
    while not ((record := read_progress(storage, run_id(cell))) and reached(record)):
        time.sleep(0.2)
    return record


def await_no_live_pods(kubectl: Kubectl, namespace: str) -> None:
    """Return when no pod holds anything: what is left of ended ones are their records."""
    live = ("--field-selector=status.phase!=Succeeded,status.phase!=Failed",)
    while kubectl.get("pods", f"--namespace={namespace}", f"--selector={OWN_PODS}", *live)["items"]:
        time.sleep(0.5)


def await_free_quota(kubectl: Kubectl, queue: str) -> None:
    """Return when a ClusterQueue has nothing given away."""
    while any(
        resource["total"] != "0"
        for flavor in kubectl.get("clusterqueue", queue)["status"]["flavorsReservation"]
        for resource in flavor["resources"]
    ):
        time.sleep(0.5)
