"""What `make dist` writes: the same bytes each time, and all of it of use."""

import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from lima import __version__
from lima_k8s.profile.cluster_spec import ClusterSpec
from lima_k8s.profile.kinds import CHARTS
from lima_k8s.terminal.output import yaml_text
from tests.charts.tools import ROOT, call, manifests, program, template, values
from tests.helpers.web.serving import serving
from tests.release.conftest import make_dist
from tests.unit.project.test_requirements import names

LOCKS = ("cli", "jobs", "vllm")
INSTALLED = ["lima-queue", *CHARTS.values()]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_builds_are_equal(dist: Path, tmp_path: Path) -> None:
    again = make_dist(tmp_path / "again", TZ="Asia/Kathmandu", PYTHONHASHSEED="7", LC_ALL="C")
    first, second = contents(dist), contents(again)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


def test_all_files_are_there_and_in_the_sums(dist: Path) -> None:
    found = contents(dist)
    expected = {
        f"lima_k8s-{__version__}-py3-none-any.whl",
        f"lima_k8s-{__version__}.tar.gz",
        *(f"lima-k8s-{__version__}-{lock}.cdx.json" for lock in LOCKS),
        f"kubectl-lima-{__version__}.tar.gz",
        "lima.yaml",
        "charts/index.yaml",
        *(f"charts/{chart}-{__version__}.tgz" for chart in INSTALLED),
    }
    assert found.keys() == expected | {"SHA256SUMS"}
    lines = found["SHA256SUMS"].decode().splitlines()
    sums = {name: digest for digest, name in (line.split("  ") for line in lines)}
    assert sums == {name: hashlib.sha256(found[name]).hexdigest() for name in expected}


def test_the_sdist_builds_the_same_wheel(dist: Path, wheel: Path, tmp_path: Path) -> None:
    (sdist,) = dist.glob("lima_k8s-*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
        made = int(archive.getmembers()[0].mtime)
    (tree,) = tmp_path.iterdir()
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "out")],
        cwd=tree,
        env={**os.environ, "SOURCE_DATE_EPOCH": str(made)},
        check=True,
        capture_output=True,
    )
    assert (tmp_path / "out" / wheel.name).read_bytes() == wheel.read_bytes()


@pytest.mark.parametrize("chart", INSTALLED)
def test_a_packaged_chart_installs(dist: Path, chart: str) -> None:
    package = dist / "charts" / f"{chart}-{__version__}.tgz"
    document = {"queue": {"namespace": "runs"}} if chart == "lima-queue" else values()
    assert manifests(template(package, document)) == manifests(template(chart, document))
    done = call(
        "helm",
        "install",
        chart,
        package,
        "--dry-run=client",
        "-n",
        "lima",
        "-f",
        "-",
        text=yaml_text(document),
    )
    assert done.returncode == 0, done.stderr
    assert "STATUS: pending-install" in done.stdout


@pytest.fixture
def repository(dist: Path) -> Iterator[str]:
    """Serve the charts as a chart repository; yield its URL."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(dist / "charts"))
    with serving(ThreadingHTTPServer(("127.0.0.1", 0), handler)) as server:
        yield f"http://127.0.0.1:{server.server_address[1]}"


def test_helm_takes_the_charts_from_their_index(repository: str) -> None:
    for chart in INSTALLED:
        shown = call("helm", "show", "chart", chart, "--repo", repository)
        assert shown.returncode == 0, shown.stderr
        assert yaml.safe_load(shown.stdout)["version"] == __version__


@pytest.mark.parametrize("lock", LOCKS)
def test_the_bill_of_materials_names_what_is_locked(dist: Path, lock: str) -> None:
    document = json.loads((dist / f"lima-k8s-{__version__}-{lock}.cdx.json").read_text("utf-8"))
    assert document["bomFormat"] == "CycloneDX"
    assert document["metadata"]["component"]["version"] == __version__
    assert {c["name"] for c in document["components"]} == names(f"{lock}.lock.txt")
    for component in document["components"]:
        (source,) = component["externalReferences"]
        assert source["hashes"], component["name"]


def test_krew_installs_the_plugin(dist: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "KREW_ROOT": str(tmp_path), "HOME": str(tmp_path)}
    archive = dist / f"kubectl-lima-{__version__}.tar.gz"
    done = subprocess.run(
        [program("krew"), "install", f"--manifest={dist / 'lima.yaml'}", f"--archive={archive}"],
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    plugin = tmp_path / "bin" / "kubectl-lima"
    beside = str(Path(sys.executable).parent)
    for first, code, out in [(beside, 0, f"lima-k8s {__version__}\n"), ("/nowhere", 2, "")]:
        path = os.pathsep.join([first, "/usr/bin", "/bin"])
        ran = subprocess.run(
            [plugin, "--version"], env={"PATH": path}, check=False, capture_output=True, text=True
        )
        assert (ran.returncode, ran.stdout) == (code, out)
        assert ("pip install lima-k8s" in ran.stderr) == bool(code)


def test_all_say_the_version_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert re.findall(r'^version = "(.*)"$', project, re.MULTILINE) == [__version__]
    image = ClusterSpec().image
    assert {image.cpu.rpartition(":")[2], image.gpu.rpartition(":")[2]} == {__version__}
    for page in ("install.md", "images.md", "cluster.md"):
        text = (ROOT / "docs" / page).read_text("utf-8")
        said = re.findall(r"lima[-_](?:k8s|train)[-a-z]*[-:](\d+\.\d+\.\d+)", text)
        assert set(said) == {__version__}, page
