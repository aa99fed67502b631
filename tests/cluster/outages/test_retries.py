"""What is tried again, and what is not: KubeRay itself knows no reasons."""

import shutil
from dataclasses import replace
from typing import Any

from tests.cluster.conftest import Say
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import SMALL, Lima, change_queue, lima, queue, quota
from tests.cluster.test_watch import watched

__all__ = ["lima", "queue", "quota"]
BAD = (*SMALL, "--set", "train.data.path=data/none.jsonl")


def used(kubectl: Kubectl, queue: str) -> list[str]:
    """Return the amounts that a ClusterQueue has given away."""
    flavors = kubectl.get("clusterqueue", queue)["status"]["flavorsReservation"]
    return [r["total"] for flavor in flavors for r in flavor["resources"]]


def test_bad_input_is_not_tried_again(lima: Lima, kubectl: Kubectl, say: Say) -> None:
    lima.submit(*BAD, kind="train")
    cause = watched(lima, say)
    assert cause["name"] == "bad-input"
    assert "data/none.jsonl" in cause["what"]
    [job] = kubectl.get("rayjobs", f"--namespace={lima.namespace}")["items"]
    status: dict[str, Any] = job["status"]
    assert job["spec"]["backoffLimit"] > 0, "nothing to prove"
    assert (status["jobStatus"], status["jobDeploymentStatus"]) == ("STOPPED", "Complete")
    assert status["failed"] == 0
    [told] = lima.runs()
    assert (told["state"], told["cause"]["name"]) == ("failed", "bad-input")
    assert "data/none.jsonl" in lima("explain", told["name"]).out
    assert any("data/none.jsonl" in line for line in lima.json("logs", told["name"])["lines"])
    while any(amount != "0" for amount in used(kubectl, lima.namespace)):
        pass  # Kueue takes its quota back
    mended = lima.submit(*BAD, "--format", "json", kind="train").document
    assert len(mended["renewed"]) == 1  # once its data are there, the same command goes on


def test_a_bucket_that_is_not_there_is_not_tried_again(
    lima: Lima, kubectl: Kubectl, cluster: Cluster, say: Say
) -> None:
    name = f"gone-{lima.namespace}"
    nowhere = replace(lima, storage=f"s3://{name}/study")
    refused = nowhere.submit(*SMALL, kind="train", code=2)
    assert f"there is no bucket '{name}'" in refused.err
    assert lima.runs() == []

    bucket = cluster.layout.folder / "s3" / name  # there when it is submitted, and no more later
    bucket.mkdir()
    change_queue(kubectl, lima.namespace, stop=True)
    nowhere.submit(*SMALL, kind="train")
    shutil.rmtree(bucket)
    change_queue(kubectl, lima.namespace, stop=False)
    cause = watched(nowhere, say)
    assert cause["name"] == "bad-input"
    assert f"there is no bucket '{name}'" in cause["what"]
    [job] = kubectl.get("rayjobs", f"--namespace={lima.namespace}")["items"]
    assert job["status"]["failed"] == 0
