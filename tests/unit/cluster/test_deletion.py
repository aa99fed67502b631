"""Runs that are being deleted hold their names: nothing is installed under them before they go."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lima.errors import ClusterError, InputError
from lima.recipes.demo import tiny
from lima.spec.codec import encode, run_id
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.api import CONFIGMAPS, PODS, RAYJOBS, Cluster, Kind
from lima_k8s.cluster.read.snapshot import read_runs
from lima_k8s.cluster.submit import removal
from lima_k8s.cluster.submit.helm import Helm, InUseError, TakenError
from lima_k8s.cluster.submit.releases import Outcome, Submission, submit
from lima_k8s.cluster.submit.removal import remove, wait_until_gone

Raw = dict[str, Any]
URI = "s3://bucket/study"
CELLS = tiny()
FINALIZER = "ray.io/rayjob-finalizer"
INSTANCE = "app.kubernetes.io/instance"


@dataclass
class Namespace(Cluster):
    """A namespace in memory whose RayJobs stay for some looks after they are deleted."""

    looks: float = 2
    namespace: str = "lima"
    objects: dict[tuple[str, str], Raw] = field(default_factory=dict)
    calls: int = 0
    uids: int = 0
    slow_helm: bool = False
    """Helm ends after what it took for its own is gone."""

    def list_all(self, kind: Kind, selector: str = "") -> list[Raw]:
        self.calls += 1
        release = re.search(rf"{INSTANCE}=([^,]+)", selector)
        found = [
            raw
            for (plural, _), raw in self.objects.items()
            if plural == kind.plural
            and (not release or raw["metadata"]["labels"][INSTANCE] == release[1])
        ]
        if kind is RAYJOBS:
            self.pass_time()
        return found

    def get(self, kind: Kind, name: str) -> Raw | None:
        return {"metadata": {"name": name}}

    def would_take(self, kind: Kind, manifest: Raw) -> None:
        """Take all."""

    def delete(self, kind: Kind, name: str) -> None:
        if kind is RAYJOBS and (kind.plural, name) in self.objects:
            meta = self.objects[kind.plural, name]["metadata"]
            meta.setdefault("deletionTimestamp", "2026-11-23T12:00:00Z")
        else:
            self.objects.pop((kind.plural, name), None)

    def pass_time(self) -> None:
        for key, raw in list(self.objects.items()):
            if "deletionTimestamp" in raw["metadata"]:
                raw["left"] = raw.get("left", self.looks) - 1
                if raw["left"] <= 0:
                    del self.objects[key]

    def jobs(self) -> list[Raw]:
        return [raw for (plural, _), raw in self.objects.items() if plural == "rayjobs"]


@dataclass(frozen=True)
class HelmInMemory(Helm):
    """What Helm does with objects that are there: takes its own, refuses another release's."""

    cluster: Namespace = field(default_factory=Namespace)
    releases: dict[str, list[str]] = field(default_factory=dict)

    def install(self, release: str, chart: Path, values: Raw) -> None:
        if release in self.releases:
            raise InUseError("in use", release)
        objects, uri = self.cluster.objects, values["cluster"]["storage"]["uri"]
        names = {f"{run['arm']}-s{run['seed']}": run for run in values["runs"]}
        for name in names:
            there = objects.get(("rayjobs", name))
            if there and there["metadata"]["labels"][INSTANCE] != release:
                raise TakenError("exists")
        self.releases[release] = list(names)
        for name, run in names.items():
            data = {"specs.json": json.dumps({"runs": [run]})}
            meta = {"name": name, "labels": {INSTANCE: release}}
            objects["configmaps", name] = {"metadata": meta, "data": data}
            objects.setdefault(("rayjobs", name), self.rayjob(release, name, run, uri))
        while self.cluster.slow_helm and any("left" in job for job in self.cluster.jobs()):
            self.cluster.pass_time()

    def rayjob(self, release: str, name: str, run: Raw, uri: str) -> Raw:
        self.cluster.uids += 1
        notes = {"experiment": run["experiment"], "arm": run["arm"], "seed": str(run["seed"])}
        return {
            "metadata": {
                "name": name,
                "uid": f"u{self.cluster.uids}",
                "finalizers": [FINALIZER],
                "labels": {INSTANCE: release},
                "annotations": {
                    f"lima-k8s.io/{k}": v for k, v in {**notes, "storage": uri}.items()
                },
            }
        }

    def template(self, release: str, chart: Path, values: Raw) -> str:
        return ""

    def state(self, release: str) -> str:
        return "deployed" if release in self.releases else ""

    def manifest(self, release: str) -> str:
        return ""

    def uninstall(self, release: str) -> bool:
        for name in self.releases.get(release, []):
            self.cluster.delete(RAYJOBS, name)
            self.cluster.delete(CONFIGMAPS, name)
        return self.releases.pop(release, None) is not None


@pytest.fixture(autouse=True)
def no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "POLL_S", 0)


