"""What a cluster's values change in the manifests of a run, and names that YAML would misread."""

import textwrap
from dataclasses import replace
from typing import Any

import pytest
import yaml

from lima.recipes.paper import lima_65b
from lima.spec.codec import encode, field_types, spec_type
from lima_k8s.profile.assets import profile, profiles
from lima_k8s.profile.cluster_spec import ClusterSpec, ImageSpec, load_cluster
from lima_k8s.profile.queue_spec import QueueSpec
from tests.charts.tools import (
    REGISTRY,
    ROOT,
    STORAGE,
    Manifest,
    manifests,
    of_kind,
    pod_templates,
    refused,
    template,
)
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
    assert rendered(env=None, podLabels=None) == rendered()


def may_be_empty(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    """Return null for every list, mapping and text that is empty by default."""
    found: dict[str, Any] = {}
    types = field_types(kind)
    for name, value in values.items():
        nested = spec_type(types[name])
        if nested and isinstance(value, dict):
            found[name] = may_be_empty(nested, value)
        elif value in ("", [], {}, None):
            found[name] = None
    return found


def test_what_may_be_empty_may_be_null() -> None:
    cluster = may_be_empty(ClusterSpec, encode(ClusterSpec()))
    cluster["storage"]["uri"], cluster["image"]["registry"] = STORAGE, REGISTRY
    assert rendered(**cluster) == rendered()
    for chart in ("lima-generate", "lima-judge"):
        assert template(chart, {"cluster": cluster}) == template(chart, values_of())
    queue = may_be_empty(QueueSpec, encode(QueueSpec()))
    given = {"queue": queue, "cluster": cluster}
    assert manifests(template("lima-queue", given)) == manifests(template("lima-queue", {}))


def test_what_must_not_be_empty_is_refused_by_the_schema() -> None:
    for path in ("gpu.perNode", "head", "head.cpu", "image.cpu", "stop", "tokenAuth"):
        said = refused("lima-train", values_of(), "--set", f"cluster.{path}=null")
        assert f"missing property '{path.rpartition('.')[2]}'" in said


def test_values_that_lie_are_told() -> None:
    for given, said in (
        ({"queue": "my queue"}, "/cluster/queue"),
        ({"priorityClass": "a b"}, "/cluster/priorityClass"),
        ({"topology": {"level": "nope"}}, '"nope" is not among cluster.topology.levels'),
        ({"image": {}}, "would be looked for at Docker Hub"),
    ):
        assert said in refused("lima-train", values_of(**given))
    by_hand = refused("lima-train", values_of(), "--set", "runs[0].train.epochs=2")
    assert "runs[0] is no whole run" in by_hand
    assert "lima-k8s show RECIPE --set PATH=VALUE > runs.yaml" in by_hand


def test_numbers_may_be_what_helm_makes_of_them() -> None:
    as_text = template("lima-train", values_of(), "--set", "cluster.head.memoryGiB=3.5")
    head = pods(manifests(as_text))["head"]["spec"]["containers"][0]
    assert head["resources"]["limits"]["memory"] == "3584Mi"
    assert "/cluster/head/memoryGiB" in refused(
        "lima-train", values_of(), "--set", "cluster.head.memoryGiB=much"
    )
    assert "500m" in template("lima-queue", {}, "--set", "queue.quota.cpu=0.5")


def test_one_file_may_hold_the_queue_and_the_runs() -> None:
    both = {**values_of(), "queue": {"quota": {"gpuNodes": 2}}}
    assert template("lima-train", both) == template("lima-train", values_of())


def test_without_kueue_nothing_is_installed_at_once() -> None:
    asked = ("--api-versions", "ray.io/v1")
    assert "Kueue is not installed" in refused("lima-train", values_of(), *asked)
    both = (*asked, "--api-versions", "kueue.x-k8s.io/v1beta2")
    assert template("lima-train", values_of(), *both) == template("lima-train", values_of())


def test_a_slash_at_the_end_of_the_storage_makes_no_other_run() -> None:
    plain, slash = (
        template("lima-train", values_of(storage={"uri": uri}))
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
    spaces = {d["metadata"]["namespace"] for d in queue if "namespace" in d["metadata"]}
    assert spaces == {name, "platform"}  # what `helm uninstall` asks with is the release's
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
    for name in (ImageSpec().cpu, ImageSpec().gpu, ImageSpec().vllm):
        assert f"--tag REGISTRY/{name}\n" in text
        assert f"buildah push REGISTRY/{name}\n" in text


def test_a_tracker_is_named_by_a_secret_as_documented() -> None:
    text = (ROOT / "docs" / "cluster.md").read_text("utf-8")
    text = text.partition("**Trackers.**")[2].partition("**Images**")[0]
    example = text[text.index("    cluster:\n") :].partition("\n\n")[0]
    given = yaml.safe_load(textwrap.dedent(example))["cluster"]
    for role, pod in pods(rendered(**given)).items():
        if role == "submitter":
            continue
        (container,) = pod["spec"]["containers"]
        assert {"secretRef": {"name": "lima-trackers"}} in container["envFrom"]
        assert {"name": "MLFLOW_EXPERIMENT_NAME", "value": "lima"} in container["env"]
        assert "MLFLOW_TRACKING_URI" not in {variable["name"] for variable in container["env"]}


@pytest.mark.parametrize("allowed", [False, True])
def test_pods_know_whether_files_of_a_study_may_run(allowed: bool) -> None:
    for role, pod in pods(rendered(extensions=True) if allowed else rendered()).items():
        if role in ("submitter", "test"):
            continue
        (container,) = pod["spec"]["containers"]
        said = {"name": "LIMA_ALLOW_EXTENSIONS", "value": str(int(allowed))}
        assert said in container["env"], role
