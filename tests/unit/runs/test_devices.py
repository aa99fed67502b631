"""GPUs that a study asks for and this machine lacks are said before anything starts."""

from pathlib import Path

import pytest

from lima.recipes.registry import load_study
from lima.runs.devices import gpus_here
from lima_k8s.local.run import LocalRun
from lima_k8s.main import run

ON_GPUS = ("--set", "train.compute.device=cuda")


@pytest.fixture(autouse=True)
def _none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be a machine without GPUs, wherever this runs."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def submit(folder: Path, *more: str) -> int:
    where = ("--local", "--recipe", "tiny", "--storage", str(folder))
    return run(["submit", "train", *where, *ON_GPUS, *more])


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_submit_refuses_what_this_machine_cannot_run(
    more: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path, *more) == 2
    said = capsys.readouterr().err
    assert "train asks for GPUs: 1, and this machine has none" in said
    assert "--set train.compute.device=cpu" in said
    assert not (tmp_path / "logs").exists()


def test_lint_warns_but_not_of_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lint", "tiny", *ON_GPUS]) == 0
    assert "warning  train.compute.device: train asks for GPUs" in capsys.readouterr().out
    run(["lint", "tiny", *ON_GPUS, "--cluster", "eks-p5"])
    assert "asks for GPUs" not in capsys.readouterr().out


def test_a_study_that_needs_no_gpu_is_not_held_up(tmp_path: Path) -> None:
    assert LocalRun(load_study("tiny"), str(tmp_path)).plan()


def make(root: Path, *names: str) -> Path:
    for name in names:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return root


@pytest.mark.parametrize(
    ("files", "visible", "count"),
    [
        ((), None, 0),
        (("dev/nvidiactl", "dev/nvidia0", "dev/nvidia1"), None, 2),
        (("dev/nvidia0", "dev/nvidia1"), "1", 1),
        (("dev/nvidia0", "dev/nvidia1"), "-1", 0),
        (("dev/nvidia0", "proc/driver/nvidia/capabilities/gpu0/mig/gi1"), None, None),
        (("dev/dxg",), None, None),
        (("dev/kfd",), None, None),
        (("dev/kfd",), "", 0),
    ],
)
def test_what_a_machine_has(
    files: tuple[str, ...],
    visible: str | None,
    count: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus_here(make(tmp_path, *files)) == count
