"""What KubeRay and Kueue refuse is found offline; what they take passes."""

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.recipes.paper import ablations_7b, lima_65b
from lima.spec import ComputeSpec, JudgeSpec
from lima_k8s.cluster.rules.manifests import manifest_findings
from lima_k8s.cluster.rules.study import cell_findings
from lima_k8s.main import run
from lima_k8s.profile.cluster_spec import ClusterSpec, ImageSpec, StorageSpec

Raw = dict[str, Any]
GROUP: Raw = {
    "groupName": "workers",
    "replicas": 2,
    "minReplicas": 2,
    "maxReplicas": 2,
    "template": {"spec": {"containers": [{"name": "ray-worker"}]}},
}
RAYJOB: Raw = {
    "kind": "RayJob",
    "metadata": {"name": "a-s0-12345678", "labels": {"kueue.x-k8s.io/queue-name": "lima"}},
    "spec": {
        "submissionMode": "K8sJobMode",
        "shutdownAfterJobFinishes": True,
        "rayClusterSpec": {
            "rayVersion": "2.60.0",
            "authOptions": {"mode": "token"},
            "headGroupSpec": {
                "rayStartParams": {"num-gpus": "0"},
                "template": {"spec": {"containers": [{"name": "ray-head"}]}},
            },
            "workerGroupSpecs": [GROUP],
        },
    },
}


def changed(change: Callable[[Raw], object]) -> Raw:
    raw = copy.deepcopy(RAYJOB)
    change(raw)
    return raw


def cluster(raw: Raw) -> Raw:
    found: Raw = raw["spec"]["rayClusterSpec"]
    return found


def head(raw: Raw) -> Raw:
    found: Raw = cluster(raw)["headGroupSpec"]
    return found


def group(raw: Raw) -> Raw:
    found: Raw = cluster(raw)["workerGroupSpecs"][0]
    return found


def test_a_good_rayjob_passes() -> None:
    assert manifest_findings([RAYJOB, {"kind": "Service", "metadata": {"name": "s"}}]) == []


@pytest.mark.parametrize(
    ("change", "level", "path"),
    [
        (lambda r: r["metadata"].update(name="a" * 48), "error", "metadata.name"),
        (lambda r: r["metadata"].update(name="1-s0"), "error", "metadata.name"),
        (lambda r: r["metadata"].update(name="A-s0"), "error", "metadata.name"),
        (lambda r: r["metadata"].pop("labels"), "warning", "queue-name"),
        (lambda r: r["metadata"]["labels"].update(x="ü"), "error", "metadata.labels.x"),
        (lambda r: r["metadata"]["labels"].update(x="y" * 64), "error", "metadata.labels.x"),
        (lambda r: r["metadata"].update(annotations={"x": "y" * 2**19}), "error", "annotations"),
        (lambda r: r["spec"].pop("shutdownAfterJobFinishes"), "error", "shutdownAfterJobFinishes"),
        (lambda r: r["spec"].update(clusterSelector={"a": "b"}), "error", "spec.rayClusterSpec"),
        (lambda r: r["spec"].pop("rayClusterSpec"), "error", "spec.rayClusterSpec"),
        (lambda r: r["spec"].update(submissionMode="SidecarMode"), "error", ".submissionMode"),
        (lambda r: r["spec"].update(ttlSecondsAfterFinished=60), "warning", "AfterFinished"),
        (lambda r: r["spec"].update(activeDeadlineSeconds=0), "error", "activeDeadlineSeconds"),
        (lambda r: r["spec"].update(activeDeadlineSeconds=9), "note", "activeDeadlineSeconds"),
        (lambda r: cluster(r).update(rayVersion="2.51.0"), "error", ".rayVersion"),
        (
            lambda r: cluster(r).update(enableInTreeAutoscaling=True),
            "error",
            "spec.rayClusterSpec.enableInTreeAutoscaling",
        ),
        (lambda r: head(r)["rayStartParams"].update({"num-gpus": "1"}), "warning", ".num-gpus"),
        (lambda r: head(r).pop("template"), "error", "headGroupSpec.template"),
        (lambda r: group(r).update(groupName="head"), "error", "[0].groupName"),
        (lambda r: group(r).update(groupName="submitter"), "error", "[0].groupName"),
        (lambda r: group(r).pop("minReplicas"), "error", "[0]"),
        (lambda r: group(r).update(minReplicas=3), "error", "[0]"),
        (lambda r: group(r).update(replicas=3), "error", "[0].replicas"),
        (lambda r: group(r)["template"]["spec"].update(containers=[]), "error", "[0].template"),
        (
            lambda r: cluster(r).update(
                workerGroupSpecs=[{**GROUP, "groupName": f"g{i}"} for i in range(17)]
            ),
            "error",
            "workerGroupSpecs",
        ),
    ],
)
def test_a_bad_rayjob_is_found(change: Callable[[Raw], object], level: str, path: str) -> None:
    found = manifest_findings([changed(change)])
    assert any(f.level == level and f.path.endswith(path) for f in found), found
    assert all(f.path.startswith("RayJob/") for f in found)


def test_sixteen_groups_are_the_most() -> None:
    groups = [{**GROUP, "groupName": f"g{i}"} for i in range(16)]
    assert manifest_findings([changed(lambda r: cluster(r).update(workerGroupSpecs=groups))]) == []


