"""The recipes of curation ask for the paper's counts, and say what data they lack."""

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from lima.errors import DataError
from lima.lint import lint
from lima.recipes.curation import (
    curate_ablations,
    curate_alpaca,
    curate_lima,
    curate_small,
)
from lima.spec import CellSpec
from lima.spec.curate import ArmSpec, AssemblySpec, CurateSpec
from tests.helpers.curation.curating import curate

AUTHORED_AS = {"train": "diverse", "dev": "dev", "test": "test", "dialogue": "dialogue"}
AUTHORED = Path(__file__).parents[3] / "lima" / "authored"


def _spec(cells: tuple[CellSpec, ...]) -> CurateSpec:
    (cell,) = cells
    assert cell.curate is not None
    return cell.curate


def _counts(spec: CurateSpec) -> dict[str, int]:
    """Return how many examples each arm holds, with those it extends."""
    arms = {arm.name: arm for arm in spec.arms}

    def size(arm: ArmSpec) -> int:
        own = sum(part.count or 0 for part in arm.parts)
        return own + sum(size(arms[name]) for name in arm.extends)

    return {name: size(arm) for name, arm in arms.items()}


def test_lima_asks_for_the_counts_of_the_paper() -> None:
    spec = _spec(curate_lima())
    assert _counts(spec) == {
        "train": 1000,
        "dev": 50,
        "test": 300,
        "train-dialogue": 1030,
        "train-structure": 1006,
    }
    assert all(arm.exact for arm in spec.arms), "a shortage fails the run"
    train, _, test, dialogue, _ = spec.arms
    drawn = Counter({part.pool: part.count or 0 for part in train.parts})
    assert drawn == {
        "stackexchange-stem": 200,
        "stackexchange-other": 200,
        "wikihow": 200,
        "writingprompts": 150,
        "natural_instructions": 50,
        "authored": 187,
        "authored-safety": 13,
    }
    balanced = [part for part in train.parts if part.pool.startswith("stackexchange")]
    assert {(part.balance, part.temperature) for part in balanced} == {("temperature", 3.0)}
    assert {part.pool: part.count for part in test.parts} == {
        "askreddit": 70,
        "authored-test": 200,
        "authored-test-safety": 30,
    }
    assert {part.pool: part.count for part in dialogue.parts} == {
        "authored-dialogue": 10,
        "stackexchange-dialogues": 20,
    }


def test_the_arms_of_the_ablations_double_and_nest() -> None:
    spec = _spec(curate_ablations())
    sizes = {arm.name.removeprefix("stackexchange-"): arm for arm in spec.arms}
    for size in (2, 4, 8, 16, 32):
        arm = sizes[f"filtered-{size}k"]
        assert sum(part.count or 0 for part in arm.parts) == size * 1000
        assert arm.extends == ((f"stackexchange-filtered-{size // 2}k",) if size > 2 else ())
    assert not any(part.filtered for part in sizes["unfiltered-2k"].parts)
    assert sum(part.count or 0 for part in sizes["wikihow-2k"].parts) == 2000


def test_alpaca_is_taken_whole() -> None:
    (arm,) = _spec(curate_alpaca()).arms
    assert [part.count for part in arm.parts] == [None]


@pytest.fixture
def root(shared_data: Path, tmp_path: Path) -> Path:
    root = tmp_path / "data"
    root.mkdir()
    for kind in ("stackexchange", "wikihow", "reddit", "natural_instructions"):
        (root / kind).symlink_to(shared_data / kind)
    for source in _spec(curate_lima()).sources:
        if source.kind == "authored":
            folder = root / source.paths[0]
            folder.mkdir(parents=True)
            shutil.copy(AUTHORED / f"{AUTHORED_AS.get(folder.name, 'howto')}.jsonl", folder)
    return root


def test_lima_from_too_little_fails_with_numbers_and_the_dearest_filter(
    root: Path, tmp_path: Path
) -> None:
    spec = replace(_spec(curate_lima()), root=str(root))
    with pytest.raises(DataError) as raised:
        curate(spec, tmp_path / "out")
    told = str(raised.value)
    assert "200 asked for, 8 found among 937 candidates; most are lost to 'score'" in told
    assert "writingprompts" in told
    assert "authored: 187 asked for" in told
    assert not (tmp_path / "out" / "datasets").exists(), "nothing is filled silently"


def test_small_goes_on_and_says_the_same(root: Path, tmp_path: Path) -> None:
    spec = replace(_spec(curate_small()), root=str(root))
    summary = curate(spec, tmp_path / "out")
    train, dev, test, dialogue = summary["arms"]
    assert dev["examples"] == 3
    assert dialogue["examples"] == train["examples"] + 3
    assert sum(train["pools"]["wikihow"].values()) == 10
    assert any("10 asked for, 8 found" in shortage for shortage in train["shortages"])
    assert any("askreddit: 4 asked for, 1 found" in shortage for shortage in test["shortages"])


def test_a_tokenizer_that_is_not_there_is_found_before_the_run(root: Path) -> None:
    (cell,) = curate_small()
    curate = cell.curate
    assert curate

    def findings(tokenizer: str) -> list[str]:
        spec = replace(curate, root=str(root), assembly=AssemblySpec(tokenizer=tokenizer))
        return [str(f) for f in lint([replace(cell, curate=spec)]) if "tokenizer" in f.path]

    (found,) = findings("tokenizer.json")
    assert f"{root}/tokenizer.json: no such file" in found
    (root / "tokenizer.json").write_text("{}")
    assert findings("tokenizer.json") == findings("owner/name") == []
