"""The recipes against the paper, and reading a study from a file."""

import json
from collections import Counter
from pathlib import Path

import pytest

from lima.data.examples import training_examples
from lima.errors import InputError, SpecError
from lima.recipes.registry import RECIPES, describe, load_study
from lima.spec import CellSpec, DataSpec, GenerateSpec, TrainSpec
from lima.spec.codec import decode, encode, run_id
from lima.training.schedule import Plan
from lima_k8s.profile.kinds import study_up_to

BOMB = b"l0: &l0 [x, x]\n" + b"".join(
    b"l%d: &l%d [%s]\n" % (i, i, b"*l%d, " % (i - 1) * 10) for i in range(1, 12)
)
"""A kilobyte of aliases that stand for 10^12 values."""
IDS = {
    "lima_65b": "23175f33561552c8",
    "alpaca_65b": "9ff71dab1707eb13",
    "dialogue_65b": "5f38248e858bfe25",
    "structure_65b": "f8168c08a1a24be7",
}
"""Of training. Whoever changes one makes its users train again."""
PAPER_65B = tuple(IDS)


def parts(cell: CellSpec) -> tuple[TrainSpec, GenerateSpec]:
    assert cell.train
    assert cell.generate
    return cell.train, cell.generate


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_its_runs_differ(name: str) -> None:
    cells = RECIPES[name]()
    assert [decode(CellSpec, encode(cell)) for cell in cells] == list(cells)
    assert len({run_id(cell) for cell in cells}) == len(cells)
    assert max(Counter((cell.arm, cell.seed) for cell in cells).values()) == 1
    assert {cell.experiment for cell in cells} == {name}
    assert describe(RECIPES[name]).endswith(".")


@pytest.mark.parametrize("name", [*PAPER_65B, "ablations_7b"])
def test_the_settings_of_sections_3_and_4(name: str) -> None:
    small = name == "ablations_7b"
    for cell in RECIPES[name]():
        train, generate = parts(cell)
        optimizer, decoding = train.optimizer, generate.decoding
        assert (optimizer.beta1, optimizer.beta2, optimizer.weight_decay) == (0.9, 0.95, 0.1)
        assert (optimizer.lr_start, optimizer.lr_end) == (1e-5, 1e-6)
        assert (train.epochs, train.max_length) == (15, 2048)
        assert (train.batch_size, train.residual_dropout) == ((64, 0.2) if small else (32, 0.3))
        assert (train.checkpoints.first_epoch, train.checkpoints.last_epoch) == (5, 10)
        assert (decoding.top_p, decoding.temperature) == (0.9, 0.7)
        assert (decoding.repetition_penalty, decoding.max_new_tokens) == (1.2, 2048)
        assert (decoding.top_k, decoding.samples) == (0, 5 if small else 1)
        assert ("7b" if small else "65b") in train.model.path


def test_lima_takes_469_steps() -> None:
    train, generate = parts(RECIPES["lima_65b"]()[0])
    assert (train.data.count, train.data.max_turns) == (1000, 1)
    assert generate.prompts.count == 300
    plan = Plan(1000, train.epochs, train.batch_size, seed=0)
    assert (plan.steps_per_epoch, plan.total_steps) == (31.25, 469)


def test_the_ablations_vary_the_data_alone() -> None:
    cells = RECIPES["ablations_7b"]()
    sizes = {
        cell.arm: (parts(cell)[0].data.path.rsplit("/", 1)[-1], parts(cell)[0].data.count)
        for cell in cells
    }
    filtered = "stackexchange-filtered.jsonl"
    assert sizes == {
        "wikihow-2k": ("wikihow.jsonl", 2000),
        "unfiltered-2k": ("stackexchange-unfiltered.jsonl", 2000),
        **{f"filtered-{k}k": (filtered, 1000 * k) for k in (2, 4, 8, 16, 32)},
    }
    rest = load_study("ablations_7b", ["arm=x", "seed=0", "train.data={path: x}"])
    assert len(set(rest)) == 1
    assert {cell.judge.model for cell in cells if cell.judge} == {"gpt-3.5-turbo"}


def test_sizes_of_the_other_studies() -> None:
    counts = {
        (name, cell.arm): parts(cell)[0].data.count
        for name in PAPER_65B
        for cell in RECIPES[name]()
    }
    assert counts == {
        ("lima_65b", "lima-1000"): 1000,
        ("alpaca_65b", "alpaca-52k"): None,
        ("dialogue_65b", "dialogue-1030"): 1030,
        ("structure_65b", "without-structure"): 1000,
        ("structure_65b", "with-structure"): 1006,
    }


def test_the_release_is_divided_as_in_the_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The layout of the release: the dialogues stand in the same file, after the 1,000.
    monkeypatch.chdir(tmp_path)
    lines = [{"conversations": [f"q{i}", "a"], "source": "stackexchange"} for i in range(1000)]
    lines += [
        {"conversations": [f"d{i}", "a", *["q", "a"] * (1 + i % 4)], "source": "multi_turn"}
        for i in range(30)
    ]
    file = Path("data/lima/train.jsonl")
    file.parent.mkdir(parents=True)
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = {name: parts(RECIPES[name]()[0])[0].data for name in ("lima_65b", "dialogue_65b")}
    single = training_examples(data["lima_65b"])
    assert {e.conversation[0] for e in single} == {f"q{i}" for i in range(1000)}
    everything = training_examples(data["dialogue_65b"])
    assert len(everything) == 1030
    assert sum(e.turns > 1 for e in everything) == 30


