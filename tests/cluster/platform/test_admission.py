"""Every recipe by every profile, asked of the real API server: CRDs, webhooks, pod security.

A dry run goes through all admission and stores nothing.
"""

import json
from typing import Any

import pytest
import yaml

from lima.errors import ClusterError
from lima.recipes.registry import RECIPES
from lima_k8s.profile.assets import profile, profiles
from lima_k8s.profile.kinds import CHARTS
from tests.charts.test_pods import ALL
from tests.charts.test_runs import kinds
from tests.charts.tools import SECRET, STORAGE, manifests, of_kind, pod_templates, template, values
from tests.cluster.harness.kubectl import Kubectl

Manifest = dict[str, Any]
QUEUE_KINDS = {"ClusterQueue", "LocalQueue", "NetworkPolicy", "ResourceFlavor", "Role"}


def dry_run(kubectl: Kubectl, documents: list[Manifest]) -> list[Manifest]:
    """Return what the API server would store; raise ClusterError with what it refuses."""
    # Applied, not created: what all queues share may be there already.
    words = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "--filename=-"]
    text = kubectl(*words, "--output=json", stdin=yaml.dump_all(documents, Dumper=yaml.CSafeDumper))
    items: list[Manifest] = []
    decoder = json.JSONDecoder()
    while text := text.lstrip():  # one document after the other
        item, end = decoder.raw_decode(text)
        items += item["items"] if item["kind"] == "List" else [item]
        text = text[end:]
    return items


def pods(job: Manifest) -> list[Manifest]:
    """Return the pods of a RayJob, as KubeRay makes them from their templates."""
    name, namespace = job["metadata"]["name"], job["metadata"]["namespace"]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **made["metadata"],
                "name": f"{name}-{role}",
                "namespace": namespace,
            },
            "spec": made["spec"],
        }
        for role, made in pod_templates(job).items()
    ]


@pytest.mark.parametrize("name", profiles())
def test_every_recipe_is_admitted(kubectl: Kubectl, namespace: str, name: str) -> None:
    storage = {"uri": STORAGE, "secretName": "lima-storage", "endpoint": "http://s3:7070"}
    where = ("--values", profile(name), "--namespace", namespace)
    for recipe in RECIPES.values():
        for kind, cells in kinds(recipe()):
            text = template(CHARTS[kind], values(cells, storage=storage), *where)
            documents = manifests(text)
            jobs = of_kind(documents, "RayJob")
            assert len(jobs) == len(cells)
            stored = dry_run(kubectl, [*documents, *(pod for job in jobs for pod in pods(job))])
            assert SECRET not in json.dumps(stored)
            assert not of_kind(stored, "Secret")
            # Kueue's webhook has seen them: it holds what comes with a queue's name.
            assert all(job["spec"]["suspend"] for job in of_kind(stored, "RayJob"))


def test_what_pods_have_besides_is_admitted(kubectl: Kubectl, namespace: str) -> None:
    """All that `cluster.pods` can say but the node's own network, which is refused."""
    said = {name: value for name, value in ALL.items() if name != "hostNetwork"}
    [fetch] = said["initContainers"]
    secure = {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    said["initContainers"] = [{**fetch, "securityContext": secure}]
    kubectl("create", "priorityclass", namespace, "--value=1")
    said["priorityClassName"] = namespace
    cluster = {
        "pods": {"all": said},
        "caBundle": {"configMap": "ca"},
        "deadlineSeconds": 60,
        "jobLabels": {"team": "a"},
        "jobAnnotations": {"note": "b"},
    }
    cell = next(cell for cell in RECIPES["tiny"]() if cell.arm == "howto-32")
    text = template("lima-train", values([cell], **cluster), "--namespace", namespace)
    [job] = of_kind(manifests(text), "RayJob")
    try:
        stored = dry_run(kubectl, [job, *pods(job)])
    finally:
        kubectl("delete", "priorityclass", namespace)
    assert [item["kind"] for item in stored].count("Pod") == 3


@pytest.mark.parametrize("name", profiles())
def test_the_queue_is_admitted(kubectl: Kubectl, namespace: str, name: str) -> None:
    queue = {"namespace": namespace, "createNamespace": False, "clusterQueue": namespace}
    text = template("lima-queue", {"queue": queue}, "--values", profile(name), "-n", namespace)
    stored = dry_run(kubectl, manifests(text))
    assert {item["kind"] for item in stored} >= QUEUE_KINDS
    [own] = of_kind(stored, "ClusterQueue")
    assert own["spec"]["resourceGroups"]


def test_the_namespace_refuses_what_is_not_restricted(kubectl: Kubectl, namespace: str) -> None:
    """Else the pods above were admitted by nobody."""
    [cell] = [cell for cell in RECIPES["tiny"]() if (cell.arm, cell.seed) == ("howto-32", 0)]
    text = template("lima-train", values([cell]), "--namespace", namespace)
    [job] = of_kind(manifests(text), "RayJob")
    for pod in pods(job):
        pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
        with pytest.raises(ClusterError, match='violates PodSecurity "restricted'):
            dry_run(kubectl, [pod])


def test_the_crd_refuses_what_it_does_not_know(kubectl: Kubectl, namespace: str) -> None:
    text = template("lima-train", values(RECIPES["tiny"]()[:1]), "--namespace", namespace)
    [job] = of_kind(manifests(text), "RayJob")
    job["spec"]["backoffLimit"] = "many"
    with pytest.raises(ClusterError, match=r"spec.backoffLimit"):
        dry_run(kubectl, [job])