@pytest.fixture
def cluster() -> Namespace:
    return Namespace()


@pytest.fixture
def helm(cluster: Namespace) -> HelmInMemory:
    return HelmInMemory("lima", cluster=cluster)


def submitted(helm: HelmInMemory, count: int = 2) -> Outcome:
    submission = Submission("ablation", CELLS[:count], {"storage": {"uri": URI}})
    return submit(submission, lambda: helm.cluster, helm)


def cancel_all(helm: HelmInMemory) -> None:
    runs = read_runs(helm.cluster)
    remove(helm.cluster, helm, runs, runs)


def stand(cluster: Namespace) -> set[str]:
    """Return the ids of the runs that are there and stay."""
    return {run.run_id for run in read_runs(cluster) if not run.deleting}


def test_a_submit_that_finds_nothing_lists_the_runs_once(helm: HelmInMemory) -> None:
    assert len(submitted(helm).submitted) == 2
    assert helm.cluster.calls == 2  # RayJobs and ConfigMaps


@pytest.mark.parametrize("slow", [False, True])
@pytest.mark.parametrize("count", [2, 1])
def test_submit_right_after_cancel(
    helm: HelmInMemory, count: int, slow: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same release takes what goes for its own; one of fewer runs is refused first."""
    submitted(helm)
    cancel_all(helm)
    helm.cluster.looks = 6
    for job in helm.cluster.jobs():
        job["left"] = 6
    helm.cluster.slow_helm = slow
    outcome = submitted(helm, count)
    assert {run_id(cell) for cell in outcome.submitted} == {run_id(c) for c in CELLS[:count]}
    assert stand(helm.cluster) == {run_id(cell) for cell in CELLS[:count]}
    assert len(helm.releases) == 1
    if not slow:
        assert "being deleted; submitted anew as soon as that is done" in capsys.readouterr().err


def test_a_failed_run_is_renewed_when_it_is_gone(helm: HelmInMemory) -> None:
    submitted(helm)
    for job in helm.cluster.jobs():
        job["status"] = {"jobDeploymentStatus": "Failed", "jobStatus": "FAILED"}
    before = {job["metadata"]["uid"] for job in helm.cluster.jobs()}
    assert len(submitted(helm).renewed) == 2
    after = {job["metadata"]["uid"] for job in helm.cluster.jobs()}
    assert len(after) == 2
    assert not after & before
    assert stand(helm.cluster) == {run_id(cell) for cell in CELLS[:2]}


def test_what_another_study_deletes_is_not_waited_for(helm: HelmInMemory) -> None:
    helm.cluster.looks = float("inf")
    other = helm.rayjob("theirs", "other", encode(CELLS[3]), URI)
    other["metadata"]["deletionTimestamp"] = "2026-11-23T12:00:00Z"
    helm.cluster.objects["rayjobs", "other"] = other
    assert len(submitted(helm).submitted) == 2


def test_runs_that_stay_are_named_with_what_holds_them(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted(helm)
    helm.cluster.looks = float("inf")
    monkeypatch.setattr(removal, "STUCK_S", 0)
    runs = read_runs(helm.cluster)
    cancel_all(helm)
    for act in (lambda: submitted(helm), lambda: wait_until_gone(helm.cluster, runs)):
        with pytest.raises(ClusterError, match=f"held by {FINALIZER}: does KubeRay") as error:
            act()
        assert str(error.value).startswith(f"{runs[0].name} and 1 more: deleted, but still there")
    assert helm.releases == {}  # what was installed over them is taken back


def test_a_refusal_is_told_while_nothing_is_deleted(
    helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: HelmInMemory, release: str, chart: Path, values: Raw) -> None:
        raise InputError("no")

    monkeypatch.setattr(HelmInMemory, "install", refuse)
    with pytest.raises(InputError, match="no"):
        submitted(helm)


def test_cancel_waits_for_runs_and_pods(helm: HelmInMemory) -> None:
    submitted(helm)
    runs = read_runs(helm.cluster)
    cancel_all(helm)
    wait_until_gone(helm.cluster, runs)
    assert helm.cluster.jobs() == []
    assert helm.cluster.list_all(PODS) == []


def test_a_pod_that_stays_is_named(helm: HelmInMemory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a node that answers no more, whose pods nobody takes away."""
    submitted(helm)
    runs = read_runs(helm.cluster)
    cancel_all(helm)
    while helm.cluster.jobs():
        helm.cluster.pass_time()
    monkeypatch.setattr(removal, "STUCK_S", 0)
    monkeypatch.setattr(removal, "POLL_S", 0)
    labels = {f"{parse.PREFIX}run": runs[0].name}
    helm.cluster.objects["pods", "lost"] = {"metadata": {"name": "lost", "labels": labels}}
    with pytest.raises(ClusterError, match="pod lost of"):
        wait_until_gone(helm.cluster, runs)
