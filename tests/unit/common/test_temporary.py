"""Temporary folders: gone with their process, or by the next one."""

import subprocess
import sys
from pathlib import Path

import pytest

from lima.common.temporary import KINDS, remove_left_behind, temporary_folder

WORKER = """
import sys
from lima.common.temporary import temporary_folder
with temporary_folder("lima-state-") as folder:
    (folder / "part").write_bytes(b"x")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def worker() -> tuple["subprocess.Popen[str]", Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_a_killed_process_left_behind_is_removed(place: Path) -> None:
    killed, left = worker()
    killed.kill()
    killed.communicate()
    alive, used = worker()
    other = place / "somebody-else-s"
    other.mkdir()
    assert (left / "part").exists()
    remove_left_behind()
    assert sorted(place.iterdir()) == sorted([used, other])
    alive.communicate()
    assert not used.exists()


def test_a_folder_of_ours_is_not_removed_by_ourselves(place: Path) -> None:
    for kind in KINDS:
        with temporary_folder(kind) as folder:
            remove_left_behind()
            assert folder.is_dir()
        assert not folder.exists()


def test_a_link_to_elsewhere_is_not_followed(
    place: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "kept").write_text("")
    (place / "lima-weights-x").symlink_to(elsewhere)
    remove_left_behind()
    assert (elsewhere / "kept").exists()
