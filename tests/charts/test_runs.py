"""Every recipe on every kind of cluster: what is rendered, and what the job will read."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lima.recipes.demo import tiny
from lima.recipes.overrides import apply_overrides
from lima.recipes.paper import lima_65b
from lima.recipes.registry import RECIPES
from lima.spec import CellSpec, ComputeSpec, GenerateSpec, gpus
from lima.spec.codec import decode, encode, run_id
from lima_k8s.main import cli
from lima_k8s.profile.assets import profile, profiles
from lima_k8s.profile.cluster_spec import load_cluster
from lima_k8s.profile.kinds import CHARTS, study_up_to, up_to
from tests.charts.restricted import violations
from tests.charts.tools import (
    REGISTRY,
    SECRET,
    STORAGE,
    Manifest,
    manifests,
    of_kind,
    pod_templates,
    refused,
    template,
    values,
)

DNS_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
ARMS = (
    "a" * 100,
    "a" * 25 + "-b",
    "32k",
    "日本語の腕",
    "Größe: 2k / 32k",
    "🦙" * 50,
    "-",
    "x\x7f\u0085\u200b\ufeff\u2028y",
    "𝕏\U000e0001",
    'quote " and \\ and \n line',
    "{{ .Values.runs }}",
    "yes",
    "null",
    "1e5",
    "0x1F",
)


def kinds(cells: tuple[CellSpec, ...]) -> Iterator[tuple[str, tuple[CellSpec, ...]]]:
    """Yield the kinds that a recipe can be submitted as."""
    stages = {"train": "train", "ablation": "judge", "generate": "generate", "judge": "judge"}
    if cells[0].curate:
        stages = {"curate": "curate"}
    for kind, last in stages.items():
        if getattr(cells[0], last) or kind == "ablation":
            yield kind, tuple(study_up_to(cells, last))  # type: ignore[arg-type]


CASES = [
    pytest.param(kind, cells, cluster, id=f"{name}-{kind}-{cluster}")
    for name, recipe in RECIPES.items()
    for kind, cells in kinds(recipe())
    for cluster in profiles()
]


@pytest.mark.parametrize(("kind", "cells", "cluster"), CASES)
def test_recipe_on_cluster(kind: str, cells: tuple[CellSpec, ...], cluster: str) -> None:
    storage = {"uri": STORAGE, "secretName": "lima-storage", "endpoint": "http://s3:7070"}
    text = template(CHARTS[kind], values(cells, storage=storage), "--values", profile(cluster))
    assert SECRET not in text
    documents = manifests(text)
    assert not of_kind(documents, "Secret")
    jobs, specs = of_kind(documents, "RayJob"), of_kind(documents, "ConfigMap")
    assert len(jobs) == len(specs) == len(cells)
    for cell, job, spec in zip(cells, jobs, specs, strict=True):
        check_names(job, spec, kind)
        assert ids_of(spec) == [run_id(cell)]
        check_pods(job)
        check_sizes(cell, job, cluster, kind)


def check_names(job: Manifest, spec: Manifest, kind: str) -> None:
    metadata = job["metadata"]
    assert metadata["name"] == spec["metadata"]["name"]
    assert len(metadata["name"]) <= 47
    assert DNS_1035.fullmatch(metadata["name"])
    templates = pod_templates(job).values()
    for labels in [
        metadata["labels"],
        spec["metadata"]["labels"],
        *(t["metadata"]["labels"] for t in templates),
    ]:
        assert labels["app.kubernetes.io/part-of"] == "lima-k8s"
        assert labels["lima-k8s.io/run"] == metadata["name"]
        assert labels["lima-k8s.io/kind"] == kind
        assert all(len(v) <= 63 and LABEL.fullmatch(v) for v in labels.values())


def ids_of(spec: Manifest) -> list[str]:
    runs = json.loads(spec["data"]["specs.json"])["runs"]
    return [run_id(decode(CellSpec, run)) for run in runs]


def check_pods(job: Manifest) -> None:
    graces = set()
    for role, pod in pod_templates(job).items():
        spec = pod["spec"]
        assert violations(spec) == []
        elastic_head = role == "head" and job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"]
        assert spec["automountServiceAccountToken"] is elastic_head
        (container,) = spec["containers"]
        mounted = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        assert set(mounted.values()) == set(volumes)
        if role == "submitter":
            continue
        graces.add(spec["terminationGracePeriodSeconds"])
        assert volumes[mounted["/dev/shm"]]["emptyDir"]["medium"] == "Memory"
        assert container["lifecycle"]["preStop"]["exec"]["command"][-1] == "lima_jobs.prestop"
        assert container["envFrom"] == [{"secretRef": {"name": "lima-storage"}}]
        env = {entry["name"]: entry.get("value") for entry in container["env"]}
        assert env["AWS_ENDPOINT_URL"] == "http://s3:7070"
        assert env["LIMA_STOP_FILE"].startswith("/tmp/")
    assert len(graces) == 1


def check_sizes(cell: CellSpec, job: Manifest, cluster: str, kind: str) -> None:
    spec = load_cluster(cluster)
    groups = job["spec"]["rayClusterSpec"].get("workerGroupSpecs", [])
    if kind == "judge":
        assert groups == []
        return
    (group,) = groups
    pods = group["maxReplicas"]
    container = group["template"]["spec"]["containers"][0]
    per_pod = int(container["resources"]["limits"].get(spec.gpu.resource, "0"))
    cpus = int(group["rayStartParams"]["num-cpus"])
    assert int(group["rayStartParams"]["num-gpus"]) == per_pod <= spec.gpu.perNode
    for stage in (cell.base, cell.train, cell.generate):
        if stage:
            assert pods * cpus >= stage.compute.workers
            copies = per_pod // stage.compute.gpus_per_worker
            assert gpus(stage.compute) == 0 or pods * copies >= stage.compute.workers
    fabric = set(spec.gpu.fabric) & set(container["resources"]["limits"])
    assert fabric == (set(spec.gpu.fabric) if per_pod and pods > 1 else set())


def test_the_papers_run_needs_only_a_storage() -> None:
    text = template("lima-train", None, "--set", f"cluster.storage.uri={STORAGE}")
    (job,) = of_kind(manifests(text), "RayJob")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    container = group["template"]["spec"]["containers"][0]
    assert (group["replicas"], container["resources"]["limits"]["nvidia.com/gpu"]) == (4, "8")
    (spec,) = of_kind(manifests(text), "ConfigMap")
    assert ids_of(spec) == [run_id(up_to(lima_65b()[0], "train"))]


def test_grace_period_grows_with_the_state_and_falls_with_the_pods() -> None:
    def grace(**cluster: Any) -> int:
        text = template("lima-train", values(**cluster))
        (job,) = of_kind(manifests(text), "RayJob")
        spec = pod_templates(job)["workers"]["spec"]
        return int(spec["terminationGracePeriodSeconds"])

    stop = {"stateGiB": 1000, "uploadMiBps": 500, "marginSeconds": 100}
    # 250 GiB a pod, on 4 pods: the state on its way, weights of a third of it, the newest state.
    assert grace(stop=stop) == 100 + 1195
    assert grace(stop=stop, gpu={"perNode": 4}) == 100 + 598
    assert grace(stop={**stop, "stateGiB": 0}) == 100


def test_model_that_no_node_holds_is_refused() -> None:
    cell = replace(
        lima_65b()[0],
        train=None,
        generate=GenerateSpec(
            prompts=lima_65b()[0].train.data,  # type: ignore[union-attr]
            compute=ComputeSpec(workers=1, gpus_per_worker=16),
        ),
    )
    said = refused("lima-generate", values([cell]))
    assert "generate.compute.gpus_per_worker is 16, but a node has 8 GPUs" in said


def test_copies_of_a_model_are_not_spread_over_pods() -> None:
    generate = replace(lima_65b()[0].generate, compute=ComputeSpec(workers=3, gpus_per_worker=4))  # type: ignore[type-var]
    cell = replace(lima_65b()[0], train=None, generate=generate)
    (job,) = of_kind(manifests(template("lima-ablation", values([cell]))), "RayJob")
    (group,) = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert (group["replicas"], group["rayStartParams"]["num-gpus"]) == (2, "8")


def test_generation_grows_and_shrinks() -> None:
    (job,) = of_kind(manifests(template("lima-generate")), "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    (group,) = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] is True
    assert (group["minReplicas"], group["replicas"], group["maxReplicas"]) == (1, 1, 4)
    # Kueue refuses autoscaling without this.
    assert job["metadata"]["annotations"]["kueue.x-k8s.io/elastic-job"] == "true"
    assert cluster["autoscalerOptions"]["securityContext"]["readOnlyRootFilesystem"] is True


def test_judging_takes_neither_gpus_nor_workers_and_only_judges() -> None:
    for job in of_kind(manifests(template("lima-judge")), "RayJob"):
        head = job["spec"]["rayClusterSpec"]["headGroupSpec"]
        assert "workerGroupSpecs" not in job["spec"]["rayClusterSpec"]
        assert head["rayStartParams"]["num-cpus"] == "1"
        assert "cpu" in head["template"]["spec"]["containers"][0]["image"]
        assert job["spec"]["entrypoint"].endswith(f"--storage '{STORAGE}' --only judge")


@pytest.mark.parametrize("model", ["endpoint:http://h/v1#m", "responses:a.json"])
def test_a_baseline_takes_neither_gpus_nor_workers(model: str) -> None:
    (cell,) = apply_overrides(
        lima_65b(), ["train=null", "judge=null", f"generate.model.path={model}"]
    )
    made = manifests(template("lima-generate", values([cell])))
    (job,) = of_kind(made, "RayJob")
    assert set(pod_templates(job)) == {"submitter", "head"}
    pods = [*pod_templates(job).values(), *of_kind(made, "Pod")]
    images = {c["image"] for pod in pods for c in pod["spec"]["containers"]}
    assert len(pods) == 3
    assert all("cpu" in image for image in images)


def images(chart: str, *settings: str, **cluster: Any) -> dict[str, str]:
    """Return the image of each role of a 65B run by a chart."""
    cells = apply_overrides(lima_65b(), settings)
    (job,) = of_kind(manifests(template(chart, values(cells, **cluster))), "RayJob")
    pods = pod_templates(job).items()
    return {role: pod["spec"]["containers"][0]["image"] for role, pod in pods}


@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_workers_that_generate_with_vllm_have_its_image(device: str) -> None:
    on = f"generate.compute.device={device}"
    image = {"registry": REGISTRY, "vllm": "vllm:7"}
    alone = ["train=null", "judge=null", "generate.model.path=s3://b/m", on]
    found = images("lima-generate", *alone, "generate.engine=vllm", image=image)
    assert found.pop("workers") == f"{REGISTRY}/vllm:7"
    assert not [name for name in found.values() if "vllm" in name]
    own = images("lima-generate", *alone, "generate.engine=transformers", image=image)
    assert "vllm" not in own["workers"]


def test_a_training_does_not_need_the_image_of_its_engine() -> None:
    assert "lima-k8s-gpu" in images("lima-train", "generate.engine=vllm")["workers"]


def test_the_image_of_an_engine_is_not_looked_for_at_docker_hub() -> None:
    cells = apply_overrides(lima_65b(), ["generate.engine=vllm"])
    whole = {"cpu": "r.example/cpu:1", "gpu": "r.example/gpu:1", "registry": ""}
    said = refused("lima-generate", values(cells, image=whole))
    assert "lima-k8s-vllm" in said
    assert "would be looked for at Docker Hub" in said


def test_topology_is_asked_of_gpu_workers_alone() -> None:
    eks = ["--values", str(profile("eks-p5"))]
    (job,) = of_kind(manifests(template("lima-train", None, *eks)), "RayJob")
    asked = {
        role: [a for a in pod["metadata"].get("annotations", {}) if "topology" in a]
        for role, pod in pod_templates(job).items()
    }
    assert asked == {
        "submitter": [],
        "head": [],
        "workers": ["kueue.x-k8s.io/podset-preferred-topology"],
    }
    onprem = ["--values", str(profile("onprem-h100-ib"))]
    (job,) = of_kind(manifests(template("lima-train", None, *onprem)), "RayJob")
    annotations = pod_templates(job)["workers"]["metadata"]["annotations"]
    assert annotations["kueue.x-k8s.io/podset-required-topology"] == "topology.lima-k8s.io/pod"
    # One pod needs no place beside another, but a flavor with a topology takes only who asks.
    for job in of_kind(manifests(template("lima-ablation", None, *eks)), "RayJob"):
        annotations = pod_templates(job)["workers"]["metadata"]["annotations"]
        assert annotations["kueue.x-k8s.io/podset-unconstrained-topology"] == "true"


@pytest.mark.parametrize("arm", ARMS)
def test_any_arm_makes_a_name_and_reads_back(arm: str) -> None:
    cell = replace(tiny()[0], arm=arm[:100], experiment=arm[:100], seed=2**31 - 1)
    documents = manifests(template("lima-ablation", values([cell])))
    (job,), (spec,) = of_kind(documents, "RayJob"), of_kind(documents, "ConfigMap")
    check_names(job, spec, "ablation")
    assert ids_of(spec) == [run_id(cell)]
    for document in (job, spec, pod_templates(job)["workers"]):
        annotations = document["metadata"]["annotations"]
        assert annotations["lima-k8s.io/arm"] == annotations["lima-k8s.io/experiment"] == cell.arm
        assert annotations["lima-k8s.io/seed"] == str(cell.seed)


def test_numbers_survive_and_name_the_run_however_they_are_given() -> None:
    cell = tiny()[0]
    assert cell.train
    assert cell.base
    optimizer = replace(cell.train.optimizer, lr_start=1e-05, lr_end=3e-07, eps=1e-8)
    train = replace(cell.train, optimizer=optimizer, max_length=2048, batch_size=1_000_000_007)
    cell = replace(cell, seed=2**31 - 1, train=train)
    runs = [encode(cell)]
    as_file = template("lima-train", values([cell]))
    as_text = json.dumps(runs).replace("3e-07", "0.0000003").replace("1e-05", "10E-6")
    as_flag = template("lima-train", None, "--set-json", f"runs={as_text}")
    names = set()
    for text in (as_file, as_flag):
        documents = manifests(text)
        (spec,) = of_kind(documents, "ConfigMap")
        assert ids_of(spec) == [run_id(cell)]
        assert "e+" not in spec["data"]["specs.json"]
        names.add(spec["metadata"]["name"])
    assert len(names) == 1


def test_what_show_writes_are_values() -> None:
    shown = CliRunner().invoke(cli, ["show", "tiny"])
    assert shown.exit_code == 0
    document = yaml.safe_load(shown.stdout)
    text = template("lima-train", {**values(), **document})
    assert [ids_of(s)[0] for s in of_kind(manifests(text), "ConfigMap")] == [
        run_id(cell) for cell in tiny()
    ]


def test_name_depends_on_run_and_storage_and_not_on_the_release() -> None:
    cells = tiny()

    def names(release: str = "release", **cluster: Any) -> list[str]:
        text = template("lima-train", values(cells, **cluster), release=release)
        jobs = of_kind(manifests(text), "RayJob")
        return [job["metadata"]["name"] for job in jobs]

    first = names()
    assert len(set(first)) == len(cells)
    assert names("another") == first
    assert names(queue="other", retries=1) == first
    assert set(names(storage={"uri": "s3://elsewhere"})).isdisjoint(first)
    changed = [replace(c, train=replace(c.train, epochs=7)) for c in cells]  # type: ignore[type-var]
    jobs = of_kind(manifests(template("lima-train", values(changed))), "RayJob")
    assert {job["metadata"]["name"] for job in jobs}.isdisjoint(first)


def test_refusals_say_what_to_do() -> None:
    cell = encode(tiny()[0])
    unset = refused("lima-train", None)
    assert "add --set cluster.storage.uri=s3://BUCKET/PREFIX" in unset
    assert "runs is empty" in refused("lima-train", {**values(), "runs": []})
    twice = refused("lima-train", {**values(), "runs": [cell, cell]})
    assert "runs[1] is the same run as runs[0]" in twice
    assert "url" in refused("lima-train", values(storage={"url": "s3://b"}))
    assert "quue" in refused("lima-train", values(quue="x"))
    wrong = {**cell, "seed": "one"}
    assert "seed" in refused("lima-train", {**values(), "runs": [wrong]})
    assert "uri" in refused("lima-train", values(storage={"uri": "/a/folder"}))


def test_restricted_check_sees_each_violation() -> None:
    """The check above must be able to fail."""
    (job,) = of_kind(manifests(template("lima-train")), "RayJob")
    pod = pod_templates(job)["head"]["spec"]
    (container,) = pod["containers"]
    own = container["securityContext"]
    broken = {
        "privileged": {**own, "privileged": True},
        "privilege escalation": {**own, "allowPrivilegeEscalation": True},
        "root": {**own, "runAsNonRoot": False},
        "seccomp": {**own, "seccompProfile": {"type": "Unconfined"}},
        "capabilities": {**own, "capabilities": {"drop": ["ALL"], "add": ["IPC_LOCK"]}},
        "writable root": {**own, "readOnlyRootFilesystem": False},
    }
    for problem, context in broken.items():
        changed = {**pod, "containers": [{**container, "securityContext": context}]}
        assert violations(changed) == [f"ray-head: {problem}"]
    host = {**pod, "hostNetwork": True, "volumes": [{"name": "x", "hostPath": {"path": "/"}}]}
    assert violations(host) == ["hostNetwork is set", "volume of type hostPath"]
