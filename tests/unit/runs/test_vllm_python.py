"""A study that asks for vLLM where there is none is told so, before anything starts."""

from pathlib import Path

import pytest

from lima.common.variables import VLLM_PYTHON
from lima.runs.vllm_python import vllm_problem, vllm_python
from lima_k8s.main import run

WITH_VLLM = ("--set", "generate.engine=vllm")


@pytest.fixture(autouse=True)
def _none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VLLM_PYTHON, raising=False)


def environment(folder: Path, *, has_vllm: bool) -> Path:
    """Make what is looked at of a virtual environment; return its Python."""
    package = folder / "lib/python3.12/site-packages" / ("vllm" if has_vllm else "other")
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    python = folder / "bin/python"
    python.parent.mkdir()
    python.symlink_to("/bin/sh")
    return python


def test_lint_names_the_variable_and_the_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "tiny", *WITH_VLLM]) == 0
    said = capsys.readouterr().out
    assert f"warning  generate.engine: {VLLM_PYTHON} is not set" in said
    assert "docs/generation.md" in said
    run(["lint", "tiny", *WITH_VLLM, "--cluster", "eks-p5"])
    assert VLLM_PYTHON not in capsys.readouterr().out


def test_submit_refuses_it_on_this_machine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ("--local", "--recipe", "tiny", "--storage", str(tmp_path))
    assert run(["submit", "generate", *where, *WITH_VLLM]) == 2
    said = capsys.readouterr().err
    assert f"generate.engine: {VLLM_PYTHON} is not set" in said
    assert "--set generate.engine=transformers" in said


def test_an_environment_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VLLM_PYTHON, str(tmp_path / "nowhere"))
    assert "no program on this machine" in vllm_problem()
    monkeypatch.setenv(VLLM_PYTHON, str(environment(tmp_path / "a", has_vllm=False)))
    assert "has no package vllm" in vllm_problem()
    python = environment(tmp_path / "b", has_vllm=True)
    monkeypatch.setenv(VLLM_PYTHON, str(python))
    assert not vllm_problem()
    assert vllm_python() == python  # a link is not followed: it would leave the environment