def test_the_ids_of_the_paper_s_runs_change_only_knowingly() -> None:
    ids = {name: run_id(RECIPES[name]()[0], "train") for name in PAPER_65B}
    assert ids == IDS


def test_the_small_study_needs_nothing_but_this_package() -> None:
    cells = RECIPES["tiny"]()
    assert len({run_id(cell, "base") for cell in cells}) == 1
    for cell in cells:
        assert cell.base
        train, generate = parts(cell)
        data = (cell.base.data, train.data, train.heldout, generate.prompts)
        assert all(
            isinstance(d, DataSpec) and d.path.startswith(("authored:", "pydoc:")) for d in data
        )
        assert {s.compute.device for s in (cell.base, train, generate)} == {"cpu"}
    assert len({cell.arm for cell in cells}) >= 2
    assert {cell.seed for cell in cells} == {0, 1}


def test_arms_and_seeds_are_chosen_before_overrides() -> None:
    cells = load_study("tiny", ["arm=renamed", "seed=5"], ["howto-32"], [1])
    assert [(cell.arm, cell.seed) for cell in cells] == [("renamed", 5)]
    assert parts(cells[0])[0].data.path == "authored:howto"


def test_a_json_or_a_yaml_file_is_a_study(tmp_path: Path) -> None:
    cells = RECIPES["tiny"]()
    file = tmp_path / "study.json"
    file.write_text(json.dumps({"runs": [encode(c) for c in cells], "run_ids": ["any"]}))
    assert load_study(str(file)) == cells
    hand = tmp_path / "study.yaml"
    hand.write_text(
        "runs:\n- experiment: e\n  arm: no\n  train:\n    model: {path: m}\n"
        "    data: {path: d}\n    optimizer: {lr_start: 1e-4}\n"
    )
    (cell,) = load_study(str(hand))
    assert cell.train
    assert (cell.arm, cell.train.optimizer.lr_start) == ("no", 1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"runs": [', "not JSON"),
        (b"runs: [", "not YAML"),
        (b"a: b", "not a study"),
        (b"", "not a study"),
        (b"[1]", "not a study"),
        (b'{"runs": []}', "not a study"),
        (b"runs: [{arm: a}]", r"runs\[0\]: the key 'experiment' is missing"),
        (b"runs: [{experiment: e, arm: a}, 3]", r"runs\[1\]: expected mapping, got 3"),
        (b"runs: [{experiment: e, arm: a}]\nrun: 1", "unknown key 'run'; did you mean 'runs'?"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b'{"runs": [%s]}' % (b"1" * 5000), "a number has thousands of digits"),
        (b'{"runs": ' + b"[" * 100_000, "nested too deeply"),
        (b'{"runs": ' + b"[" * 900 + b"]" * 900 + b"}", r"runs\[0\]: expected mapping, got \[\["),
        (b'{"runs": [{"experiment": "\\ud83d", "arm": "a"}]}', "is not Unicode text"),
        (b"runs: " + b"[" * 5000, "nested too deeply"),
        (b"runs: &a [*a]", "an alias stands within what it names"),
        (b"runs: [!!bool abc]", "'abc' cannot be read as bool"),
        (b"runs: [!!int [1]]", "a list or mapping cannot be read as int"),
        (b'runs: [!!float ""]', "'' cannot be read as float"),
        (b"runs: [%s]" % (b"1" * 5000), r"'1+\.\.\.' cannot be read as int"),
        (b"runs: [!!set {a, b}]", "could not determine a constructor for the tag"),
        (b"runs: [{? {a: b} : c}]", "unhashable key"),
        (BOMB, "its aliases stand for more than 1,000,000 values"),
    ],
)
def test_a_file_that_is_no_study(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "study"
    file.write_bytes(content)
    with pytest.raises(SpecError, match=message) as error:
        load_study(str(file))
    assert str(file) in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lima65b",), "lima65b: neither a recipe nor a file; did you mean 'lima_65b'?"),
        (("x.json",), "x.json: neither a recipe nor a file; recipes: ablations_7b, alpaca_65b, "),
        (("~nosuchuser/x",), "~nosuchuser/x: neither a recipe nor a file; recipes: "),
        (("x" * 5000,), f"{'x' * 197}...: cannot be read (File name too long)"),
        (("tiny", (), ["howto"]), "no run has arm 'howto'; did you mean 'howto-32'?"),
        (("tiny", (), (), [7]), "no run has seed 7; seeds: 0, 1"),
    ],
)
def test_a_name_that_does_not_exist(
    arguments: tuple[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError) as error:
        load_study(*arguments)
    assert str(error.value).startswith(message)


def test_an_arm_that_is_not_trained_stays_so() -> None:
    cells = load_study("smol")
    assert [cell.arm for cell in study_up_to(cells, "train")] == ["sentence", "points"]
    assert [cell.arm for cell in study_up_to(cells, "judge")] == ["sentence", "points", "before"]
    with pytest.raises(InputError, match="'before' has no stage up to 'train'"):
        study_up_to(cells[2:], "train")
    changed = load_study("smol", ["train.epochs=3"])
    assert [cell.train and cell.train.epochs for cell in changed] == [3, 3, None]
    judged = load_study("smol", ["judge.model=m"])
    assert all(cell.judge and cell.judge.model == "m" for cell in judged), "none had a judge"
