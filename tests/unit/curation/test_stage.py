"""The curate stage: what arms draw and hold back, what is short, and why a post was not taken."""

from dataclasses import replace
from pathlib import Path

import pytest

from lima.curation.trace import CurationRun
from lima.data.examples import load_examples
from lima.errors import DataError
from lima.runs.ledger import record_run
from lima.spec import DataSpec
from lima.spec.codec import run_id
from lima.spec.curate import ArmSpec, AssemblySpec, FilterSpec, PartSpec
from lima.store.storage import Storage
from tests.helpers.curation import dumps
from tests.helpers.curation.curating import cell, curate
from tests.helpers.curation.sites import (
    SIZES,
    STEM,
    answer_body,
    drawn,
    inputs,
    stem_part,
    stem_spec,
)

__all__ = ["inputs"]


def test_an_arm_holds_its_quotas_of_the_highest_scores(inputs: Path, tmp_path: Path) -> None:
    spec = stem_spec(inputs, filters=FilterSpec(description_share=0.0))
    summary = curate(spec, tmp_path / "out")
    (arm,) = summary["arms"]
    # 40, 12 and 4 to the power 1/3 are 3.42, 2.29 and 1.59; nine by largest remainders
    counts = {"ai": 4, "cs": 3, "math": 2}
    assert arm["pools"]["stackexchange-stem"] == {
        f"{site}.stackexchange.com": count for site, count in counts.items()
    }
    prompts = [row["conversations"][0] for row in drawn(tmp_path / "out", "small")]
    best = {site: [n for n in range(SIZES[site], 0, -1) if n % 4] for site in STEM}
    assert prompts == [
        f"What is {site} thing number {n} good for?"
        for site in STEM
        for n in best[site][: counts[site]]
    ]


def test_what_is_written_reads_back_as_examples(inputs: Path, tmp_path: Path) -> None:
    curate(stem_spec(inputs), tmp_path / "out")
    (path,) = (tmp_path / "out" / "datasets").rglob("small.jsonl")
    examples = load_examples(DataSpec(str(path), sources=("stackexchange/ai*",)))
    assert len(examples) == 4
    assert all(len(example.conversation) == 2 for example in examples)
    for name in ("README.md", "attribution.csv", "attribution.md", "summary.json"):
        assert (path.parent / name).stat().st_size > 100
    ledger = (path.parent / "attribution.csv").read_text("utf-8")
    assert "https://ai.stackexchange.com/a/" in ledger
    assert "CC BY-SA" in ledger


def test_quantity_arms_are_nested_and_unfiltered_is_from_the_same_table(
    inputs: Path, tmp_path: Path
) -> None:
    arms = (
        ArmSpec("f5", (stem_part(5),)),
        ArmSpec("f10", (stem_part(10),), extends=("f5",)),
        ArmSpec("f20", (stem_part(20),), extends=("f10",)),
        ArmSpec("unfiltered", (replace(stem_part(20), filtered=False, order="random"),)),
    )
    summary = curate(stem_spec(inputs, *arms), tmp_path / "out")
    sizes = {arm["name"]: (arm["examples"], arm["inherited"]) for arm in summary["arms"]}
    assert sizes == {"f5": (5, 0), "f10": (10, 5), "f20": (20, 10), "unfiltered": (20, 0)}
    texts = {name: [str(row) for row in drawn(tmp_path / "out", name)] for name in sizes}
    assert texts["f10"][:5] == texts["f5"]
    assert texts["f20"][:10] == texts["f10"]
    assert any("I say" in text for text in texts["unfiltered"])
    assert not any("I say" in text for text in texts["f20"])


def test_a_dry_site_is_stood_in_for_and_told(inputs: Path, tmp_path: Path) -> None:
    (arm,) = curate(stem_spec(inputs, ArmSpec("most", (stem_part(35),))), tmp_path / "out")["arms"]
    found = arm["pools"]["stackexchange-stem"]
    assert sum(found.values()) == 35
    assert found["math.stackexchange.com"] == 3, "all that pass the filters"
    moved = {entry["category"]: entry["difference"] for entry in arm["moved"]}
    assert moved["math.stackexchange.com"] < 0 < moved["ai.stackexchange.com"]
    assert sum(moved.values()) == 0


def test_a_shortage_fails_with_its_numbers_and_the_costliest_filter(
    inputs: Path, tmp_path: Path
) -> None:
    spec = stem_spec(inputs, ArmSpec("more", (stem_part(50),)))
    with pytest.raises(DataError) as error:
        curate(spec, tmp_path / "out")
    assert (
        "more: stackexchange-stem: 50 asked for, 42 found among 56 candidates; most are lost to "
        "'first_person': 14 dropped, 14 by it alone"
    ) in str(error.value)
    assert not list((tmp_path / "out").rglob("*.jsonl")), "nothing is filled silently"
    told = curate(
        stem_spec(inputs, ArmSpec("more", (stem_part(50),), exact=False)), tmp_path / "out2"
    )
    assert told["arms"][0]["examples"] == 42
    assert "50 asked for, 42 found" in told["arms"][0]["shortages"][0]


