"""The command line as a user's process, and a queue for it to submit to."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima_k8s.profile.assets import read_profile
from lima_k8s.profile.cluster_spec import load_cluster, merge
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import ROOT
from tests.cluster.helpers.s3 import S3

SECRET = "storage"
LIMA = str(Path(sys.executable).with_name("lima-k8s"))
KUEUE: dict[str, Any] = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
PRIORITIES = {"lima-low": -100, "lima-normal": 0, "lima-high": 100}
REST = 2.0
"""Seconds to leave the cluster alone for each that a look at it took: changes come in bursts."""
POLL_S = 3.0
"""Between looks when nothing changes in the cluster: storage tells of no change."""
ENDS = ("done", "failed")
"""States after which a run has no other."""
TINY = ("--recipe", "tiny")
ONE = (*TINY, "--arm", "howto-32", "--seed", "0")
# One worker process, no pretraining: what can fail fails soon.
SMALL = (
    *ONE,
    "--set",
    "base=null",
    "--set",
    "train.model.path=scratch",
    "--set",
    "train.model.shape.vocab_size=400",
    "--set",
    "train.model.shape.hidden_size=32",
    "--set",
    "train.model.shape.layers=1",
    "--set",
    "train.model.shape.heads=2",
    "--set",
    "train.model.shape.intermediate_size=64",
    "--set",
    "train.model.shape.context_length=256",
)


@dataclass(frozen=True)
class Done:
    """A command that ended."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def document(self) -> dict[str, Any]:
        """What --format json wrote."""
        found: dict[str, Any] = json.loads(self.out)
        return found


