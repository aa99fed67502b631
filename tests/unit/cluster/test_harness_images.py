"""What `make cluster-up` says while it makes images, and before."""

from collections import namedtuple
from pathlib import Path

import pytest

from lima.errors import ClusterError, InputError
from tests.cluster.harness import images
from tests.cluster.harness.programs import run

Usage = namedtuple("Usage", "total used free")


def test_too_little_disk_is_said_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(0, 0, 5 << 30))
    with pytest.raises(InputError, match="5 GiB are free, and making images takes 16"):
        images.require_disk()
    assert "16 GiB of disk (5 free)" in capsys.readouterr().err


def test_each_step_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(images, "IMAGES", tmp_path)
    for name in ("_build_base", "_build_jobs", "_build", "kueue_image", "kuberay_image"):
        monkeypatch.setattr(images, name, lambda *_: "x")
    monkeypatch.setattr(images, "_layout_folder", lambda: tmp_path / "oci")
    monkeypatch.setattr(images, "Sandbox", lambda _: 1 / 0)  # the first thing after the last step
    with pytest.raises(ZeroDivisionError):
        images._make_store(tmp_path / "store")
    told = capsys.readouterr().err
    assert [f"{n} of 4: " in told for n in range(1, 5)] == [True] * 4


def test_a_log_can_be_followed(tmp_path: Path) -> None:
    """What a program writes is in the log while it runs, and in the error if it fails."""
    log = tmp_path / "log"
    seen = f'echo first; grep -q "^first" {log} && echo followed'
    assert run(["sh", "-c", seen], log=log) == "first\nfollowed\n"
    with pytest.raises(ClusterError, match=r"ended with 3 \(all of it in .*\):\nlast words"):
        run(["sh", "-c", "echo last words >&2; exit 3"], log=log)
    assert log.read_text().count("$ sh -c") == 2
