"""lima-queue as a platform team installs it, and people who submit to it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from lima_k8s.terminal.output import yaml_text
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import ROOT
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import Lima

CHART = str(ROOT / "charts" / "lima-queue")
PLATFORM = "default"
"""Namespace of the releases."""
GPU_NODE = {
    "perNode": 1,
    "worker": {"cpu": 0.1, "memoryGiB": 1, "sharedMemoryGiB": 0.1, "diskGiB": 0.1},
}
"""A node with a GPU, as small as a pod of the tests may be."""


def install(kubectl: Kubectl, release: str, *, cluster: Any = None, **queue: Any) -> None:
    """Install lima-queue with these values of `queue:`."""
    values = {"queue": {"createNamespace": False, **queue}, "cluster": cluster or {}}
    helm(kubectl, "install", release, CHART, "--values", "-", stdin=yaml_text(values))


def helm(kubectl: Kubectl, *words: str, stdin: str | None = None) -> str:
    """Run Helm as an administrator in the platform's namespace."""
    access = (f"--kubeconfig={kubectl.kubeconfig}", f"--namespace={PLATFORM}")
    return run(["helm", *words, *access], stdin=stdin)


def person(lima: Lima, kubectl: Kubectl, folder: Path, name: str) -> Lima:
    """Return the command line of a service account of the namespace, with a token of its own."""
    kubectl("create", "serviceaccount", name, f"--namespace={lima.namespace}")
    token = kubectl("create", "token", name, f"--namespace={lima.namespace}").strip()
    config = yaml.safe_load(kubectl.kubeconfig.read_text())
    config["users"] = [{"name": name, "user": {"token": token}}]
    for context in config["contexts"]:
        context["context"]["user"] = name
    file = folder / name
    file.write_text(yaml.safe_dump(config))
    return replace(lima, environment={"KUBECONFIG": str(file)})


def kubectl_of(who: Lima) -> Kubectl:
    """Return the kubectl of a person."""
    return Kubectl(Path(who.environment["KUBECONFIG"]))


def explained(lima: Lima, name: str) -> dict[str, Any]:
    """Return what `explain` says of a run."""
    [found] = lima.json("explain", name)["runs"]
    return dict(found)
