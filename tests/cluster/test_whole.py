"""A refused, doubled or interrupted `submit` touches nobody's run and leaves nothing behind."""

import os
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from lima.errors import ClusterError
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import ROOT
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import (
    LIMA,
    ONE,
    SMALL,
    TINY,
    Lima,
    lima,
    queue,
    quota_for,
    write_profile,
)
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import OWN_PODS

__all__ = ["lima", "queue"]
LONG = (*SMALL, "--set", "train.epochs=2000")


NOTHING = {"cpu": "0", "memory": "0"}
waiting = pytest.mark.parametrize("quota", [NOTHING])


@pytest.fixture
def quota() -> dict[str, str]:
    """Return the quota of one run, unless a test says otherwise."""
    return quota_for(1)


def jobs(kubectl: Kubectl, namespace: str) -> dict[str, str]:
    """Return the uids of the RayJobs by their names."""
    found = kubectl.get("rayjobs", f"--namespace={namespace}")["items"]
    return {job["metadata"]["name"]: job["metadata"]["uid"] for job in found}


def stays(kubectl: Kubectl, namespace: str, kind: str) -> int:
    """Count what is there of a kind; KubeRay keeps a RayJob that is deleted until its job ends."""
    found = kubectl.get(kind, f"--namespace={namespace}", f"--selector={OWN_PODS}")["items"]
    return sum("deletionTimestamp" not in item["metadata"] for item in found)


def releases(namespace: str) -> list[str]:
    states = ("--deployed", "--failed", "--pending", "--uninstalling")
    return run(["helm", "list", *states, "-q", "-n", namespace]).split()


def at_once(lima: Lima, *submits: Sequence[str]) -> list[str]:
    """Submit from as many processes; return what each said."""
    with ThreadPoolExecutor(len(submits)) as pool:
        return [done.err for done in pool.map(lambda words: lima.submit(*words), submits)]


def test_a_run_that_runs_is_touched_by_no_submit(
    lima: Lima, kubectl: Kubectl, s3: S3, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lima.submit(*LONG, kind="train")
    lima.until(lambda runs: runs[0]["state"] == "running")
    before = jobs(kubectl, lima.namespace)
    [release] = releases(lima.namespace)

    # A profile with a Secret that is missing, and priority to take the room of the one that runs.
    folder = tmp_path_factory.mktemp("profile")
    storage = {"endpoint": s3.endpoint, "secretName": "missing"}
    lacking = write_profile(folder / "lacking.yaml", s3, storage=storage)
    where = ("--cluster", str(lacking), "--storage", lima.storage)
    high = (*ONE, "--priority", "high")
    refused = lima("submit", "ablation", *high, *where, code=2)
    assert "no Secret 'missing'" in refused.err
    # One that the cluster itself refuses.
    odd = write_profile(
        folder / "odd.yaml", s3, podLabels={"a": "b"}, image={"pullPolicy": "Never"}
    )
    values = yaml.safe_load(odd.read_text())
    values["cluster"]["serviceAccount"] = "nobody"
    odd.write_text(yaml.safe_dump(values))
    where = ("--cluster", str(odd), "--storage", lima.storage)
    assert "no ServiceAccount 'nobody'" in lima("submit", "ablation", *high, *where, code=2).err

    # A change that the cluster takes, then two that field owners refuse: the release is `failed`.
    chart = str(ROOT / "charts" / "lima-train")
    change = ["helm", "upgrade", release, chart, "-n", lima.namespace, "--reuse-values"]
    run([*change, "--server-side=false", "--set", "cluster.retries=3"])
    for value in ("cluster.head.memoryGiB=2", "cluster.retries=4"):
        with pytest.raises(ClusterError):
            run([*change, "--server-side=true", "--set", value])
    failed = run(["helm", "list", "--failed", "--short", "-n", lima.namespace])
    assert failed.split() == [release]
    said = lima.submit(*LONG, kind="train").err
    assert "there already, not submitted again" in said
    assert jobs(kubectl, lima.namespace) == before
    [told] = lima.runs()
    assert (told["state"], told["evictions"]) == ("running", {})


@waiting
def test_submits_at_once_are_one_run_each(lima: Lima, kubectl: Kubectl) -> None:
    equal = at_once(lima, TINY, TINY, TINY)
    assert sum("submitted 4 runs" in said for said in equal) == 1, equal
    assert sum(said.count("there already") for said in equal) == 8
    assert len(jobs(kubectl, lima.namespace)) == 4
    assert len(releases(lima.namespace)) == 1
    lima("cancel", "--all", "--yes", "--wait")
    assert releases(lima.namespace) == []

    overlapping = at_once(lima, ONE, TINY, (*TINY, "--seed", "0"))
    submitted = re.findall(r"^submitted (\d+) run", "\n".join(overlapping), re.MULTILINE)
    assert sum(map(int, submitted)) == 4, overlapping
    found = jobs(kubectl, lima.namespace)
    assert len(found) == 4
    owners = {run["release"] for run in lima.runs()}
    assert owners == set(releases(lima.namespace)), "a release without objects"
    lima("cancel", "--all", "--yes", "--wait")
    assert (jobs(kubectl, lima.namespace), releases(lima.namespace)) == ({}, [])


@waiting
def test_ctrl_c_at_any_moment_leaves_nothing(lima: Lima, kubectl: Kubectl) -> None:
    words = [LIMA, "submit", "ablation", *TINY, "--cluster", str(lima.profile)]
    words += ["--storage", lima.storage, "-n", lima.namespace]
    whole = lima.submit(*TINY).seconds
    lima("cancel", "--all", "--yes", "--wait")
    left = []
    for part in (0.5, 0.7, 0.8, 0.9):
        with subprocess.Popen(words, start_new_session=True, stderr=subprocess.DEVNULL) as process:
            time.sleep(part * whole)
            os.killpg(process.pid, signal.SIGINT)
        there = [stays(kubectl, lima.namespace, kind) for kind in ("rayjobs", "configmaps")]
        left.append((*there, len(releases(lima.namespace))))
        assert process.returncode == 1 or any(there)
        lima("cancel", "--all", "--yes", "--wait")
    # Either it was through, or it took everything back.
    assert set(left) <= {(0, 0, 0), (4, 4, 1)}, left


@waiting
def test_a_release_without_runs_goes_too(lima: Lima, kubectl: Kubectl) -> None:
    lima.submit(*ONE)
    [name] = jobs(kubectl, lima.namespace)
    kubectl("delete", "rayjob", name, f"--namespace={lima.namespace}")
    assert len(releases(lima.namespace)) == 1
    lima("cancel", "--all", "--yes", "--wait")
    assert releases(lima.namespace) == []
    assert (
        kubectl.get(
            "configmaps",
            f"--namespace={lima.namespace}",
            "--selector=app.kubernetes.io/part-of=lima-k8s",
        )["items"]
        == []
    )
