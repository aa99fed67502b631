"""A part of a release that cannot be made is told with the reason."""

import os
from pathlib import Path

import pytest

from release.programs import run
from release.python_packages import build_python_packages
from release.sbom import write_sboms


def test_a_build_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "odd"\n', "utf-8")
    with pytest.raises(SystemExit, match=r"(?s)hatchling build .*exit code 1\n.*version"):
        build_python_packages(tmp_path, tmp_path / "out", dict(os.environ))


def test_a_lock_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "odd"\n', "utf-8")
    with pytest.raises(SystemExit, match=r"(?s)cyclonedx_py .*exit code 1\n.*cli.lock.txt"):
        write_sboms(tmp_path, tmp_path, "odd", dict(os.environ))


def test_what_a_program_writes_is_returned(tmp_path: Path) -> None:
    assert run(["pwd"], os.environ, tmp_path) == f"{tmp_path.resolve()}\n"
