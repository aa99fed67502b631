"""Every cause that `watch` names, provoked for real.

Each test prints how long the name took from the moment that the run was admitted or refused.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.conftest import Say
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import SMALL, Lima, change_queue, lima, queue, quota, write_profile
from tests.cluster.helpers.s3 import S3

__all__ = ["lima", "queue", "quota"]


def watched(lima: Lima, say: Say) -> dict[str, Any]:
    """Watch the one run until the command gives up; return its cause."""
    start = time.monotonic()
    done = lima("watch", "--format", "json", code=1)
    [run] = done.document["runs"]
    cause: dict[str, Any] = run["cause"]
    assert cause["name"] in done.err
    assert cause["fix"] in done.err
    took = time.monotonic() - start
    say(f"{cause['name']}: named {took:.0f} s after `watch`: {cause['what']}")
    return cause


def with_changes(lima: Lima, s3: S3, tmp_path: Path, **changes: Any) -> Lima:
    return replace(lima, profile=write_profile(tmp_path / "changed.yaml", s3, **changes))


def test_an_image_that_is_not_there(lima: Lima, s3: S3, tmp_path: Path, say: Say) -> None:
    image = {"cpu": "localhost/none:1"}
    with_changes(lima, s3, tmp_path, image=image).submit(*SMALL, kind="train")
    cause = watched(lima, say)
    assert cause["name"] == "image-pull-failure"
    assert "localhost/none:1" in cause["what"]


def test_a_secret_that_is_not_there(lima: Lima, kubectl: Kubectl, say: Say) -> None:
    change_queue(kubectl, lima.namespace, stop=True)
    lima.submit(*SMALL, kind="train")
    kubectl("delete", "secret", "storage", f"--namespace={lima.namespace}")
    change_queue(kubectl, lima.namespace, stop=False)
    cause = watched(lima, say)
    assert cause["name"] == "missing-secret"
    assert "'storage'" in cause["what"]
    assert "kubectl create secret generic storage" in cause["fix"]


@pytest.mark.parametrize("quota", [{"cpu": "100m", "memory": "64Gi"}])
def test_quota_that_can_never_fit(lima: Lima, say: Say) -> None:
    lima.submit(*SMALL, kind="train")
    cause = watched(lima, say)
    assert cause["name"] == "quota-never-fits"
    assert "at most" in cause["what"]


def test_memory(lima: Lima, s3: S3, tmp_path: Path, say: Say) -> None:
    head = {"cpu": 0.2, "memoryGiB": 0.06, "sharedMemoryGiB": 0}
    with_changes(lima, s3, tmp_path, head=head).submit(*SMALL, kind="train")
    assert watched(lima, say)["name"] == "out-of-memory"


def test_an_init_container_that_fails(lima: Lima, kubectl: Kubectl, say: Say) -> None:
    text = lima.submit(*SMALL, "--dry-run", kind="train").out
    objects = [item for item in yaml.safe_load_all(text) if item]
    job = next(item for item in objects if item["kind"] == "RayJob")
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    [container] = head["containers"]
    kept = {k: container[k] for k in ("image", "imagePullPolicy", "securityContext", "resources")}
    head["initContainers"] = [{"name": "fails", "command": ["/bin/false"], **kept}]
    kubectl.apply(*(item for item in objects if item["kind"] in ("RayJob", "ConfigMap")))
    cause = watched(lima, say)
    assert cause["name"] == "init-crash-loop"
    assert "exit code 1" in cause["what"]
    assert "container fails" in cause["where"]


def test_storage_out_of_reach(lima: Lima, s3: S3, tmp_path: Path, say: Say) -> None:
    endpoint = s3.endpoint.rpartition(":")[0] + ":1"
    storage = {"endpoint": endpoint, "secretName": "storage"}
    with_changes(lima, s3, tmp_path, storage=storage).submit(*SMALL, kind="train")
    cause = watched(lima, say)
    assert cause["name"] == "storage-unreachable"
    assert "s3://" in cause["what"]
