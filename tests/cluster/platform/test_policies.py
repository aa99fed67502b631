"""Nobody passes the queue: what lima-queue's policies refuse, by those whom they bind."""

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.errors import ClusterError
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import ONE, SMALL, Lima, lima, write_profile
from tests.cluster.helpers.platform import helm, install, kubectl_of, person
from tests.cluster.helpers.s3 import S3

__all__ = ["lima"]
GPU = "nvidia.com/gpu"
SUBMITTER = "--selector=batch.kubernetes.io/job-name"


@pytest.fixture
def queue(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Yield a namespace with lima-queue's queue, for `ann`, and `chief` who may use lima-high."""
    ann, chief = (f"{namespace}/{name}" for name in ("ann", "chief"))
    quota = {"cpu": 1, "memoryGiB": 5, "diskGiB": 50, "gpuNodes": 1}
    install(
        kubectl,
        f"{namespace}-queue",
        namespace=namespace,
        quota=quota,
        submitters={"serviceAccounts": [ann, chief]},
        admission={"high": {"serviceAccounts": [chief]}},
        networkPolicy={"enabled": False},
        resourceQuota={"count/rayjobs.ray.io": "2"},
    )
    yield namespace
    helm(kubectl, "uninstall", f"{namespace}-queue", "--no-hooks")


def pod(name: str, **limits: str) -> dict[str, Any]:
    security = {
        "runAsNonRoot": True,
        "runAsUser": 1000,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container = {
        "name": "c",
        "image": "localhost/pause:1",
        "resources": {"limits": limits},
        "securityContext": security,
    }
    spec = {"containers": [container], "activeDeadlineSeconds": 60}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def refused(who: Kubectl, manifest: dict[str, Any], namespace: str) -> str:
    """Return with which words a manifest is refused; empty: it would be taken."""
    words = ("create", "--dry-run=server", f"--namespace={namespace}", "--filename=-")
    try:
        who(*words, stdin=yaml.safe_dump(manifest))
    except ClusterError as error:
        return str(error)
    return ""


def await_policies(who: Kubectl, namespace: str) -> None:
    """Return when the API server knows the policies that were just made."""
    while "by hand" not in refused(who, pod("probe"), namespace):
        time.sleep(0.2)


def test_nobody_passes_the_queue(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    ann, chief = (person(lima, kubectl, tmp_path, name) for name in ("ann", "chief"))
    hers, space = kubectl_of(ann), lima.namespace
    await_policies(hers, space)
    manifests = yaml.safe_load_all(lima.submit(*ONE, "--dry-run").out)
    job = next(m for m in manifests if m and m["kind"] == "RayJob")
    labels = job["metadata"]["labels"]

    assert refused(hers, job, space) == ""
    unqueued = {**labels}
    del unqueued["kueue.x-k8s.io/queue-name"]
    bare = {**job, "metadata": {**job["metadata"], "labels": unqueued}}
    assert "outside all quota" in refused(hers, bare, space)
    assert "is forbidden: User" in refused(  # only KubeRay makes Ray clusters
        hers,
        {
            "apiVersion": "ray.io/v1",
            "kind": "RayCluster",
            "metadata": {"name": "r"},
            "spec": job["spec"]["rayClusterSpec"],
        },
        space,
    )
    high = {**labels, "kueue.x-k8s.io/priority-class": "lima-high"}
    urgent = {**job, "metadata": {**job["metadata"], "labels": high}}
    assert "lima-high is not yours" in refused(hers, urgent, space)
    assert refused(kubectl_of(chief), urgent, space) == ""
    spec = yaml.safe_load(yaml.safe_dump(job["spec"]))
    spec["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["priorityClassName"] = (
        "system-node-critical"
    )
    assert "PriorityClass of its pods" in refused(hers, {**job, "spec": spec}, space)

    assert refused(hers, pod("small", memory="1Gi"), space) == ""
    assert "by hand" in refused(hers, pod("device", memory="1Gi", **{GPU: "1"}), space)
    assert "by hand" in refused(hers, pod("large", memory="64Gi"), space)
    assert "by hand" in refused(hers, pod("endless"), space)
    long = pod("long", memory="1Gi")
    del long["spec"]["activeDeadlineSeconds"]
    assert "activeDeadlineSeconds" in refused(hers, long, space)


def test_a_submitter_runs_studies_under_the_policies(
    lima: Lima, kubectl: Kubectl, s3: S3, tmp_path: Path
) -> None:
    """What operators make for a run is let through, and so is `helm test`, which leaves nothing."""
    trusted = Path("/etc/ssl/certs/ca-certificates.crt")
    kubectl(
        "create",
        "configmap",
        "ca",
        f"--from-file=ca-bundle.crt={trusted}",
        f"--namespace={lima.namespace}",
    )
    besides = {
        "caBundle": {"configMap": "ca"},
        "pods": {
            "all": {"annotations": {"example.com/safe-to-evict": "false"}, "env": {"NO_PROXY": "*"}}
        },
    }
    profile = write_profile(tmp_path / "besides.yaml", s3, **besides)
    ann = replace(person(lima, kubectl, tmp_path, "ann"), profile=profile)
    await_policies(kubectl_of(ann), lima.namespace)
    assert "lima-high is not yours" in ann.submit(*ONE, "--priority", "high", code=2).err
    assert ann.runs() == []
    ann.submit(*SMALL, "--set", "train.epochs=2", "--wait", kind="train")
    [told] = ann.runs()
    assert told["state"] == "done"
    [submitter] = kubectl.get("pods", f"--namespace={ann.namespace}", SUBMITTER)["items"]
    assert submitter["metadata"]["annotations"]["example.com/safe-to-evict"] == "false"
    [container] = submitter["spec"]["containers"]
    given = {variable["name"]: variable.get("value") for variable in container["env"]}
    assert given.items() >= {"NO_PROXY": "*", "AWS_CA_BUNDLE": "/etc/lima-ca/ca-bundle.crt"}.items()
    access = (f"--kubeconfig={ann.environment['KUBECONFIG']}", f"--namespace={ann.namespace}")
    assert "overwrite: the first writer wins" in run(
        ["helm", "test", told["release"], "--logs", *access]
    )
    pods = kubectl.get("pods", f"--namespace={ann.namespace}", "--selector=!lima-k8s.io/run")
    assert pods["items"] == []
