"""The wheel in fresh environments: with what the command line needs alone, and with the jobs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib import metadata
from pathlib import Path

import pytest

from lima.store.storage import Storage
from tests.helpers.synthetic import Study, write_study
from tests.unit.project.test_requirements import names


def link_libraries(site: Path, lock: str) -> None:
    """Put the libraries of a lock into an environment: those that are installed here."""
    for name in names(lock):
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue  # for another platform
        for top in {file.parts[0] for file in files} - {"..", "__pycache__"}:
            link, target = site / top, Path(str(metadata.distribution(name).locate_file(top)))
            if target.exists() and not link.exists():
                link.symlink_to(target)


def fresh(folder: Path, wheel: Path, lock: str) -> Path:
    """Return a fresh environment with the wheel, and the libraries of a lock."""
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    link_libraries(site, lock)
    uv = Path(sys.executable).with_name("uv")
    python = folder / "bin" / "python"
    subprocess.run(
        [uv, "pip", "install", "--offline", "--no-deps", "--quiet", "--python", python, wheel],
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an environment of the command line: no torch, no Ray."""
    return fresh(tmp_path_factory.mktemp("environment"), wheel, "cli.lock.txt")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a storage with the results of a study."""
    folder = tmp_path_factory.mktemp("study")
    write_study(Storage(str(folder)), Study())
    return folder


def run(environment: Path, folder: Path, *arguments: str | Path) -> str:
    """Run the command in an empty folder; return what it writes."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL"))}
    done = subprocess.run(
        [environment / "bin" / "lima-k8s", *arguments],
        cwd=folder,
        env=clean,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_environment_has_nothing_of_the_jobs(environment: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u; print([m for m in {} if u.find_spec(m)])".format(
        ["torch", "ray", "transformers", "deepspeed"]
    )
    python = environment / "bin" / "python"
    found = subprocess.run(
        [python, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert found.stdout == "[]\n"
    code = "import lima, lima_k8s; print(lima.__file__, lima_k8s.__file__)"
    from_wheel = subprocess.run(
        [python, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert all(Path(p).is_relative_to(environment) for p in from_wheel.stdout.split())


def test_a_study_is_shown_and_judged(environment: Path, tmp_path: Path) -> None:
    shown = json.loads(run(environment, tmp_path, "show", "lima_65b", "--format", "json"))
    assert shown["runs"]
    run(environment, tmp_path, "lint", "tiny")
    assert "lima_65b" in run(environment, tmp_path, "recipes")


def test_results_are_read(environment: Path, study: Path, tmp_path: Path) -> None:
    said = run(environment, tmp_path, "aggregate", study, "--format", "json")
    assert {row["experiment"] for row in json.loads(said)["rows"]} == {Study().experiment}
    run(environment, tmp_path, "report", study, "-o", "report.html")
    assert "<svg" in (tmp_path / "report.html").read_text("utf-8")


def test_both_names_of_the_command_are_installed(environment: Path) -> None:
    path = str(environment / "bin")
    assert shutil.which("lima-k8s", path=path)
    assert shutil.which("kubectl-lima", path=path)


STUDY = """
extends: tiny
arms: {one: {}}
seeds: [0]
set: {base.epochs: 1, train.epochs: 1}
"""


@pytest.mark.slow
def test_with_the_jobs_a_study_runs_from_examples_to_a_table(wheel: Path, tmp_path: Path) -> None:
    environment = fresh(tmp_path / "environment", wheel, "jobs.lock.txt")
    (site,) = environment.glob("lib/python3*/site-packages")
    # Where there is no GPU, what lets torch start without CUDA's libraries.
    for extra in Path(sysconfig.get_path("purelib")).glob("torch_without_cuda.pth"):
        shutil.copy(extra, site)
    (tmp_path / "study.yaml").write_text(STUDY, "utf-8")
    submit = ["submit", "ablation", "--local", "--recipe", "study.yaml", "--storage", "results"]
    run(environment, tmp_path, *submit)
    said = run(environment, tmp_path, "aggregate", "results", "--format", "json")
    (row,) = json.loads(said)["rows"]
    assert (row["arm"], row["prompts"]) == ("one", 20)
