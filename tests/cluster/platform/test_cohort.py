"""Two teams in a cohort, two flavors: borrow, reclaim, preempt, resume; all end as if alone.

Both queues are lima-queue's. The flavor of GPUs is there for its own sake: pods without GPUs must
never take room of it, else a queue's own share does not come back to it.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.spec import CellSpec, ComputeSpec
from lima.store.storage import Storage
from lima_k8s.profile.cluster_spec import load_cluster
from tests.cluster.conftest import Say
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import ENDS, SECRET, Lima, lima, write_profile
from tests.cluster.helpers.platform import explained, helm, install
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import (
    assert_same,
    attempts,
    await_training,
    run_here,
    scratch_cell,
    write_study,
)

__all__ = ["lima"]
GPU_NODE = {
    "perNode": 1,
    "worker": {"cpu": 0.2, "memoryGiB": 3, "sharedMemoryGiB": 0.1, "diskGiB": 1},
}
"""A node with a GPU that has room for a head: nothing but its flavor's mark keeps one out."""
HELD = "tests.lima-k8s.io/held"
LONG = 300
"""Epochs of a few small steps each."""


def one_worker(seed: int, epochs: int = 40) -> CellSpec:
    """Return a study whose training takes one small worker."""
    cell = scratch_cell(seed, epochs)
    assert cell.train
    assert cell.generate
    compute = replace(cell.train.compute, workers=1)
    generate = replace(cell.generate, compute=replace(cell.generate.compute, workers=1))
    return replace(cell, train=replace(cell.train, compute=compute), generate=generate)


def of_one_run() -> dict[str, float]:
    """Return the quota of one such run, and no more."""
    spec = load_cluster("cpu-test")
    sizes = [spec.head, spec.submitter, spec.cpu.worker]
    return {
        "cpu": 1.3 * sum(size.cpu for size in sizes),
        "memoryGiB": 1.3 * sum(size.memoryGiB for size in sizes),
        "diskGiB": 1.3 * sum(size.diskGiB for size in sizes),
        "gpuNodes": 1,
    }


