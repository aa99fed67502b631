"""`submit` against the real API server, Kueue and KubeRay."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.recipes.demo import tiny
from lima.spec.codec import encode
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import ROOT
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import (
    KUEUE,
    ONE,
    SMALL,
    TINY,
    Lima,
    lima,
    queue,
    quota_for,
    two_of_four,
    write_profile,
)
from tests.cluster.helpers.s3 import S3

__all__ = ["lima", "queue"]


@pytest.fixture
def quota() -> dict[str, str]:
    """Return no quota: what is submitted waits, unless a test says otherwise."""
    return {"cpu": "0", "memory": "0"}


def rayjobs(kubectl: Kubectl, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.get("rayjobs", f"--namespace={namespace}")["items"]
    return found


def study(path: Path, **changes: Any) -> str:
    """Write a study of one cell with changes; return its file."""
    path.write_text(json.dumps({"runs": [encode(replace(tiny()[0], **changes))]}))
    return str(path)


def test_the_same_submit_twice_is_one_run(lima: Lima, kubectl: Kubectl) -> None:
    first = lima.submit(*TINY, "--format", "json").document
    assert len(first["submitted"]) == 4
    assert len(first["releases"]) == 1
    before = {job["metadata"]["uid"] for job in rayjobs(kubectl, lima.namespace)}
    again = lima.submit(*TINY)
    assert "submitted 0 runs" in again.err
    assert again.err.count("there already, not submitted again") == 4
    one_of_them = lima.submit(*ONE, "--format", "json").document
    assert (one_of_them["submitted"], len(one_of_them["left_out"])) == ([], 1)
    assert {job["metadata"]["uid"] for job in rayjobs(kubectl, lima.namespace)} == before
    assert len(before) == 4


def test_it_says_what_to_type_next(lima: Lima) -> None:
    said = lima.submit(*ONE).err
    [run_id] = [run["run_id"] for run in lima.runs()]
    assert f"lima-k8s watch {run_id} -n {lima.namespace}" in said
    assert f"lima-k8s aggregate {lima.storage}" in said


def test_a_part_of_a_study_may_be_there_already(lima: Lima, kubectl: Kubectl) -> None:
    lima.submit(*ONE)
    rest = lima.submit(*TINY, "--format", "json").document
    assert (len(rest["submitted"]), len(rest["left_out"])) == (3, 1)
    assert len(rayjobs(kubectl, lima.namespace)) == 4


def test_a_dry_run_asks_and_makes_nothing(lima: Lima, kubectl: Kubectl) -> None:
    text = lima.submit(*TINY, "--dry-run").out
    kinds = [item["kind"] for item in yaml.safe_load_all(text) if item]
    assert kinds.count("RayJob") == kinds.count("ConfigMap") == 4
    assert rayjobs(kubectl, lima.namespace) == []


def test_what_is_missing_is_said_and_nothing_stays(lima: Lima, kubectl: Kubectl) -> None:
    refused = lima.submit(*ONE, "--queue", "nope", code=2)
    assert "no LocalQueue 'nope'" in refused.err
    assert "queues there: lima" in refused.err
    assert "no WorkloadPriorityClass 'nope'" in lima.submit(*ONE, "--priority", "nope", code=2).err
    kubectl("delete", "secret", "storage", f"--namespace={lima.namespace}")
    assert "no Secret 'storage'" in lima.submit(*ONE, code=2).err
    assert rayjobs(kubectl, lima.namespace) == []
    assert run(["helm", "list", "-q", "-n", lima.namespace]).split() == []


def test_names_at_the_limit_and_unicode(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    long, longest = "Größe ☃ " * 12, "Größe ☃ " * 8  # 240 of 255 bytes, as the name of a folder
    refused = study(tmp_path / "l.json", experiment=long, arm="Ärmel-" * 16, seed=2**31 - 1)
    assert "experiment: as the name of a folder" in lima.submit("--recipe", refused, code=2).err
    file = study(tmp_path / "s.json", experiment=longest, arm="Ärmel-" * 16, seed=2**31 - 1)
    lima.submit("--recipe", file)
    [job] = rayjobs(kubectl, lima.namespace)
    assert len(job["metadata"]["name"]) <= 47
    [told] = lima.runs()
    assert told["experiment"] == longest
    assert told["arm"] == "Ärmel-" * 16
    assert "there already" in lima.submit("--recipe", file).err


def test_the_priority_is_kueues(lima: Lima, kubectl: Kubectl) -> None:
    lima.submit(*ONE, "--priority", "high")
    [told] = lima.until(lambda runs: all(run["cause"] for run in runs))
    assert told["priority_class"] == "lima-high"
    [workload] = kubectl.get("workloads", f"--namespace={lima.namespace}")["items"]
    assert workload["spec"]["priority"] == 100


def as_submitter(lima: Lima, kubectl: Kubectl, tmp_path: Path, *, bound: bool) -> Lima:
    """Return the command line of a service account, with the rights of lima-queue or none."""
    name = "ann"
    kubectl("create", "serviceaccount", name, f"--namespace={lima.namespace}")
    if bound:
        account = f"queue.submitters.serviceAccounts={{{lima.namespace}/{name}}}"
        namespace = f"queue.namespace={lima.namespace}"
        chart = str(ROOT / "charts" / "lima-queue")
        text = run(["helm", "template", "q", chart, "--set", account, "--set", namespace])
        rights = [i for i in yaml.safe_load_all(text) if i and "rbac" in i["apiVersion"]]
        kubectl.apply(*rights)
    token = kubectl("create", "token", name, f"--namespace={lima.namespace}").strip()
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    config["users"] = [{"name": name, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = name
    file = tmp_path / "ann"
    file.write_text(yaml.safe_dump(config))
    return replace(lima, environment={"KUBECONFIG": str(file)})


@pytest.mark.parametrize("quota", [quota_for(2)])
def test_a_submitters_rights_are_enough(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    """Every command on a cluster, with the rights of lima-queue's role and no others."""
    ann = as_submitter(lima, kubectl, tmp_path, bound=True)
    ann.submit(*TINY)
    runs = ann.until(two_of_four)
    waiting = [run for run in runs if not run["admitted"]]
    assert sorted(run["queue_position"] for run in waiting) == [1, 2]
    [told] = ann.json("explain", waiting[0]["name"])["runs"]
    assert told["needs"]  # she may see the quota behind her queue
    assert "has no log yet" in ann("logs", waiting[0]["name"], code=2).err
    ann("cancel", "--all", "--yes", "--wait")
    assert ann.runs() == []


