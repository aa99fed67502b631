"""`lima-k8s responses`: what arms answered to the same prompts, in a terminal."""

from pathlib import Path

import pytest

from lima.evaluation.report.sample_responses import Compared, Sample
from lima.store.storage import Storage
from lima_k8s.commands.results.responses import _shown
from lima_k8s.main import run
from lima_k8s.terminal.output import plain_console
from tests.helpers.synthetic import Study, write_study


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["responses", *arguments]) == 0
    return capsys.readouterr().out


def test_arms_stand_side_by_side(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    cells = write_study(storage, Study(seeds=1))
    arms = {cell.arm for cell in cells}
    wide = shown(capsys, str(tmp_path), "--prompts", "2")
    header = next(line for line in wide.splitlines() if set(line.split()) == arms)
    assert wide.splitlines().count(header) == 2
    assert wide.count("user: ") == 2
    monkeypatch.setattr("lima_k8s.commands.results.responses.PIPE_WIDTH", 30)
    narrow = shown(capsys, str(tmp_path), "--prompts", "2", "--characters", "5")
    assert all(narrow.count(f"[{arm}]") == 2 for arm in arms)
    assert "characters more)" in narrow


def test_what_a_model_wrote_commands_no_terminal() -> None:
    console = plain_console(width=100)
    sample = Sample("arm", 0, "\x1b]0;title\x07Like [bold]this", 0, 3, "eot", [])
    with console.capture() as captured:
        for part in _shown(Compared([("user", "\x1b[2JHow?")], [sample]), 100, 100):
            console.print(part)
    assert "Like [bold]this" in captured.get()
    assert "user: How?" in captured.get()
    assert "3 tokens, ended by itself" in captured.get()
    assert "\x1b" not in captured.get()


def test_one_experiment_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "two"):
        write_study(Storage(str(tmp_path)), Study(seeds=1, experiment=name))
    assert run(["responses", str(tmp_path)]) == 2
    assert "choose one with --experiment: one, two" in capsys.readouterr().err
    assert "user: " in shown(capsys, str(tmp_path), "--experiment", "two")
