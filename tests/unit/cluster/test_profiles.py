"""What a cluster's profile says that cannot work, and what `lint --cluster` renders with it."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.errors import InputError
from lima.recipes.curation import curate_lima
from lima.recipes.demo import tiny
from lima.recipes.paper import ablations_7b, lima_65b
from lima.spec import CellSpec
from lima_k8s.cluster.rules.study import cluster_findings
from lima_k8s.cluster.submit.helm import Helm
from lima_k8s.cluster.submit.launch import Target, prepare
from lima_k8s.main import run
from lima_k8s.profile.assets import profiles, read_profile
from lima_k8s.profile.cluster_spec import cluster_spec, load_cluster
from lima_k8s.profile.kinds import kinds_of
from tests.charts.tools import helm_on_path

__all__ = ["helm_on_path"]
pytestmark = pytest.mark.usefixtures("helm_on_path")

URI = "s3://bucket/study"
NAMED = {"secretName": "keys"}
IMAGE = {"registry": "registry.example.com"}
RIGHTS = "cluster.storage.secretName"


@pytest.mark.parametrize("name", profiles())
def test_a_profile_that_ships_lacks_only_what_is_its_users_own(name: str) -> None:
    found = cluster_findings(load_cluster(name))
    lacking = [RIGHTS] if name == "cpu-test" else ["cluster.image.registry", RIGHTS]
    assert [(f.level, f.path) for f in found] == [("warning", path) for path in lacking]


@pytest.mark.parametrize(
    ("values", "path", "said"),
    [
        (
            {"topology": {"levels": ["pod", "rack"], "level": "row"}},
            "cluster.topology.level",
            "'row' is not among cluster.topology.levels, which are pod, rack",
        ),
        ({"topology": {"level": "row"}}, "cluster.topology.level", "which are empty"),
        (
            {"head": {"memoryGiB": 16, "sharedMemoryGiB": 20}},
            "cluster.head.sharedMemoryGiB",
            "20 GiB are part of 16 GiB of memory",
        ),
        ({"cpu": {"worker": {"sharedMemoryGiB": 8.5}}}, "cluster.cpu.worker.sharedMemoryGiB", ""),
        ({"gpu": {"worker": {"memoryGiB": 40}}}, "cluster.gpu.worker.sharedMemoryGiB", "50 GiB"),
    ],
)
def test_what_no_pod_can_have_is_an_error(
    values: dict[str, Any], path: str, said: str, tmp_path: Path
) -> None:
    values = {"storage": NAMED, "image": IMAGE, **values}
    [finding] = cluster_findings(cluster_spec(values))
    assert (finding.level, finding.path) == ("error", path)
    assert said in finding.message
    with pytest.raises(InputError, match=path):
        prepare("ablation", tiny(), Target(profile=_profile(tmp_path, values), storage=URI))


@pytest.mark.parametrize(
    "values",
    [
        {"topology": {"levels": ["pod", "rack"], "level": "rack"}},
        {"topology": {"levels": ["pod", "rack"]}},
        {"head": {"memoryGiB": 16, "sharedMemoryGiB": 16}},
    ],
)
def test_what_a_pod_can_have_is_none(values: dict[str, Any]) -> None:
    assert cluster_findings(cluster_spec({"storage": NAMED, "image": IMAGE, **values})) == []


@pytest.mark.parametrize(
    ("values", "warned"),
    [
        ({}, True),
        ({"storage": {"uri": "s3://bucket"}}, True),
        ({"storage": {"uri": "gs://bucket"}, "secrets": ["lima-storage"]}, False),
        ({"storage": {"uri": "s3://bucket", "secretName": "keys"}}, False),
        ({"storage": {"uri": "gs://bucket"}, "serviceAccount": "default"}, False),
        ({"storage": {"uri": "file://localhost/mnt"}}, False),
    ],
)
def test_a_storage_that_nothing_opens_is_a_warning(values: dict[str, Any], warned: bool) -> None:
    found = cluster_findings(cluster_spec({"image": IMAGE, **values}))
    assert [(f.level, f.path) for f in found] == [("warning", RIGHTS)] * warned


def test_submit_warns_too(capsys: pytest.CaptureFixture[str]) -> None:
    prepare("ablation", tiny(), Target(profile="cpu-test", storage=URI))
    assert f"warning: {RIGHTS}: neither a Secret nor a service acc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("cells", "kinds"),
    [
        (lima_65b(), ["train", "ablation", "generate"]),
        (ablations_7b(), ["train", "ablation", "generate", "judge"]),
        (tiny(), ["train", "ablation", "generate"]),
        (curate_lima(), ["curate"]),
    ],
)
def test_what_a_study_can_be_submitted_as(cells: tuple[CellSpec, ...], kinds: list[str]) -> None:
    found = kinds_of(cells)
    assert list(found) == kinds
    assert all(len(part) == len(cells) for part in found.values())
    assert not any(cell.generate or cell.judge for cell in found.get("train", ()))


def test_lint_renders_what_submit_would_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each chart, with its own defaults: only lima-generate scales by itself."""
    rendered: dict[str, list[str]] = {}
    template = Helm.template

    def kept(helm: Helm, release: str, chart: Path, values: dict[str, Any]) -> str:
        text = template(helm, release, chart, values)
        rendered.setdefault(chart.name, []).append(text)
        return text

    monkeypatch.setattr(Helm, "template", kept)
    profile = _profile(
        tmp_path, {"storage": {"uri": f"{URI}/", **NAMED}, "image": IMAGE, "rayVersion": "2.51.0"}
    )
    assert run(["lint", "lima_65b", "--cluster", profile, "--format", "json"]) == 2
    linted, told = dict(rendered), json.loads(capsys.readouterr().out)["findings"]
    assert list(linted) == ["lima-train", "lima-ablation", "lima-generate"]
    scales = [name for name, [text] in linted.items() if "enableInTreeAutoscaling: true" in text]
    assert scales == ["lima-generate"]
    # What is wrong in three charts is told once, of the first run that has it.
    errors = sorted(f["path"].partition(": ")[0] for f in told if f["level"] == "error")
    assert errors == ["lima-train, lima-ablation, lima-generate"]
    for kind in ("train", "ablation", "generate"):
        rendered.clear()
        asked = ["submit", kind, "--recipe", "lima_65b", "--cluster", profile]
        assert run([*asked, "--dry-run", "-n", "lima"]) == 0
        assert rendered == {f"lima-{kind}": linted[f"lima-{kind}"]}


def test_lint_looks_at_the_profile_before_it_renders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    profile = _profile(tmp_path, {**read_profile("gke-a3"), "storage": NAMED})
    assert run(["lint", "tiny", "--cluster", profile]) == 0
    capsys.readouterr()
    values = {"topology": {"levels": ["rack"], "level": "pod"}, "storage": NAMED}
    monkeypatch.setenv("PATH", "/var/empty")
    assert run(["lint", "tiny", "--cluster", _profile(tmp_path, values)]) == 2
    assert "error    cluster.topology.level: 'pod' is not among" in capsys.readouterr().out


def _profile(folder: Path, values: dict[str, Any]) -> str:
    file = folder / "mine.yaml"
    file.write_text(yaml.safe_dump({"cluster": values}))
    return str(file)