def test_another_seed_draws_others(inputs: Path, tmp_path: Path) -> None:
    arm = ArmSpec("small", (replace(stem_part(9), order="random"),))
    found = [
        [row["conversations"][1] for row in drawn(tmp_path / str(seed), "small")]
        for seed in (0, 1)
        if curate(stem_spec(inputs, arm, seed=seed), tmp_path / str(seed))
    ]
    assert sorted(found[0]) != sorted(found[1])


def test_test_prompts_are_kept_out_of_training(inputs: Path, tmp_path: Path) -> None:
    heldout = replace(stem_part(6), order="random")
    arms = (ArmSpec("small", (stem_part(30),)), ArmSpec("test", (heldout,), split="test"))
    curate(stem_spec(inputs, *arms), tmp_path / "out")
    train, test = (
        {row["conversations"][1] for row in drawn(tmp_path / "out", n)} for n in ("small", "test")
    )
    assert len(test) == 6
    assert not train & test


def test_a_repeated_answer_is_taken_once_and_shown(inputs: Path, tmp_path: Path) -> None:
    rows = [
        text
        for n in (1, 2, 3)
        for text in (
            dumps.question(n, f"What is thing number {n} good for?", Score=n),
            dumps.answer(n + 10, n, Body=answer_body("same", 0 if n > 1 else 1)),
        )
    ]
    folder = dumps.write_folder(
        tmp_path / "twice" / "ai.stackexchange.com", {"Posts": dumps.document(rows)}
    )
    spec = dumps.spec(
        folder.parent,
        arms=(ArmSpec("a", (stem_part(2),)),),
        filters=FilterSpec(description_share=0.0),
        assembly=AssemblySpec(near_duplicate=0.7),
    )
    curate(spec, tmp_path / "out")
    record_run(Storage(str(tmp_path / "out")), cell(spec), "curate")
    run = CurationRun(Storage(str(tmp_path / "out")))
    (turned_away,) = run.why("ai.stackexchange.com/2")
    (place,) = turned_away.places
    assert (place.line, place.reason) == (None, "near_duplicate")
    assert place.evidence
    assert "similarity" in place.evidence


def test_why_names_the_filters_the_lines_and_the_votes(inputs: Path, tmp_path: Path) -> None:
    spec = stem_spec(inputs, filters=FilterSpec(description_share=0.0))
    curate(spec, tmp_path / "out")
    storage = Storage(str(tmp_path / "out"))
    record_run(storage, cell(spec), "curate")
    run = CurationRun(storage, run_id(cell(spec)))
    (dropped,) = run.why("https://ai.stackexchange.com/questions/65576/what-is-it?x=1")
    assert dropped.row["reasons"] == ["first_person"]
    assert dropped.places == ()
    assert dropped.not_drawn == ()
    (taken,) = run.why("ai.stackexchange.com/39")
    assert [(p.data_set, p.line) for p in taken.places] == [("small", 1)]
    (by_answer,) = run.why("https://ai.stackexchange.com/a/200039")
    assert by_answer.row == taken.row
    (by_key,) = run.why(taken.row["candidate_key"][:12])
    assert by_key.row == taken.row
    (not_drawn,) = run.why("ai.stackexchange.com/1")
    assert not_drawn.not_drawn == (
        "small took 4 of ai.stackexchange.com, those with most votes, the lowest with 35",
    )
    assert run.why("ai.stackexchange.com/999999") == []
    with pytest.raises(DataError, match="no curation run 0123"):
        CurationRun(storage, "0123")


@pytest.mark.parametrize(
    ("arms", "said"),
    [
        ((ArmSpec("a", (PartSpec("nowhere"),)),), "draws from nowhere, which no source fills"),
        ((ArmSpec("a", ()), ArmSpec("a", ())), "more than one arm is called a"),
        ((ArmSpec("a", (), extends=("b",)), ArmSpec("b", ())), "a extends b, which is not drawn"),
    ],
)
def test_arms_that_cannot_be_drawn_are_refused_before_anything_is_read(
    inputs: Path, tmp_path: Path, arms: tuple[ArmSpec, ...], said: str
) -> None:
    with pytest.raises(DataError, match=said):
        curate(dumps.spec(inputs, arms=arms), tmp_path / "out")
    assert not (tmp_path / "out").exists()