@pytest.fixture
def other(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Yield the namespace of the second team."""
    name = f"{namespace}-b"
    metadata = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    kubectl.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})
    yield name
    kubectl("delete", "namespace", name)


@pytest.fixture
def queue(kubectl: Kubectl, namespace: str, other: str) -> Iterator[str]:
    """Yield the first team's namespace; both have queues in one cohort."""
    cluster = {"gpu": GPU_NODE}
    common: dict[str, Any] = {
        "cohort": namespace,
        "quota": of_one_run(),
        "networkPolicy": {"enabled": False},
    }
    releases = (f"{namespace}-queue", f"{other}-queue")
    install(kubectl, releases[0], cluster=cluster, namespace=namespace, **common)
    install(
        kubectl,
        releases[1],
        cluster=cluster,
        namespace=other,
        shared=False,
        prefix=namespace,
        **common,
    )
    yield namespace
    for release in reversed(releases):
        helm(kubectl, "uninstall", release, "--no-hooks")


@pytest.fixture
def ours(lima: Lima, s3: S3, tmp_path: Path) -> Lima:
    """Return the first team's command line, whose GPUs are those of its queue."""
    return replace(lima, profile=write_profile(tmp_path / "gpu.yaml", s3, gpu=GPU_NODE))


@pytest.fixture
def theirs(lima: Lima, other: str, kubectl: Kubectl, s3: S3) -> Lima:
    """Return the second team's command line, on the same storage."""
    kubectl.apply(s3.secret(SECRET, other))
    return replace(lima, namespace=other)


def of_seed(runs: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    [found] = [run for run in runs if run["seed"] == seed]
    return found


def name_of(lima: Lima, seed: int) -> str:
    return str(of_seed(lima.runs(), seed)["name"])


@contextlib.contextmanager
def nobody_gone(kubectl: Kubectl, namespace: str) -> Iterator[None]:
    """Let runs that make way hold their quota: their Ray clusters do not go while this lasts.

    What is said meanwhile is gone in a second otherwise.
    """

    def keep(finalizers: Callable[[list[str]], list[str]]) -> None:
        for found in kubectl.get("rayclusters", f"--namespace={namespace}")["items"]:
            there = found["metadata"].get("finalizers", [])
            patch = json.dumps({"metadata": {"finalizers": finalizers(there)}})
            where = (found["metadata"]["name"], f"--namespace={namespace}")
            kubectl("patch", "raycluster", *where, "--type=merge", "--patch", patch)

    keep(lambda there: [*there, HELD])
    try:
        yield
    finally:
        keep(lambda there: [name for name in there if name != HELD])


def flavors(kubectl: Kubectl, namespace: str) -> dict[str, set[str]]:
    """Return the flavors from which the pods of the namespace's runs have their quota, by kind."""
    found: dict[str, set[str]] = {}
    for workload in kubectl.get("workloads", f"--namespace={namespace}")["items"]:
        admission = workload.get("status", {}).get("admission", {})
        for part in admission.get("podSetAssignments", []):
            found.setdefault(part["name"], set()).update(part["flavors"].values())
    return found


def test_borrow_reclaim_preempt_resume(
    ours: Lima, theirs: Lima, kubectl: Kubectl, tmp_path: Path, say: Say
) -> None:
    storage = Storage(ours.storage)
    # Long enough that nobody is through before it is disturbed, the first while others start.
    cells = [one_worker(0, epochs=2 * LONG), one_worker(1, epochs=LONG), one_worker(2)]
    files = [write_study(tmp_path / f"{cell.seed}.json", [cell]) for cell in cells]

    # Borrow: the first team's second run takes what the second team does not use.
    ours.submit("--recipe", files[0])
    ours.until(lambda runs: runs[0]["admitted"])
    ours.submit("--recipe", files[1])
    await_training(storage, *cells[:2])
    on_cpu = {f"{ours.namespace}-cpu"}
    placed = flavors(kubectl, ours.namespace)
    assert {"head", "submitter"} < set(placed)
    assert all(where == on_cpu for where in placed.values()), placed
    for seed in (0, 1):
        seen = explained(ours, name_of(ours, seed))
        assert (seen["state"], seen["waits"]) == ("running", [])

    # Reclaim: the second team asks for what is its own; the run that borrowed makes way.
    with nobody_gone(kubectl, ours.namespace):
        theirs.submit("--recipe", files[2])
        theirs.until(lambda runs: explained(theirs, runs[0]["name"])["waits"] == ["lent-out"])
        ours.until(lambda runs: any(run["evictions"] for run in runs))
        [evicted] = [run for run in ours.runs() if run["evictions"]]
        assert evicted["evictions"] == {"Preempted": 1}
        assert explained(ours, evicted["name"])["state"] == "stopping"
    theirs.until(admitted)
    assert set(map(frozenset, flavors(kubectl, theirs.namespace).values())) == {frozenset(on_cpu)}

    # Preempt: GPUs are free; a run of high priority needs room for its head among the CPUs.
    gpu = one_worker(7)
    assert gpu.train
    on_gpu = ComputeSpec(device="cuda", workers=1, gpus_per_worker=1, precision="fp32")
    gpu = replace(gpu, generate=None, train=replace(gpu.train, compute=on_gpu))
    file = write_study(tmp_path / "gpu.json", [gpu])
    with nobody_gone(kubectl, ours.namespace):
        ours.submit("--recipe", file, "--priority", "high", kind="train")
        ours.until(lambda runs: "preempts" in explained(ours, of_seed(runs, 7)["name"])["waits"])
    ours.until(lambda runs: admitted([of_seed(runs, 7)]))
    placed = flavors(kubectl, ours.namespace)
    assert placed.pop("head") == placed.pop("submitter") == on_cpu
    assert set().union(*placed.values()) == {f"{ours.namespace}-gpu"}
    waiting = [r for r in ours.runs() if not r["admitted"]]
    for run in waiting:
        if run["state"] != "stopping":
            assert "quota-taken" in explained(ours, run["name"])["waits"]
    assert len(waiting) == 2
    ours("cancel", name_of(ours, 7), "--yes")
    ours.until(lambda runs: not any(explained(ours, run["name"])["waits"] for run in runs))

    # Resume: everybody gets through, and nobody's weights tell what happened.
    done = [*ours.until(ended), *theirs.until(ended)]
    assert [run["state"] for run in done] == ["done"] * 3
    here = run_here(cells, tmp_path)
    for cell in cells:
        assert_same(cell, storage, here)
    evictions = {run["seed"]: run["evictions"] for run in done}
    assert {seed for seed, counted in evictions.items() if counted} == {0, 1}, evictions
    for cell in cells[:2]:
        assert attempts(storage, cell)[-1]["resumed_from"] > 0
    say(f"evictions by seed {evictions}")


def admitted(runs: list[dict[str, Any]]) -> bool:
    assert all(run["state"] != "blocked" for run in runs), runs
    return all(run["admitted"] for run in runs)


def ended(runs: list[dict[str, Any]]) -> bool:
    return all(run["state"] in ENDS for run in runs)
