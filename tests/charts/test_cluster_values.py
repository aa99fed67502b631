"""What a cluster's values change in the manifests of a run, and names that YAML would misread."""

from dataclasses import replace
from typing import Any

import pytest

from lima.recipes import lima_65b
from lima_k8s.assets import profile, profiles
from lima_k8s.cluster_spec import ImageSpec, load_cluster
from tests.charts.tools import ROOT, Manifest, manifests, of_kind, pod_templates, refused, template
from tests.charts.tools import values as values_of


def rendered(cluster: str | None = None, **values: Any) -> list[Manifest]:
    """Return the manifests of lima-train, with values over those of a profile."""
    arguments = ["--values", str(profile(cluster))] if cluster else []
    # Helm lets the last file win: what is given here comes after the profile.
    return manifests(template("lima-train", values_of(**values), *arguments))


def pods(documents: list[Manifest]) -> dict[str, Manifest]:
    """Return all pods by their role; `test` is that of `helm test`."""
    (job,) = of_kind(documents, "RayJob")
    (test,) = of_kind(documents, "Pod")
    return {**pod_templates(job), "test": test}


@pytest.mark.parametrize("name", profiles())
def test_the_users_environment_is_the_last_word_and_no_name_is_there_twice(name: str) -> None:
    given = {"NCCL_DEBUG": "TRACE", "HF_HOME": "/elsewhere", "MINE": "$(LIMA_CACHE)/mine"}
    for role, pod in pods(rendered(name, env=given)).items():
        if role == "submitter":
            continue
        (container,) = pod["spec"]["containers"]
        names = [variable["name"] for variable in container["env"]]
        assert len(names) == len(set(names))
        # Kubernetes puts in for $(NAME) only what stands before.
        assert names[-len(given) :] == sorted(given)
        found = {variable["name"]: variable["value"] for variable in container["env"]}
        assert found.items() >= given.items()
        assert found["LIMA_STOP_FILE"] == "/tmp/lima/stop"
        nccl = load_cluster(name).gpu.nccl
        assert ("NCCL_SOCKET_IFNAME" in found) == (role == "workers" and bool(nccl))


def test_only_nodes_with_gpus_have_disks_of_the_caches_class() -> None:
    for role, pod in pods(rendered("aks-nd")).items():
        claims = [volume for volume in pod["spec"]["volumes"] if "ephemeral" in volume]
        assert len(claims) == (role == "workers"), role


def test_labels_that_a_cluster_asks_for_are_on_all_pods() -> None:
    label = {"azure.workload.identity/use": "true"}
    documents = rendered(podLabels=label, serviceAccount="lima-runs")
    for role, pod in pods(documents).items():
        assert pod["metadata"]["labels"].items() >= label.items(), role
        assert pod["spec"]["serviceAccountName"] == "lima-runs"
    (job,) = of_kind(documents, "RayJob")
    assert not label.keys() & job["metadata"]["labels"].keys()


def test_ours_of_the_labels_are_the_last_word() -> None:
    taken = {"app.kubernetes.io/part-of": "mine", "lima-k8s.io/run": "other"}
    assert pods(rendered(podLabels=taken))["head"] == pods(rendered())["head"]


def test_empty_mappings_are_none() -> None:
    assert rendered(env=None, podLabels=None, topology=None) == rendered()


def test_a_slash_at_the_end_of_the_storage_makes_no_other_run() -> None:
    plain, slash = (
        template("lima-train", {"cluster": {"storage": {"uri": uri}}})
        for uri in ("s3://bucket/prefix", "s3://bucket/prefix//")
    )
    assert plain == slash


@pytest.mark.parametrize("name", ["2024", "007", "on", "1e5"])
def test_release_and_namespace_may_look_like_numbers(name: str) -> None:
    runs = manifests(template("lima-train", values_of(), "-n", name, release=name))
    changes = {"namespace": name, "localQueue": name, "clusterQueue": name}
    queue = manifests(template("lima-queue", {"queue": changes}, release=name))
    for document in [*runs, *queue]:
        labels = document["metadata"]["labels"]
        assert all(isinstance(value, str) for value in labels.values()), document["kind"]
        assert labels["app.kubernetes.io/instance"] == name
        assert isinstance(document["metadata"]["name"], str)
    assert {d["metadata"]["namespace"] for d in runs} == {name}
    assert {d["metadata"]["namespace"] for d in queue if "namespace" in d["metadata"]} == {name}
    (local,) = of_kind(queue, "LocalQueue")
    assert (local["metadata"]["name"], local["spec"]["clusterQueue"]) == (name, name)


@pytest.mark.parametrize("given", [False, True])
def test_on_a_topology_generation_grows_only_when_told_that_kueue_can(given: bool) -> None:
    cell = replace(lima_65b()[0], train=None)
    values = values_of([cell], autoscaling={"withTopology": given})
    text = template("lima-generate", values, "--values", str(profile("eks-p5")))
    (job,) = of_kind(manifests(text), "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is given
    assert (group["minReplicas"] < group["maxReplicas"]) is given
    assert ("kueue.x-k8s.io/elastic-job" in job["metadata"]["annotations"]) is given
    head = cluster["headGroupSpec"]["template"]["spec"]
    assert head["automountServiceAccountToken"] is given
    assert {"name": "LIMA_ELASTIC", "value": str(int(given))} in head["containers"][0]["env"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"image": {"registry": "https://registry.example.com/team/"}}, "image/registry"),
        ({"image": {"pullSecrets": ["Bad_Name"]}}, "image/pullSecrets/0"),
        ({"head": {"cpu": 0.0001, "memoryGiB": 1}}, "head/cpu"),
        ({"head": {"cpu": 1, "memoryGiB": 0.0005}}, "head/memoryGiB"),
        ({"serviceAccount": "Robot 1"}, "serviceAccount"),
        ({"podLabels": {"team": "a b c!"}}, "podLabels/team"),
    ],
)
def test_what_kubernetes_would_refuse_the_schema_refuses(values: dict[str, Any], said: str) -> None:
    assert f"/cluster/{said}" in refused("lima-train", values_of(**values))


def test_the_images_that_are_pushed_are_those_that_are_pulled() -> None:
    text = (ROOT / "docs" / "images.md").read_text("utf-8")
    for name in (ImageSpec().cpu, ImageSpec().gpu):
        assert f"--tag REGISTRY/{name}\n" in text
        assert f"buildah push REGISTRY/{name}\n" in text
