"""The cluster itself: what the other tests here stand on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from tests.cluster.harness import addons, cgroups
from tests.cluster.harness.cluster import Cluster, sweep
from tests.cluster.harness.images import JOBS
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import CLUSTERS, ROOT
from tests.cluster.harness.sandbox import Sandbox
from tests.cluster.helpers.s3 import S3

QUEUE = "queue"
RESTRICTED = {
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
ENTRYPOINT = "python -c \"import ray; ray.init(); print('nodes', len(ray.nodes()))\""


def container(name: str, **fields: Any) -> dict[str, Any]:
    """Return a container of the jobs' image under restricted pod security."""
    memory = {"memory": "2Gi"}
    return {
        "name": name,
        "image": JOBS,
        "imagePullPolicy": "IfNotPresent",
        "securityContext": RESTRICTED,
        "resources": {"requests": {"cpu": "100m", **memory}, "limits": memory},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
        **fields,
    }


def pod(main: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Return a pod's spec with a writable /tmp."""
    return {"containers": [main], "volumes": [{"name": "tmp", "emptyDir": {}}], **fields}


def ray_job(name: str, namespace: str) -> dict[str, Any]:
    """Return a RayJob of one head and one worker that asks for a GPU."""
    worker = container("worker")
    worker["resources"] = {
        part: {**amounts, addons.GPU: "1"} for part, amounts in worker["resources"].items()
    }
    group = {
        "groupName": "workers",
        "replicas": 1,
        "rayStartParams": {},
        "template": {"spec": pod(worker)},
    }
    head = {"rayStartParams": {"num-gpus": "0"}, "template": {"spec": pod(container("head"))}}
    submitter = pod(container("submitter"), restartPolicy="Never")
    return {
        "apiVersion": "ray.io/v1",
        "kind": "RayJob",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"kueue.x-k8s.io/queue-name": QUEUE},
        },
        "spec": {
            "entrypoint": ENTRYPOINT,
            "shutdownAfterJobFinishes": True,
            "suspend": True,
            "submitterPodTemplate": {"spec": submitter},
            "rayClusterSpec": {"headGroupSpec": head, "workerGroupSpecs": [group]},
        },
    }


@pytest.fixture
def quota(kubectl: Kubectl, namespace: str) -> Iterator[str]:
    """Yield the name of a ClusterQueue behind the namespace's LocalQueue."""
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2"}
    resources = [
        {"name": "cpu", "nominalQuota": "2"},
        {"name": "memory", "nominalQuota": "16Gi"},
        {"name": addons.GPU, "nominalQuota": "1"},
    ]
    group = {
        "coveredResources": [item["name"] for item in resources],
        "flavors": [{"name": namespace, "resources": resources}],
    }
    matching = {"matchLabels": {"kubernetes.io/metadata.name": namespace}}
    kubectl.apply(
        {**kind, "kind": "ResourceFlavor", "metadata": {"name": namespace}},
        {
            **kind,
            "kind": "ClusterQueue",
            "metadata": {"name": namespace},
            "spec": {"namespaceSelector": matching, "resourceGroups": [group]},
        },
        {
            **kind,
            "kind": "LocalQueue",
            "metadata": {"name": QUEUE, "namespace": namespace},
            "spec": {"clusterQueue": namespace},
        },
    )
    yield namespace
    kubectl("delete", "--wait=false", f"clusterqueue/{namespace}", f"resourceflavor/{namespace}")


def used(kubectl: Kubectl, queue: str) -> dict[str, str]:
    """Return what a ClusterQueue has given away, by resource."""
    status = kubectl.get("clusterqueue", queue).get("status", {})
    flavors = status.get("flavorsReservation", [])
    return {item["name"]: item["total"] for flavor in flavors for item in flavor["resources"]}


def test_a_ray_job_is_admitted_runs_and_frees_its_quota(
    kubectl: Kubectl, namespace: str, quota: str
) -> None:
    kubectl.apply(ray_job("hello", namespace))
    seen: set[str] = set()
    status: dict[str, Any] = {}
    while status.get("jobDeploymentStatus") not in ("Complete", "Failed"):
        status = kubectl.get("rayjob", "hello", f"--namespace={namespace}").get("status", {})
        seen.add(used(kubectl, quota).get(addons.GPU, ""))
        time.sleep(1)
    assert status["jobStatus"] == "SUCCEEDED", json.dumps(status, indent=1)
    assert "1" in seen, "Kueue never counted the worker's GPU"
    while kubectl.get("pods", f"--namespace={namespace}", "--selector=ray.io/cluster")["items"]:
        time.sleep(1)
    while used(kubectl, quota)[addons.GPU] != "0":
        time.sleep(1)


