"""What the charts have from Python is what Python says today."""

import re
from pathlib import Path

import pytest
import yaml

from lima import __version__
from lima.errors import InputError, SpecError
from lima.recipes.paper import lima_65b
from lima.spec import ComputeSpec, ModelSpec
from lima.spec.codec import encode
from lima.training.sizing.state_size import model_parameters, shape_parameters, state_gib
from lima_k8s.codegen.charts import render
from lima_k8s.profile.assets import chart, profile, profiles, read_profile
from lima_k8s.profile.cluster_spec import RAY_VERSION, cluster_spec, cluster_values, load_cluster
from lima_k8s.profile.kinds import CHARTS
from tests.charts.tools import ROOT


@pytest.mark.parametrize("path", sorted(render()))
def test_file_is_made_from_the_code(path: str) -> None:
    assert (ROOT / "charts" / path).read_text("utf-8") == render()[path], "run `make charts`"


def test_helm_docs_finds_every_description() -> None:
    """It splits a comment at its last blank with two hyphens."""
    values = "".join(text for path, text in render().items() if path.endswith("values.yaml"))
    told = re.findall(r"# -- (.*)", values)
    assert told
    assert [description for description in told if " --" in description] == []


@pytest.mark.parametrize("name", ["lima-common", "lima-queue", *CHARTS.values()])
def test_versions_of_charts_are_that_of_the_package(name: str) -> None:
    document = yaml.safe_load((ROOT / "charts" / name / "Chart.yaml").read_text("utf-8"))
    named = [document["version"], document["appVersion"]]
    named += [dependency["version"] for dependency in document.get("dependencies", [])]
    assert set(named) == {__version__}


def test_ray_version_is_the_locked_one() -> None:
    lock = (ROOT / "requirements" / "jobs.lock.txt").read_text("utf-8")
    locked = re.search(r"^ray(?:\[[^]]*\])?==([0-9.]+)", lock, re.MULTILINE)
    assert locked
    assert locked[1] == RAY_VERSION


def test_every_chart_is_found() -> None:
    assert all((chart(name) / "Chart.yaml").is_file() for name in CHARTS.values())
    with pytest.raises(InputError, match="did you mean 'lima-train'"):
        chart("lima-trian")


def test_every_profile_is_a_cluster() -> None:
    assert set(profiles()) == {"eks-p5", "gke-a3", "aks-nd", "onprem-h100-ib", "cpu-test"}
    for name in profiles():
        topology = load_cluster(name).topology
        assert not topology.level or topology.level in topology.levels


def test_unknown_profile_and_unknown_key_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'eks-p5'"):
        profile("eks-p4")
    own = tmp_path / "own.yaml"
    own.write_text("cluster: {gpu: {perNodes: 4}}")
    with pytest.raises(SpecError, match=r"gpu: unknown key 'perNodes'; did you mean 'perNode'"):
        load_cluster(str(own))
    own.write_text("gpu: {}")
    with pytest.raises(InputError, match="expected a mapping `cluster:`"):
        read_profile(str(own))


def test_profile_is_merged_over_defaults_and_under_overrides() -> None:
    cluster = load_cluster("cpu-test", {"cpu": {"workersPerPod": 1}, "queue": "other"})
    assert cluster.cpu.workersPerPod == 1
    assert cluster.cpu.worker.memoryGiB == 1.25  # of the profile
    assert cluster.retries == cluster_spec({}).retries  # of the defaults
    assert cluster.queue == "other"
    # What Helm gets is only what differs.
    assert cluster_values(None, {"queue": "other"}) == {"queue": "other"}


def test_cluster_refuses_what_no_cluster_has() -> None:
    for wrong, said in (
        ({"gpu": {"fabric": {"efa": 32}}}, "cluster.gpu.fabric: expected mapping of text"),
        ({"storage": {"uri": "s3://b/a b"}}, "cluster.storage.uri: expected text matching"),
        ({"gpu": {"worker": {"cpu": -1}}}, "cluster.gpu.worker.cpu: expected number >= 0.001"),
    ):
        with pytest.raises(SpecError, match=re.escape(said)):
            cluster_spec(wrong)


def test_size_of_the_state_by_name_shape_and_gpus() -> None:
    from dataclasses import replace

    from lima.recipes.demo import tiny
    from lima.training.sizing.state_size import GPU_BYTES

    (cell,) = lima_65b()
    assert cell.train
    assert state_gib(cell) == pytest.approx(65e9 * 12 / 2**30, abs=0.1)
    unknown = replace(cell.train, model=ModelSpec("s3://bucket/model"))
    assert state_gib(replace(cell, train=unknown)) == 32 * GPU_BYTES / 2**30
    on_cpu = replace(unknown, compute=ComputeSpec(device="cpu", precision="fp32"))
    assert state_gib(replace(cell, train=on_cpu)) == 0
    assert state_gib(replace(cell, train=None)) == 0
    shape = encode(tiny()[0])["base"]["model"]["shape"]
    assert shape["hidden_size"] == 128
    assert model_parameters(ModelSpec("huggyllama/llama-7b")) == 7e9
    assert model_parameters(ModelSpec("models/blob-3beta")) is None


def test_parameters_of_a_shape_are_those_of_transformers() -> None:
    from lima.model.loading import scratch_model
    from lima.recipes.demo import TINY_BASE

    shape = TINY_BASE.model.shape
    assert shape
    model = scratch_model(shape, shape.vocab_size)
    assert shape_parameters(shape) == sum(p.numel() for p in model.parameters())