@dataclass(frozen=True)
class Lima:
    """`lima-k8s` in a namespace, with its own profile."""

    namespace: str
    storage: str
    profile: Path
    changed: threading.Event
    """Set when something changes in the namespace."""
    environment: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, code: int = 0) -> Done:
        """Run a command; fail the test if it ends otherwise than with `code`."""
        done = self.run(*arguments)
        assert done.code == code, f"{arguments}: exit code {done.code}\n{done.err}{done.out}"
        return done

    def run(self, *arguments: str) -> Done:
        """Run a command."""
        start = time.monotonic()
        done = subprocess.run(
            [LIMA, *arguments, "--namespace", self.namespace],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **self.environment},
        )
        return Done(done.returncode, done.stdout, done.stderr, time.monotonic() - start)

    def submit(self, *arguments: str, kind: str = "ablation", code: int = 0) -> Done:
        """Submit to this namespace's queue with its profile and storage."""
        where = ("--cluster", str(self.profile), "--storage", self.storage)
        return self("submit", kind, *arguments, *where, code=code)

    def json(self, *arguments: str, code: int = 0) -> dict[str, Any]:
        """Return the document that a command writes."""
        return self(*arguments, "--format", "json", code=code).document

    def runs(self) -> list[dict[str, Any]]:
        """Return all runs as `status` tells them."""
        found: list[dict[str, Any]] = self.json("status")["runs"]
        return found

    def looks(self) -> Iterator[list[dict[str, Any]]]:
        """Yield all runs again and again, with rests that leave the machine to them."""
        while True:
            self.changed.clear()
            began = time.monotonic()
            runs = self.runs()
            took = time.monotonic() - began
            yield runs
            time.sleep(REST * took)
            self.changed.wait(POLL_S)

    def until(self, holds: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Ask for the status until something holds of the runs; return them."""
        for runs in self.looks():
            if holds(runs):
                return runs
            going = [run for run in runs if run["state"] not in ENDS]
            assert going or not runs, f"all have ended, and what is awaited does not hold: {runs}"
        raise AssertionError("unreachable")


def two_of_four(runs: list[dict[str, Any]]) -> bool:
    """Say whether two runs are admitted and two stand in the line, once Kueue has seen them."""
    places = [0 if run["admitted"] else run["queue_position"] or -1 for run in runs]
    return sorted(places) == [0, 0, 1, 2]


def make_queue(
    kubectl: Kubectl, namespace: str, quota: dict[str, str], nodes: dict[str, Any] | None = None
) -> None:
    """Make, or change, a LocalQueue `lima` with a ClusterQueue and a flavor of its own.

    `nodes` says on which ones its pods run, as a ResourceFlavor does; None: on any.
    """
    quota = {"ephemeral-storage": "10Ti", **quota}
    names = list(quota)
    resources = [{"name": name, "nominalQuota": amount} for name, amount in quota.items()]
    group = {"coveredResources": names, "flavors": [{"name": namespace, "resources": resources}]}
    matching = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    spec = {
        "namespaceSelector": matching,
        "resourceGroups": [group],
        "preemption": {"withinClusterQueue": "LowerPriority"},
    }
    local = {"name": "lima", "namespace": namespace}
    kubectl.apply(
        *(
            {**KUEUE, "kind": "WorkloadPriorityClass", "metadata": {"name": name}, "value": value}
            for name, value in PRIORITIES.items()
        ),
        {**KUEUE, "kind": "ResourceFlavor", "metadata": {"name": namespace}, "spec": nodes or {}},
        {**KUEUE, "kind": "ClusterQueue", "metadata": {"name": namespace}, "spec": spec},
        {**KUEUE, "kind": "LocalQueue", "metadata": local, "spec": {"clusterQueue": namespace}},
    )


def change_queue(kubectl: Kubectl, namespace: str, *, stop: bool) -> None:
    """Hold the namespace's queue, or let it go."""
    patch = {"spec": {"stopPolicy": "Hold" if stop else "None"}}
    words = ["patch", "localqueue", "lima", f"--namespace={namespace}", "--type=merge"]
    kubectl(*words, "--patch", json.dumps(patch))


def write_profile(path: Path, s3: S3, **changes: Any) -> Path:
    """Write the tests' profile with this bucket's server, and changes."""
    storage = {"storage": {"endpoint": s3.endpoint, "secretName": SECRET}}
    values = merge(merge(read_profile("cpu-test"), storage), changes)
    path.write_text(yaml.safe_dump({"cluster": values}))
    return path


def quota_for(runs: int) -> dict[str, str]:
    """Return the quota that so many runs of `tiny` take under the tests' profile, and no more."""
    spec = load_cluster("cpu-test")
    sizes = [spec.head, spec.submitter, *[spec.cpu.worker] * spec.cpu.workersPerPod]
    memory, cpu = sum(size.memoryGiB for size in sizes), sum(size.cpu for size in sizes)
    disk = sum(size.diskGiB for size in sizes)
    half = 0.5  # of a run more than that many take
    return {
        "cpu": f"{(runs + half) * cpu * 1000:.0f}m",
        "memory": f"{(runs + half) * memory * 1024:.0f}Mi",
        "ephemeral-storage": f"{(runs + half) * disk * 1024:.0f}Mi",
    }


@pytest.fixture
def quota() -> dict[str, str]:
    """Return the quota of the queue: two of the tests' runs; a test may say otherwise."""
    return quota_for(2)


@pytest.fixture
def queue(kubectl: Kubectl, namespace: str, quota: dict[str, str]) -> Iterator[str]:
    """Yield the namespace, with a queue of its own."""
    make_queue(kubectl, namespace, quota)
    yield namespace
    for kind in ("clusterqueue", "resourceflavor"):
        kubectl("delete", kind, namespace, "--ignore-not-found", "--wait=false")


@pytest.fixture
def lima(
    kubectl: Kubectl, queue: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Lima]:
    """Yield the command line for a namespace with a queue and the storage's Secret."""
    namespace = queue
    kubectl.apply(s3.secret(SECRET, namespace))
    monkeypatch.setenv("KUBECONFIG", str(kubectl.kubeconfig))
    monkeypatch.setenv("PATH", f"{ROOT / '.cache' / 'bin'}{os.pathsep}{os.environ['PATH']}")
    for part in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"HELM_{part}_HOME", str(tmp_path / "helm"))
    profile = write_profile(tmp_path / "profile.yaml", s3)
    with kubectl.changes(namespace, "pods", "rayjobs", "workloads") as changed:
        command = Lima(namespace, f"{s3.uri}/study", profile, changed)
        yield command
        command.run("cancel", "--all", "--yes", "--wait")
