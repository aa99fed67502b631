"""Every number of the paper is fed in: its own are within, moved ones outside, few too few."""

from pathlib import Path

import pytest

from lima.evaluation.paper.compare import compare_paper
from lima.evaluation.paper.numbers import Compared, paper_facts
from lima.evaluation.statistics.intervals import EXACT
from lima.store.storage import Storage
from tests.helpers.paper_labels import BASELINES, Case
from tests.helpers.paper_study import write_paper_study

SAME, MOVED, FEW = Case(), Case(moved=True), Case(few=True)
ENDPOINTS = {name: arm for name, arm in BASELINES.items() if name != "alpaca_65b"}
"""Our arms without a spec: they have labels alone."""
RANGES = ("perplexity", "checkpoint_score")
"""From where to where checkpoints go: two of them say as much of it as ten."""


def fed(folder: Path, case: Case) -> dict[str, Compared]:
    found = compare_paper(write_paper_study(folder, case), named=ENDPOINTS, note=pytest.fail)
    return {c.fact.name: c for c in found}


def test_the_papers_own_values_are_within(tmp_path: Path) -> None:
    found = fed(tmp_path, SAME)
    assert {name: c.status for name, c in found.items()} == dict.fromkeys(found, "within")
    assert len(found) == len(paper_facts())
    for name, c in found.items():
        assert c.ours, name
        if c.fact.n is not None:
            assert c.ours.n == c.fact.n, name
            assert c.ours.value == pytest.approx(c.fact.value, abs=6e-4), name
        elif c.ours.method == EXACT:
            assert c.ours.value == c.fact.value, name
        elif c.fact.rows is not None:
            assert c.ours.n == c.fact.rows, name
            assert c.ours.value == pytest.approx(c.fact.value, abs=0.5), name


def test_moved_values_are_outside(tmp_path: Path) -> None:
    found = fed(tmp_path, MOVED)
    assert {name: c.status for name, c in found.items()} == dict.fromkeys(found, "outside")


def test_few_rows_are_underpowered(tmp_path: Path) -> None:
    """All that has chance in it; what needs no rows, settings and counts, is equal or not."""
    found = fed(tmp_path, FEW)
    chance = {
        name: c
        for name, c in found.items()
        if c.ours and c.ours.method != EXACT and name not in RANGES
    }
    assert {n: c.status for n, c in chance.items()} == dict.fromkeys(chance, "underpowered")
    assert all(c.rows_needed for c in chance.values())
    settled = found.keys() - chance.keys() - set(RANGES)
    kinds = {name.partition("/")[0] for name in settled}
    assert kinds == {
        "setting",
        "count",
        "total",
        "categories",
        "exchanges",
        "examples",
        "steps",
        "steps_per_epoch",
    }


def test_lengths_need_a_tokenizer_that_is_here(tmp_path: Path) -> None:
    storage = write_paper_study(tmp_path, SAME)
    (tmp_path / "tokenizer.json").rename(tmp_path / "elsewhere.json")
    by_name = {c.fact.name: c for c in compare_paper(storage, named=ENDPOINTS, note=pytest.fail)}
    lengths = [c for name, c in by_name.items() if name.startswith("tokens/")]
    assert {c.status for c in lengths} == {"no data"}
    assert "name one with --tokenizer" in str(lengths[0].why)
    assert by_name["count/train/wikihow"].status == "within"
    elsewhere = str(tmp_path / "elsewhere.json")
    again = compare_paper(storage, tokenizer=elsewhere, named=ENDPOINTS, note=pytest.fail)
    assert {c.status for c in again if c.fact.of[0] == "tokens"} == {"within"}


def test_nothing_of_it_comes_from_nowhere(tmp_path: Path) -> None:
    """Without its rows, every number is without data and says why."""
    storage = write_paper_study(tmp_path, SAME)
    for table in ("annotations", "judgments", "examples", "candidates", "steps", "metrics"):
        for shard in (tmp_path / "study" / table).rglob("*.parquet"):
            shard.unlink()
    found = compare_paper(Storage(storage.uri), note=pytest.fail)
    left = {c.fact.name.partition("/")[0] for c in found if c.ours}
    assert left == {"setting", "examples", "steps_per_epoch"}  # which the runs themselves tell
    assert all(c.why for c in found if not c.ours)
