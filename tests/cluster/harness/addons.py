"""What comes on top of a bare Kubernetes: Kueue, KubeRay, fake GPUs, fake nodes."""

import json
from typing import Any

import yaml

from tests.cluster.harness.images import KUBERAY, kuberay_image, kueue_image
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import NODE, Layout
from tests.cluster.harness.programs import module_folder, run

GPU = "nvidia.com/gpu"
PATIENT = {"timeoutSeconds": 20, "failureThreshold": 6}
"""Of a probe: on a busy machine an operator answers late, and must not be started anew for it."""


def set_gpus(kubectl: Kubectl, count: int, node: str = NODE) -> None:
    """Let a node report GPUs. The kubelet keeps what it does not know until it is started anew."""
    patch = {"status": {"capacity": {GPU: str(count)}, "allocatable": {GPU: str(count)}}}
    kubectl("patch", "node", node, "--subresource=status", "--patch", json.dumps(patch))


def install_kuberay(kubectl: Kubectl) -> None:
    """Install KubeRay's operator as its release does, with the image built here."""
    config = module_folder("kuberay-operator", KUBERAY) / "config/default"
    objects = [item for item in yaml.safe_load_all(kubectl("kustomize", str(config))) if item]
    for item in objects:
        if item["kind"] == "Deployment":
            container = item["spec"]["template"]["spec"]["containers"][0]
            container["image"] = kuberay_image()
            # A tenth of a busy core would make every test wait for the operator.
            container["resources"] = {"requests": {"cpu": "20m", "memory": "64Mi"}}
            # There is one: if it were late to say so, it would end itself.
            container.setdefault("args", []).append("--enable-leader-election=false")
            for probe in ("livenessProbe", "readinessProbe"):
                container[probe].update(PATIENT)
    kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))


def install_kueue(layout: Layout) -> None:
    """Install Kueue by its own chart, with the image built here."""
    repository, _, tag = kueue_image().rpartition(":")
    manager = {
        "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
        "resources": {"requests": {"cpu": "20m", "memory": "64Mi"}, "limits": {"cpu": None}},
    }
    chart = module_folder("kueue", "sigs.k8s.io/kueue") / "charts/kueue"
    usual = yaml.safe_load((chart / "values.yaml").read_text("utf-8"))
    config = yaml.safe_load(usual["managerConfig"]["controllerManagerConfigYaml"])
    config["leaderElection"]["leaderElect"] = False  # as of KubeRay
    values = {
        "controllerManager": {"manager": manager, "livenessProbe": PATIENT},
        "managerConfig": {"controllerManagerConfigYaml": yaml.safe_dump(config)},
    }
    words = ["helm", "install", "kueue", "--namespace=kueue-system", "--create-namespace"]
    homes = {f"HELM_{part}_HOME": f"{layout.folder}/helm" for part in ("CACHE", "CONFIG", "DATA")}
    run(
        [*words, str(chart), "--values=-", f"--kubeconfig={layout.kubeconfig}"],
        stdin=yaml.safe_dump(values),
        env=homes,
        log=layout.log("kueue-install"),
    )


def await_operators(kubectl: Kubectl) -> None:
    """Return when both operators serve, webhooks included."""
    for namespace, name in (
        ("default", "kuberay-operator"),
        ("kueue-system", "kueue-controller-manager"),
    ):
        kubectl(
            f"--namespace={namespace}", "rollout", "status", f"deployment/{name}", "--timeout=10m"
        )
    # A server-side dry run passes Kueue's webhook: it answers when its certificate is in place.
    kind = {"apiVersion": "kueue.x-k8s.io/v1beta2", "kind": "ResourceFlavor"}
    flavor = json.dumps({**kind, "metadata": {"name": "probe"}})
    words = ["create", "--dry-run=server", "--filename=-"]
    kubectl.until(*words, stdin=flavor, what="Kueue's webhook")


FAKE = {"key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule"}
"""The taint of nodes that kwok pretends."""
FAKE_LABELS = {"type": "kwok"}


def fake_node(name: str, *, gpus: int = 8, labels: dict[str, str] | None = None) -> dict[str, Any]:
    """Return a node that kwok keeps ready. Pods must tolerate its taint to land there."""
    capacity = {"cpu": "96", "memory": "2Ti", "ephemeral-storage": "10Ti", "pods": "110"}
    capacity[GPU] = str(gpus)
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": {"kwok.x-k8s.io/node": "fake"},
            "labels": {"kubernetes.io/hostname": name, **FAKE_LABELS, **(labels or {})},
        },
        "spec": {"taints": [FAKE]},
        "status": {"capacity": capacity, "allocatable": capacity},
    }