def test_a_pod_and_the_tests_see_the_same_s3(kubectl: Kubectl, namespace: str, s3: S3) -> None:
    kubectl.apply(s3.secret("storage", namespace))
    code = (
        "from lima.store.storage import Storage\n"
        f"Storage('{s3.uri}/study').write('from-a-pod', b'written')\n"
    )
    main = container(
        "main",
        command=["python", "-c", code],
        envFrom=[{"secretRef": {"name": "storage"}}],
        env=[{"name": "AWS_ENDPOINT_URL", "value": s3.endpoint}],
    )
    metadata = {"name": "writer", "namespace": namespace}
    spec = pod(main, restartPolicy="Never", automountServiceAccountToken=False)
    kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    phase = ""
    while phase not in ("Succeeded", "Failed"):
        phase = kubectl.get("pod", "writer", f"--namespace={namespace}")["status"]["phase"]
        time.sleep(0.5)
    assert phase == "Succeeded", kubectl("logs", "writer", f"--namespace={namespace}")
    server = pyarrow.fs.S3FileSystem(
        access_key=s3.access_key, secret_key=s3.secret_key, endpoint_override=s3.endpoint
    )
    with server.open_input_stream(f"{s3.bucket}/study/from-a-pod") as stream:
        assert stream.read() == b"written"


def test_fake_nodes_are_ready_and_report_gpus(cluster: Cluster, kubectl: Kubectl) -> None:
    names = cluster.add_fake_nodes(3, gpus=8, prefix="harness")
    try:
        kubectl("wait", "--for=condition=Ready", "--timeout=5m", *(f"node/{n}" for n in names))
        nodes = [kubectl.get("node", name) for name in names]
        assert [node["status"]["allocatable"][addons.GPU] for node in nodes] == ["8"] * 3
    finally:
        kubectl("delete", "node", *names)


@pytest.mark.alone
def test_the_node_reports_gpus_after_a_restart_of_the_kubelet(
    cluster: Cluster, kubectl: Kubectl
) -> None:
    before = kubectl.get("node", "node")["status"]["allocatable"][addons.GPU]
    cluster.restart("kubelet")
    assert kubectl.get("node", "node")["status"]["allocatable"][addons.GPU] == before != "0"


def devices() -> set[str]:
    """Return the names of this machine's network devices."""
    return {folder.name for folder in Path("/sys/class/net").iterdir()}


def mounts(name: str) -> list[str]:
    """Return the mounts of this machine that a cluster's folder is part of."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if f"/clusters/{name}/" in line]


@pytest.fixture
def boxes() -> Iterator[tuple[Sandbox, Sandbox]]:
    """Yield the namespaces of two more clusters."""
    pair = tuple(Cluster(f"test-{part}-{os.getpid()}").box for part in ("left", "right"))
    for box in pair:
        box.create()
    yield pair[0], pair[1]
    for box in pair:
        box.destroy()


@pytest.mark.alone
def test_two_clusters_live_side_by_side(boxes: tuple[Sandbox, Sandbox]) -> None:
    """The same ports and paths inside, other addresses outside; one goes and the other stays."""
    left, right = boxes
    assert left.address != right.address
    for box in boxes:
        box.start("daemon", [sys.executable, "-m", "http.server", "6443", "--directory", "/run"])
        box.run(["touch", f"/run/{box.layout.name}"])
    for box in boxes:
        script = "until wget -q -O- http://$0:6443/; do sleep 0.1; done"
        assert box.layout.name in box.run(["sh", "-c", script, box.address])
        assert box.run(["ls", "/run"]).split() == [box.layout.name]
    left.destroy()
    assert right.running("daemon")
    assert right.run(["ls", "/run"]).split() == [right.layout.name]


UP = """
import sys
from tests.cluster.harness import daemons
from tests.cluster.harness.cluster import Cluster, own_name
cluster = Cluster(own_name())
cluster.box.create()
daemons.write_configuration(cluster.box)
for name in ("etcd", "kube-apiserver", "containerd"):
    cluster.start(name)
print(cluster.name, flush=True)
sys.stdin.read()
"""


@pytest.mark.alone
def test_nothing_is_left_of_a_killed_run() -> None:
    before = devices()
    words = [sys.executable, "-c", UP]
    pipe = subprocess.PIPE
    run = subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)
    assert run.stdout
    name = run.stdout.readline().strip()
    left = Cluster(name)
    assert left.is_up
    assert len(devices() - before) == 1
    sweep()
    assert left.is_up, "a run that goes on keeps its cluster"
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    assert left.is_up, "its daemons outlive it"
    sweep()
    assert not cgroups.processes(left.layout.cgroup)
    assert not cgroups.exists(left.layout.cgroup)
    assert not mounts(name)
    assert not (CLUSTERS / name).exists()
    while devices() != before:  # the kernel removes a namespace's devices a moment later
        time.sleep(0.05)
