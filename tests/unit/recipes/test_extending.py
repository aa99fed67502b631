"""A study in ten lines: what it changes of another one."""

from pathlib import Path

import pytest

from lima.errors import SpecError
from lima.recipes.demo import tiny
from lima.recipes.registry import load_study
from lima.spec.codec import run_id
from lima_k8s.main import run

STUDY = """
extends: tiny
experiment: mine
set:
  train.data.path: mine.jsonl
  train: {epochs: 2, optimizer: {lr_start: 1e-4}}
  base: null
arms:
  short: {train.data.count: 8}
  all: {train.data.count: null, train.model.path: models/x}
seeds: [0, 1, 7]
"""


def write(folder: Path, text: str, name: str = "study.yaml") -> str:
    file = folder / name
    file.write_text(text)
    return str(file)


def test_arms_and_seeds_of_ones_own(tmp_path: Path) -> None:
    cells = load_study(write(tmp_path, STUDY))
    assert [(c.experiment, c.arm, c.seed) for c in cells] == [
        ("mine", arm, seed) for arm in ("short", "all") for seed in (0, 1, 7)
    ]
    like = tiny()[0].train
    for cell in cells:
        assert cell.base is None
        assert cell.train
        assert like
        assert (cell.train.epochs, cell.train.data.path) == (2, "mine.jsonl")
        assert cell.train.optimizer.lr_start == 1e-4
        assert cell.train.optimizer.lr_end == like.optimizer.lr_end
    counts = {c.arm: c.train.data.count for c in cells if c.train}
    models = {c.arm: c.train.model.path for c in cells if c.train}
    assert counts == {"short": 8, "all": None}
    assert models == {"short": "run:base", "all": "models/x"}
    assert len({run_id(cell) for cell in cells}) == len(cells)


def test_what_is_not_named_stays(tmp_path: Path) -> None:
    assert load_study(write(tmp_path, "extends: tiny")) == tiny()
    fewer = load_study(write(tmp_path, "{extends: tiny, seeds: [1]}"))
    assert [(c.arm, c.seed) for c in fewer] == [("diverse-32", 1), ("howto-32", 1)]
    one = load_study(write(tmp_path, "{extends: tiny, arms: {mine: }}"))
    assert [(c.arm, c.seed) for c in one] == [("mine", 0), ("mine", 1)]
    # The same as by options, down to the run ids.
    by_options = load_study("tiny", ["train.epochs=3"])
    assert load_study(write(tmp_path, "{extends: tiny, set: {train.epochs: 3}}")) == by_options


def test_files_extend_files_but_not_themselves(tmp_path: Path) -> None:
    first = write(tmp_path, STUDY)
    second = write(tmp_path, f"{{extends: {first}, seeds: [3]}}", "second.yaml")
    assert [(c.arm, c.seed) for c in load_study(second)] == [("short", 3), ("all", 3)]
    write(tmp_path, f"extends: {second}")
    with pytest.raises(SpecError, match="extends itself"):
        load_study(second)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("extends: tny", r"extends: tny: neither a recipe nor a file; did you mean 'tiny'\?"),
        ("extends: 3", "extends: expected the name of a recipe or a file, got 3"),
        ("{extends: tiny, arm: x}", r"unknown key 'arm'; did you mean 'arms'\?"),
        ("{extends: tiny, runs: []}", "unknown key 'runs'"),
        ("{extends: tiny, set: 3}", r"set: expected a mapping of settings.*got 3"),
        ("{extends: tiny, set: {epochs: 3}}", r"set: epochs: no such path; did you mean '"),
        ("{extends: tiny, set: {train: {epoks: 3}}}", r"set: train\.epoks: no such path"),
        ("{extends: tiny, set: {train.epochs: x}}", r"train\.epochs: expected integer >= 1"),
        ("{extends: tiny, arms: [a]}", r"arms: expected a mapping of names to settings"),
        ("{extends: tiny, arms: {a: {train.x: 1}}}", r"arms\.a: train\.x: no such path"),
        ("{extends: tiny, seeds: 3}", r"seeds: expected a list of whole numbers"),
        ("{extends: tiny, seeds: [-1]}", "seed: expected integer >= 0"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, why: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(SpecError, match=why) as caught:
        load_study(file)
    assert str(caught.value).startswith(file)


def test_show_writes_it_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path, STUDY)
    assert run(["show", file]) == 0
    whole = write(tmp_path, capsys.readouterr().out, "whole.yaml")
    assert load_study(whole) == load_study(file)