def test_no_rights_are_named(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    ann = as_submitter(lima, kubectl, tmp_path, bound=False)
    for command in (["status"], ["explain", "x"], ["cancel", "x", "--yes"]):
        refused = ann(*command, code=3)
        assert f"in namespace '{lima.namespace}'; ask for the role of lima-queue" in refused.err
    assert "may not get localqueues.kueue.x-k8s.io" in ann.submit(*ONE, code=3).err


def test_an_expired_token_is_told(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    ann = as_submitter(lima, kubectl, tmp_path, bound=True)
    kubectl("delete", "serviceaccount", "ann", f"--namespace={lima.namespace}")
    assert "(401): they have expired" in ann("status", code=3).err
    assert "(401): they have expired" in ann.submit(*ONE, code=3).err


def test_what_kueue_refuses_lint_refuses_too(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    """Every rule of Kueue's webhook that lint knows, against the webhook itself."""
    text = lima.submit(*ONE, "--dry-run").out
    job = next(i for i in yaml.safe_load_all(text) if i and i["kind"] == "RayJob")
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    groups = [{**group, "groupName": f"g{i}"} for i in range(18)]
    for change in (
        {"shutdownAfterJobFinishes": False},
        {"clusterSelector": {"ray.io/cluster": "x"}},
        {"rayClusterSpec": {**job["spec"]["rayClusterSpec"], "workerGroupSpecs": groups}},
        {
            "rayClusterSpec": {
                **job["spec"]["rayClusterSpec"],
                "workerGroupSpecs": [{**group, "groupName": "head"}],
            }
        },
        {"rayClusterSpec": {**job["spec"]["rayClusterSpec"], "enableInTreeAutoscaling": True}},
    ):
        file = tmp_path / "job.yaml"
        file.write_text(yaml.safe_dump({**job, "spec": {**job["spec"], **change}}))
        assert lima.run("lint", str(file)).code == 2, change
        with pytest.raises(Exception, match="denied the request"):
            kubectl("apply", "--dry-run=server", f"--filename={file}")


def test_a_profile_of_ones_own(lima: Lima, s3: S3, tmp_path: Path) -> None:
    profile = write_profile(tmp_path / "mine.yaml", s3, env={"HELLO": "world"})
    text = replace(lima, profile=profile).submit(*ONE, "--dry-run").out
    assert "HELLO" in text
    assert KUEUE["apiVersion"].split("/")[0] in text


@pytest.mark.parametrize("quota", [quota_for(1)])
def test_a_run_may_be_waited_for(lima: Lima) -> None:
    run = (*SMALL, "--set", "train.epochs=2")
    said = lima.submit(*run, "--wait", kind="train").err
    [told] = lima.runs()
    assert (told["state"], told["cause"], told["stage_starts"]) == ("done", None, 1)
    for state in ("starting", "running", "done"):
        assert f"{told['name']}: {state}" in said
    assert lima.json("watch")["runs"][0]["state"] == "done"  # at once
    again = lima.submit(*run, "--format", "json", kind="train").document
    assert [left["why"] for left in again["left_out"]] == ["finished"]
