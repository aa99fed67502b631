"""Charts from a package and from a wheel, helm's own checks, and the suites of helm-unittest."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lima_k8s.profile.kinds import CHARTS
from tests.charts.tools import ROOT, STORAGE, call, manifests, program, template, values

INSTALLED = ["lima-queue", *CHARTS.values()]


@pytest.mark.parametrize("chart", ["lima-common", *INSTALLED])
def test_helm_lint(chart: str) -> None:
    result = call(
        "helm",
        "lint",
        "--strict",
        ROOT / "charts" / chart,
        "--set",
        f"cluster.storage.uri={STORAGE}",
    )
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("chart", INSTALLED)
def test_package_renders_what_the_folder_does(chart: str, tmp_path: Path) -> None:
    result = call("helm", "package", ROOT / "charts" / chart, "--destination", tmp_path)
    assert result.returncode == 0, result.stderr
    (package,) = tmp_path.glob("*.tgz")
    document = {} if chart == "lima-queue" else values()
    assert manifests(template(package, document)) == manifests(template(chart, document))


def test_wheel_holds_charts_that_render(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    package = tmp_path / "site" / "lima_k8s"
    assert (package / "clusters" / "eks-p5.yaml").is_file()
    for chart in INSTALLED:
        document = {} if chart == "lima-queue" else values()
        shipped = template(package / "charts" / chart, document)
        assert manifests(shipped) == manifests(template(chart, document))


@pytest.mark.parametrize("chart", INSTALLED)
def test_suites_of_helm_unittest(chart: str) -> None:
    suites = Path("..") / ".." / "tests" / "charts" / "suites" / chart / "*_test.yaml"
    result = subprocess.run(
        [program("helm-unittest"), "--strict", "--file", str(suites), "."],
        cwd=ROOT / "charts" / chart,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^Tests: +[1-9]\d* passed", result.stdout, re.MULTILINE)


def test_readmes_are_made_by_helm_docs() -> None:
    result = subprocess.run(
        [
            program("helm-docs"),
            "--chart-search-root",
            "charts",
            "--dry-run",
            "--template-files",
            "./README.md.gotmpl",
            "--sort-values-order",
            "file",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    for chart in INSTALLED:
        assert (ROOT / "charts" / chart / "README.md").read_text("utf-8").strip() in result.stdout
    assert result.stdout.count("Made by `make charts`") == len(INSTALLED)