def test_two_groups_of_one_name_are_found_twice() -> None:
    raw = changed(lambda r: cluster(r).update(workerGroupSpecs=[GROUP, GROUP]))
    assert [f.path.rpartition("[")[2] for f in manifest_findings([raw])] == [
        "0].groupName",
        "1].groupName",
    ]


def test_an_elastic_job_may_scale() -> None:
    def scale(raw: Raw) -> None:
        raw["metadata"]["annotations"] = {"kueue.x-k8s.io/elastic-job": "true"}
        cluster(raw)["enableInTreeAutoscaling"] = True
        group(raw).update(minReplicas=0)

    assert manifest_findings([changed(scale)]) == []


@pytest.mark.parametrize(
    ("toleration", "passes"),
    [
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "lima-k8s.io/flavor", "operator": "Exists"}, True),
        ({"key": "lima-k8s.io/flavor", "value": "h100", "effect": "NoSchedule"}, True),
        ({"operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "team", "operator": "Exists"}, False),
    ],
)
def test_pods_without_gpus_do_not_pass_the_mark_of_their_flavors(
    toleration: Raw, *, passes: bool
) -> None:
    def add(raw: Raw) -> None:
        devices = {"resources": {"limits": {"nvidia.com/mig-3g.40gb": 1}}}
        with_gpu = {"containers": [{"name": "ray-worker", **devices}], "tolerations": [toleration]}
        group(raw)["template"] = {"spec": with_gpu}
        head(raw)["template"]["spec"]["tolerations"] = [{"key": "other"}, toleration]

    found = [(f.level, f.path.rpartition(".")[2]) for f in manifest_findings([changed(add)])]
    assert found == ([("warning", "tolerations[1]")] if passes else [])


def test_a_config_map_has_its_limit() -> None:
    raw = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"specs.json": "x" * 2**20}}
    assert manifest_findings([raw]) == []
    raw["data"] = {"specs.json": "x" * (2**20 + 1)}
    assert [f.path for f in manifest_findings([raw])] == ["ConfigMap/c: data"]


def test_a_worker_must_fit_a_node() -> None:
    [cell] = lima_65b()
    assert cell.generate
    wide = replace(cell.generate, compute=ComputeSpec(workers=1, gpus_per_worker=16))
    found = cell_findings([replace(cell, generate=wide)], ClusterSpec())
    assert [f.path for f in found if f.level == "error"] == ["generate.compute.gpus_per_worker"]


def test_the_image_of_an_engine_is_looked_at_where_it_is_used() -> None:
    [by_vllm] = lima_65b()
    assert by_vllm.generate
    cell = replace(by_vllm, generate=replace(by_vllm.generate, engine="transformers"))
    for image, warned in ((ImageSpec(), True), (ImageSpec(vllm="r.example/vllm:1"), False)):
        found = cell_findings([by_vllm], ClusterSpec(image=image))
        assert ("lima-k8s-vllm" in " ".join(f.message for f in found)) == warned
    assert not [f for f in cell_findings([cell], ClusterSpec()) if "image" in f.path]


def test_gpus_that_fill_no_node_are_a_warning() -> None:
    cells = [
        replace(c, train=replace(c.train, compute=ComputeSpec(workers=12)))
        for c in ablations_7b()[:2]
        if c.train
    ]
    cluster = ClusterSpec(secrets=("judge-key",), image=ImageSpec(registry="r.example"))
    [warning] = [f for f in cell_findings(cells, cluster) if f.level == "warning"]
    assert warning.path == "train.compute.workers"
    assert len(warning.runs) == 2


@pytest.mark.parametrize(
    ("url", "cluster", "warned"),
    [
        ("https://api.openai.com/v1", ClusterSpec(), True),
        ("https://api.openai.com/v1", ClusterSpec(secrets=("judge-key",)), False),
        ("https://api.openai.com/v1", ClusterSpec(storage=StorageSpec(secretName="all")), False),
        ("http://judge.models.svc:8000/v1", ClusterSpec(), False),
        ("http://judge:8000/v1", ClusterSpec(), False),
        ("http://judge.models/v1", ClusterSpec(), False),
        ("http://host:99999/v1", ClusterSpec(), False),
        ("http://10.0.0.7/v1", ClusterSpec(), False),
    ],
)
def test_a_key_that_no_secret_can_hold_is_a_warning(
    url: str, cluster: ClusterSpec, warned: bool
) -> None:
    cells = [replace(cell, judge=JudgeSpec(base_url=url)) for cell in ablations_7b()]
    found = [f for f in cell_findings(cells, cluster) if f.path == "judge.api_key_env"]
    assert [f.level for f in found] == ["warning"] * warned
    assert all("could hold OPENAI_API_KEY" in f.message for f in found)


def test_files_below_the_storage_are_named() -> None:
    found = cell_findings(lima_65b(), ClusterSpec(image=ImageSpec(registry="r.example")))
    assert {f.path for f in found} == {
        "train.data.path",
        "train.heldout.path",
        "generate.prompts.path",
        "cluster.stop.uploadMiBps",
    }


def test_lint_judges_a_file_of_manifests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(yaml.safe_dump_all([RAYJOB]))
    assert run(["lint", str(file)]) == 0
    file.write_text(yaml.safe_dump_all([changed(lambda r: group(r).update(groupName="head"))]))
    assert run(["lint", str(file)]) == 2
    assert "'head' is taken" in capsys.readouterr().out
    file.write_text("kind: RayJob\n\t}")
    assert run(["lint", str(file)]) == 2
    assert "not YAML" in capsys.readouterr().err
