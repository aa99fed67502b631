"""What a platform team does to its queues: more than one release, and taking one away."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lima.errors import ClusterError
from tests.cluster.harness.daemons import PAUSE
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import ONE, SMALL, Lima, lima, write_profile
from tests.cluster.helpers.platform import GPU_NODE, helm, install
from tests.cluster.helpers.s3 import S3

__all__ = ["lima"]
QUOTA = {"cpu": 1, "memoryGiB": 4, "diskGiB": 9, "gpuNodes": 0}
FLAVORS = [
    {"name": "h100", "nodes": 1, "nodeLabels": {"gpu": "h100"}},
    {"name": "a100-spot", "nodes": 2, "nodeLabels": {"gpu": "a100"}},
    {"name": "mig", "resource": "nvidia.com/mig-1g.10gb", "perNode": 56, "cpu": 8},
]


@pytest.fixture
def queue(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Yield a namespace whose queue is lima-queue's, with three kinds of GPUs."""
    install(
        kubectl,
        f"{namespace}-queue",
        namespace=namespace,
        quota=QUOTA,
        flavors=FLAVORS,
        networkPolicy={"enabled": False},
    )
    yield namespace
    helm(kubectl, "uninstall", f"{namespace}-queue", "--no-hooks", "--ignore-not-found")


def hold_quota(kubectl: Kubectl, namespace: str) -> None:
    """Let a job of another kind take quota of the queue; it is admitted when this returns."""
    container = {
        "name": "c",
        "image": PAUSE,
        "resources": {"requests": {"cpu": "1m"}},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    labels = {"kueue.x-k8s.io/queue-name": "lima"}
    kubectl.apply(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": "holder", "namespace": namespace, "labels": labels},
            "spec": {"suspend": True, "template": template},
        }
    )
    while not kubectl.get("clusterqueue", namespace)["status"].get("reservingWorkloads"):
        time.sleep(0.2)


def test_a_queue_does_not_go_under_its_runs(lima: Lima, kubectl: Kubectl) -> None:
    space, release = lima.namespace, f"{lima.namespace}-queue"
    hold_quota(kubectl, space)
    with pytest.raises(ClusterError, match="holds quota for 1 runs, under which it would vanish"):
        helm(kubectl, "uninstall", release)
    assert "deletionTimestamp" not in kubectl.get("clusterqueue", space)["metadata"]
    kubectl("get", "localqueue", "lima", f"--namespace={space}")

    # Somebody deletes it all the same: it stays until its last run ends, and is no queue any more.
    kubectl("delete", "clusterqueue", space, "--wait=false")
    refused = lima.submit(*ONE, code=2)
    assert f"draws on ClusterQueue '{space}', which is being deleted" in refused.err
    assert lima.runs() == []
    with pytest.raises(ClusterError, match="is being deleted and stays until its last run ends"):
        install(kubectl, f"{space}x-queue", namespace=space, clusterQueue=space, quota=QUOTA)
    kubectl("delete", "job", "holder", f"--namespace={space}")


@pytest.fixture
def neighbour(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Yield another namespace with a release of its own."""
    name = f"{namespace}-b"
    kubectl("create", "namespace", name)
    install(kubectl, f"{name}-queue", namespace=name, quota=QUOTA, flavors=FLAVORS[:1])
    yield name
    helm(kubectl, "uninstall", f"{name}-queue", "--no-hooks")
    kubectl("delete", "namespace", name)


def test_two_releases_and_a_kind_of_gpu_by_its_name(
    lima: Lima, neighbour: str, kubectl: Kubectl, s3: S3, tmp_path: Path
) -> None:
    names = {item["metadata"]["name"] for item in kubectl.get("resourceflavors")["items"]}
    assert names >= {f"{lima.namespace}-{kind}" for kind in ("cpu", "h100", "a100-spot", "mig")}
    assert names >= {f"{neighbour}-{kind}" for kind in ("cpu", "h100")}
    kubectl("wait", "--for=condition=Active", "clusterqueue", lima.namespace, neighbour)

    gpu = {"flavor": "a100-spot", **GPU_NODE}
    profile = write_profile(tmp_path / "a100.yaml", s3, gpu=gpu)
    compute = [f"train.compute.{x}" for x in ("device=cuda", "workers=1", "gpus_per_worker=1")]
    words = [word for value in compute for word in ("--set", value)]
    replace(lima, profile=profile).submit(*SMALL, *words, kind="train")
    [told] = lima.until(lambda runs: (runs[0]["cause"] or {}).get("name") == "no-such-node")
    # Kueue passed over the first kind; no node has the labels of the one that was named.
    assert "gpu=a100" in told["cause"]["what"]
    assert f"{lima.namespace}-a100-spot" in told["cause"]["what"]
    assert told["state"] == "starting"
