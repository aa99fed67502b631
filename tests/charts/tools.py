"""Helm and its helpers as the tests call them."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lima.spec import CellSpec
from lima.spec.codec import encode
from lima_k8s.terminal.output import yaml_text

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".cache" / "bin"
STORAGE = "s3://bucket/prefix"
REGISTRY = "registry.example.com/team"
Manifest = dict[str, Any]


def program(name: str) -> str:
    """Return the path of a pinned program; without it the test is skipped."""
    path = BIN / name
    if not path.exists():
        pytest.skip(f"{name} is not built; run `make chart-tools`")
    return str(path)


@pytest.fixture
def helm_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the Helm that `make test` builds on PATH."""
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")


def call(name: str, *arguments: str | Path, text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a pinned program, with secrets in its environment that must show up nowhere."""
    environment = {**os.environ, "AWS_SECRET_ACCESS_KEY": SECRET, "OPENAI_API_KEY": SECRET}
    return subprocess.run(
        [program(name), *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )


SECRET = "hush-4711"


def values(cells: Iterable[CellSpec] | None = None, **cluster: Any) -> dict[str, Any]:
    """Return values for a chart of runs."""
    defaults = {"storage": {"uri": STORAGE}, "image": {"registry": REGISTRY}}
    document: dict[str, Any] = {"cluster": {**defaults, **cluster}}
    if cells is not None:
        document["runs"] = [encode(cell) for cell in cells]
    return document


def template(
    chart: str | Path,
    document: Mapping[str, Any] | None = None,
    *arguments: str | Path,
    release: str = "",
) -> str:
    """Return what `helm template` writes."""
    path = chart if isinstance(chart, Path) else ROOT / "charts" / chart
    # lima-queue makes the namespace of the runs, so it is installed from another one.
    platform = path.name.startswith("lima-queue")
    namespace = "platform" if platform else "lima"
    release = release or ("lima-queue" if platform else "release")
    result = call(
        "helm",
        "template",
        release,
        path,
        "-n",
        namespace,
        "-f",
        "-",
        *arguments,
        text=yaml_text(document or values()),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def refused(chart: str, document: Mapping[str, Any] | None, *arguments: str) -> str:
    """Return the message with which a chart refuses values."""
    path = ROOT / "charts" / chart
    given = ["-f", "-"] if document is not None else []
    result = call(
        "helm", "template", "release", path, *given, *arguments, text=yaml_text(document or {})
    )
    assert result.returncode != 0, f"accepted: {result.stdout[:500]}"
    return result.stderr


def manifests(text: str) -> list[Manifest]:
    """Return the documents of a YAML stream."""
    return [document for document in yaml.load_all(text, yaml.CSafeLoader) if document]


def of_kind(documents: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Return the documents of one kind."""
    return [document for document in documents if document["kind"] == kind]


def pod_templates(job: Manifest) -> dict[str, Manifest]:
    """Return the pod templates of a RayJob by the role of their pods."""
    cluster = job["spec"]["rayClusterSpec"]
    workers = {g["groupName"]: g["template"] for g in cluster.get("workerGroupSpecs", [])}
    return {
        "submitter": job["spec"]["submitterPodTemplate"],
        "head": cluster["headGroupSpec"]["template"],
        **workers,
    }
