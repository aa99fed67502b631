"""`lima-k8s report`: what it refuses or leaves out, and the page and its figures as files."""

import html
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lima.errors import DataError, InputError
from lima.evaluation.report.drawing import SVG, VARIABLES
from lima.evaluation.report.page import render_report, write_report
from lima.store.storage import Storage
from lima_k8s.main import run
from tests.helpers.report_pages import FIGURES, RICH, figure
from tests.helpers.synthetic import Study, write_study


def test_which_experiment(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    for name in ("one", "two"):
        write_study(storage, Study(seeds=1, experiment=name))
    with pytest.raises(InputError, match="2 experiments; choose one with --experiment: one, two"):
        render_report(storage, note=pytest.fail)
    assert "<h1>two</h1>" in render_report(storage, experiment="two", note=pytest.fail)


def test_unreadable_files(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(seeds=1))
    for table in ("generations", "steps"):
        (next(tmp_path.glob(f"{table}/*/*")) / "bad.parquet").write_bytes(b"bad")
    with pytest.raises(DataError, match="2 files cannot be read"):
        render_report(storage, note=pytest.fail)
    said: list[str] = []
    page = render_report(storage, skip_unreadable=True, note=said.append)
    assert len(said) == 1
    assert html.escape(said[0], quote=False).replace("'", "&#39;") in page


def test_judgments_whose_responses_are_unreadable(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(seeds=1))
    for shard in tmp_path.glob("generations/*/*/*.parquet"):
        shard.write_bytes(b"")
    page = render_report(storage, skip_unreadable=True, note=lambda _: None)
    assert "<svg" in figure(page, "score")
    assert "<svg" not in figure(page, "lengths")


def test_nothing_but_a_base_model(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study(stages=("base",)))
    with pytest.raises(InputError, match="no cell of the study has started yet"):
        render_report(storage, note=pytest.fail)


@pytest.mark.parametrize("what", ["link", "pipe", "device", "loop"])
def test_only_a_regular_file_is_written_over(tmp_path: Path, what: str) -> None:
    storage, output = Storage(str(tmp_path / "study")), tmp_path / "page.html"
    write_study(storage, Study(seeds=1))
    (tmp_path / "precious").write_text("kept")
    if what == "pipe":
        os.mkfifo(output)
    else:
        there = {"link": tmp_path / "precious", "device": Path("/dev/null"), "loop": output}
        output.symlink_to(there[what])
    before = output.lstat()
    with pytest.raises(InputError, match=r"page\.html: .*name another file"):
        write_report(storage, output, note=pytest.fail)
    assert output.lstat() == before
    assert (tmp_path / "precious").read_text() == "kept"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "precious", "study"]


def test_a_device_is_not_written_over() -> None:
    with pytest.raises(InputError, match="/dev/null: no regular file"):
        write_report(Storage("/nowhere"), Path("/dev/null"), note=pytest.fail)


class TestCommand:
    """`lima-k8s report`."""

    def test_writes_the_page_and_prints_its_path(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write_study(Storage(str(tmp_path / "study")), Study(seeds=1))
        output = tmp_path / "new" / "folder" / "page.html"
        assert run(["report", str(tmp_path / "study"), "-o", str(output)]) == 0
        captured = capsys.readouterr()
        assert captured.out == f"{output}\n"
        assert f"making the folder {output.parent}\n" in captured.err
        assert output.read_text("utf-8").startswith("<!doctype html>")

    def test_figures_as_files(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """Of the same drawing as on the page, in colours of their own and with their words."""
        write_study(Storage(str(tmp_path / "study")), replace(RICH, stages=("train", "generate")))
        folder, output = tmp_path / "new" / "figures", tmp_path / "page.html"
        arguments = ["report", str(tmp_path / "study"), "-o", str(output), "--figures", str(folder)]
        assert run(arguments) == 0
        drawn = set(FIGURES) - {"score", "checkpoints"}
        captured = capsys.readouterr()
        assert captured.out == f"{output}\n"
        assert f"{len(drawn)} figures in {folder}, as SVG and PNG" in captured.err
        files = {f"{name}.{kind}" for name in drawn for kind in ("svg", "png")}
        assert {file.name for file in folder.iterdir()} == files
        page = output.read_text("utf-8")
        for name in drawn:
            root = ElementTree.parse(folder / f"{name}.svg").getroot()
            words = root.findtext(f"{SVG}title")
            assert words
            assert f'aria-label="{html.escape(words)}"' in figure(page, name)
            texts = [element.text for element in root.iter(f"{SVG}text")]
            assert texts == re.findall(r"<text[^>]*>([^<]*)</text>", figure(page, name))
            source = (folder / f"{name}.svg").read_text("utf-8")
            assert "var(--" not in source
            assert not re.search("|".join(VARIABLES), source)
            data = (folder / f"{name}.png").read_bytes()
            assert data.startswith(b"\x89PNG")
            assert int.from_bytes(data[16:20]) == round(4.4 * 300)
            assert words.encode() in data

    def test_a_failure_leaves_the_old_page(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        output = tmp_path / "page.html"
        output.write_text("old")
        assert run(["report", str(tmp_path / "nothing"), "-o", str(output)]) == 2
        assert "no runs there" in capsys.readouterr().err
        assert output.read_text() == "old"
        assert list(tmp_path.iterdir()) == [output]

    def test_a_full_disk_leaves_the_old_page(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        storage = Storage(str(tmp_path / "study"))
        write_study(storage, Study(seeds=1))
        output = tmp_path / "page.html"
        output.write_text("old")
        write: Callable[..., int] = Path.write_bytes

        def half(path: Path, data: bytes) -> int:
            write(path, data[:100])
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", half)
        with pytest.raises(OSError, match="No space left"):
            write_report(storage, output, note=pytest.fail)
        assert output.read_text() == "old"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["page.html", "study"]
