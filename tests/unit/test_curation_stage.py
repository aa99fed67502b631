"""The curate stage: arms, shortages, picks, the same bytes whatever happens on the way."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.codec import run_id
from lima.curation.damage import Damage
from lima.curation.dataset import load_examples
from lima.curation.lookup import CurationRun
from lima.curation.picks import Picks, dump_picks
from lima.curation.split import RANGE
from lima.curation.stage import Curation
from lima.curation.store import CandidateStore
from lima.errors import DataError, LimaError
from lima.ledger import record_run
from lima.spec import DataSpec
from lima.spec_curate import (
    ArmSpec,
    AssemblySpec,
    CurateSpec,
    FilterSpec,
    PartSpec,
    SourceSpec,
)
from lima.storage import Storage
from tests import dumps
from tests.curating import Order, cell, contents, curate

STEM = ("ai", "cs", "math")
WORDS = tuple(
    f"{first}{last}"
    for first in ("quan", "spa", "gra", "lim", "ser", "fie")
    for last in ("tum", "ces", "phs", "its", "ies", "lds")
)
SIZES = {"ai": 40, "cs": 12, "math": 4}


def _body(site: str, number: int) -> str:
    """Return an answer that repeats no other one."""
    words = random.Random(f"{site}{number}").choices(WORDS, k=230)
    return f"<p>{' '.join(words).capitalize()}.</p>"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Three sites of different sizes; every fourth answer speaks in the first person."""
    for site in STEM:
        rows = []
        for n in range(1, SIZES[site] + 1):
            number = n if n % 2 else n + RANGE  # two partitions
            body = _body(site, n).replace("<p>", "<p>I say: " if n % 4 == 0 else "<p>")
            rows += [
                dumps.question(number, f"What is {site} thing number {n} good for?", Score=n,
                               Body=f"<p>A description of {site} thing number {n}, in words.</p>"),
                dumps.answer(number + 200_000, number, Body=body),
            ]  # fmt: skip
        dumps.write_folder(
            tmp_path / "in" / f"{site}.stackexchange.com", {"Posts": dumps.document(rows)}
        )
    return tmp_path / "in"


def _part(count: int, **more: Any) -> PartSpec:
    return PartSpec("stackexchange-stem", count, balance="temperature", order="score", **more)


def _spec(inputs: Path, *arms: ArmSpec, **more: Any) -> CurateSpec:
    return dumps.spec(inputs, arms=arms or (ArmSpec("small", (_part(9),)),), **more)


def _shuffled(seed: int) -> Order:
    shuffle = random.Random(seed)
    return lambda items: shuffle.sample(list(items), len(items))


def _rows(storage: Path, arm: str) -> list[dict[str, Any]]:
    (path,) = (storage / "datasets").rglob(f"{arm}.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_an_arm_holds_its_quotas_of_the_highest_scores(inputs: Path, tmp_path: Path) -> None:
    spec = _spec(inputs, filters=FilterSpec(description_share=0.0))
    summary = curate(spec, tmp_path / "out")
    (arm,) = summary["arms"]
    # 40, 12 and 4 to the power 1/3 are 3.42, 2.29 and 1.59; nine by largest remainders
    counts = {"ai": 4, "cs": 3, "math": 2}
    assert arm["pools"]["stackexchange-stem"] == {
        f"{site}.stackexchange.com": count for site, count in counts.items()
    }
    prompts = [row["conversations"][0] for row in _rows(tmp_path / "out", "small")]
    best = {site: [n for n in range(SIZES[site], 0, -1) if n % 4] for site in STEM}
    assert prompts == [
        f"What is {site} thing number {n} good for?"
        for site in STEM
        for n in best[site][: counts[site]]
    ]


def test_what_is_written_reads_back_as_examples(inputs: Path, tmp_path: Path) -> None:
    curate(_spec(inputs), tmp_path / "out")
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
        ArmSpec("f5", (_part(5),)),
        ArmSpec("f10", (_part(10),), extends=("f5",)),
        ArmSpec("f20", (_part(20),), extends=("f10",)),
        ArmSpec("unfiltered", (replace(_part(20), filtered=False, order="random"),)),
    )
    summary = curate(_spec(inputs, *arms), tmp_path / "out")
    sizes = {arm["name"]: (arm["examples"], arm["inherited"]) for arm in summary["arms"]}
    assert sizes == {"f5": (5, 0), "f10": (10, 5), "f20": (20, 10), "unfiltered": (20, 0)}
    texts = {name: [str(row) for row in _rows(tmp_path / "out", name)] for name in sizes}
    assert texts["f10"][:5] == texts["f5"]
    assert texts["f20"][:10] == texts["f10"]
    assert any("I say" in text for text in texts["unfiltered"])
    assert not any("I say" in text for text in texts["f20"])


def test_a_dry_site_is_stood_in_for_and_told(inputs: Path, tmp_path: Path) -> None:
    (arm,) = curate(_spec(inputs, ArmSpec("most", (_part(35),))), tmp_path / "out")["arms"]
    found = arm["pools"]["stackexchange-stem"]
    assert sum(found.values()) == 35
    assert found["math.stackexchange.com"] == 3, "all that pass the filters"
    moved = {entry["category"]: entry["difference"] for entry in arm["moved"]}
    assert moved["math.stackexchange.com"] < 0 < moved["ai.stackexchange.com"]
    assert sum(moved.values()) == 0


def test_a_shortage_fails_with_its_numbers_and_the_costliest_filter(
    inputs: Path, tmp_path: Path
) -> None:
    spec = _spec(inputs, ArmSpec("more", (_part(50),)))
    with pytest.raises(DataError) as error:
        curate(spec, tmp_path / "out")
    assert (
        "more: stackexchange-stem: 50 asked for, 42 found among 56 candidates; most are lost to "
        "'first_person': 14 dropped, 14 by it alone"
    ) in str(error.value)
    assert not list((tmp_path / "out").rglob("*.jsonl")), "nothing is filled silently"
    told = curate(_spec(inputs, ArmSpec("more", (_part(50),), exact=False)), tmp_path / "out2")
    assert told["arms"][0]["examples"] == 42
    assert "50 asked for, 42 found" in told["arms"][0]["shortages"][0]


def test_same_bytes_in_any_order_of_units_partitions_and_files(
    inputs: Path, tmp_path: Path
) -> None:
    spec = _spec(inputs)
    curate(spec, tmp_path / "one")
    expected = contents(tmp_path / "one")
    assert len([name for name in expected if name.startswith("candidates")]) == 6
    for seed in (1, 2):
        curate(spec, tmp_path / str(seed), _shuffled(seed))
        assert contents(tmp_path / str(seed)) == expected


def test_same_data_set_in_any_order_of_paths_in_the_spec(inputs: Path, tmp_path: Path) -> None:
    found = []
    for seed in range(3):
        names = [f"{site}.stackexchange.com" for site in STEM]
        random.Random(seed).shuffle(names)
        sources = (SourceSpec("stackexchange", tuple(names)),)
        curate(_spec(inputs, sources=sources), tmp_path / str(seed))
        found.append(_rows(tmp_path / str(seed), "small"))
    assert found[0] == found[1] == found[2]


def test_another_seed_draws_others(inputs: Path, tmp_path: Path) -> None:
    arm = ArmSpec("small", (replace(_part(9), order="random"),))
    found = [
        [row["conversations"][1] for row in _rows(tmp_path / str(seed), "small")]
        for seed in (0, 1)
        if curate(_spec(inputs, arm, seed=seed), tmp_path / str(seed))
    ]
    assert sorted(found[0]) != sorted(found[1])


class _Killed(BaseException):
    """Ends a run as a signal would."""


@pytest.mark.parametrize("writes", range(0, 22, 3))
def test_a_run_that_is_killed_anywhere_ends_with_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    spec = _spec(inputs)
    curate(spec, tmp_path / "whole")
    left = iter(range(writes))
    write = Storage.write

    def dying(self: Storage, path: str, data: bytes, *, replace: bool = False) -> bool:
        if next(left, None) is None:
            raise _Killed
        return write(self, path, data, replace=replace)

    monkeypatch.setattr(Storage, "write", dying)
    with pytest.raises(_Killed):
        curate(spec, tmp_path / "killed")
    monkeypatch.setattr(Storage, "write", write)
    curate(spec, tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_rows_that_are_removed_under_a_reader_are_not_taken_for_none(
    inputs: Path, tmp_path: Path
) -> None:
    """As by another task, for which this one is lost although it lives on."""
    curation = Curation(cell(_spec(inputs)), Storage(str(tmp_path / "out")))
    unit = curation.units()[0]
    folder = tmp_path / "aside"
    (partition, *_) = curation.split(unit, folder).partitions
    folder.rename(tmp_path / "removed")
    with pytest.raises(LimaError, match="aside: removed while it was read"):
        curation.write_partition(unit, folder, partition)
    assert not curation.store.has(curation.partition_shard(unit, partition))
    (tmp_path / "removed").rename(folder)
    assert curation.write_partition(unit, folder, partition).seen


def test_files_that_changed_since_the_run_began_are_refused(inputs: Path, tmp_path: Path) -> None:
    spec = _spec(inputs)
    curate(spec, tmp_path / "out")
    posts = inputs / "ai.stackexchange.com" / "Posts.xml"
    posts.write_bytes(posts.read_bytes() + b" ")
    with pytest.raises(DataError, match=r"changed since this run began: .*ai\.stack"):
        curate(spec, tmp_path / "out")


def test_test_prompts_are_kept_out_of_training(inputs: Path, tmp_path: Path) -> None:
    heldout = replace(_part(6), order="random")
    arms = (ArmSpec("small", (_part(30),)), ArmSpec("test", (heldout,), split="test"))
    curate(_spec(inputs, *arms), tmp_path / "out")
    train, test = ({row["conversations"][1] for row in _rows(tmp_path / "out", n)}
                   for n in ("small", "test"))  # fmt: skip
    assert len(test) == 6
    assert not train & test


def test_a_repeated_answer_is_taken_once_and_shown(inputs: Path, tmp_path: Path) -> None:
    rows = [
        text
        for n in (1, 2, 3)
        for text in (
            dumps.question(n, f"What is thing number {n} good for?", Score=n),
            dumps.answer(n + 10, n, Body=_body("same", 0 if n > 1 else 1)),
        )
    ]
    folder = dumps.write_folder(
        tmp_path / "twice" / "ai.stackexchange.com", {"Posts": dumps.document(rows)}
    )
    spec = dumps.spec(
        folder.parent,
        arms=(ArmSpec("a", (_part(2),)),),
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


def _prompts(path: Path, count: int) -> None:
    lines = [json.dumps({"conversations": [f"Write about {n} things.", f"Story {n}. " * 9]})
             for n in range(count)]  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines), "utf-8")


def test_picks_and_edits_are_replayed_without_reading_again(tmp_path: Path) -> None:
    _prompts(tmp_path / "in" / "stories" / "a.jsonl", 6)
    source = SourceSpec("examples", ("stories",), pool="stories", picks="picks.jsonl")
    spec = CurateSpec(
        (source,), (ArmSpec("picked", (PartSpec("stories", 2),)),), root=str(tmp_path / "in")
    )
    with pytest.raises(DataError, match=r"2 asked for, 0 found.*'not_picked': 6 dropped"):
        curate(spec, tmp_path / "out")
    storage = Storage(str(tmp_path / "out"))
    store = CandidateStore(storage, cell(spec))
    (shard,) = store.table.shards()
    before = contents(tmp_path / "out")
    candidates = [candidate for _, candidate in store.candidates(shard)]
    picks = Picks()
    for number in (1, 4):
        picks.set(candidates[number], "keep")
    picks.set(candidates[2], "drop")
    (tmp_path / "in" / "picks.jsonl").write_bytes(dump_picks(picks.decisions.values()))
    curate(spec, tmp_path / "out")
    taken = {row["conversations"][0] for row in _rows(tmp_path / "out", "picked")}
    assert taken == {"Write about 1 things.", "Write about 4 things."}
    after = contents(tmp_path / "out")
    assert all(after[name] == data for name, data in before.items()), "no candidate is changed"
    assert Curation(cell(spec), storage).done
    picks.set(candidates[1], "drop")
    picks.set(candidates[5], "keep")
    (tmp_path / "in" / "picks.jsonl").write_bytes(dump_picks(picks.decisions.values()))
    assert not Curation(cell(spec), storage).done
    curate(spec, tmp_path / "out")
    taken = {row["conversations"][0] for row in _rows(tmp_path / "out", "picked")}
    assert taken == {"Write about 4 things.", "Write about 5 things."}


def test_edits_change_the_example_and_not_the_candidate(tmp_path: Path) -> None:
    _prompts(tmp_path / "in" / "stories" / "a.jsonl", 1)
    patch = {"source": "a", "source_id": "a:0", "utterance": 1, "find": "0 things",
             "replace": "a few things"}  # fmt: skip
    (tmp_path / "in" / "patches.jsonl").write_text(json.dumps(patch))
    source = SourceSpec("examples", ("stories",), pool="stories", patches="patches.jsonl")
    spec = CurateSpec((source,), (ArmSpec("e", (PartSpec("stories"),)),), root=str(tmp_path / "in"))
    curate(spec, tmp_path / "out")
    (row,) = _rows(tmp_path / "out", "e")
    assert row["conversations"][0] == "Write about a few things."
    store = CandidateStore(Storage(str(tmp_path / "out")), cell(spec))
    ((_, original),) = store.candidates(store.table.shards()[0])
    assert original.conversation[0] == "Write about 0 things."
    patch["find"] = "no such words"
    (tmp_path / "in" / "patches.jsonl").write_text(json.dumps(patch))
    summary = curate(spec, tmp_path / "out")
    assert summary["arms"][0]["examples"] == 0, "an edit that misses takes its example out"
    assert summary["arms"][0]["turned_away"] == 1


def test_damage_of_all_units_is_in_the_summary(inputs: Path, tmp_path: Path) -> None:
    posts = inputs / "ai.stackexchange.com" / "Posts.xml"
    posts.write_bytes(posts.read_bytes().replace(b' Id="1" PostTypeId', b" PostTypeId", 1))
    other = inputs / "cs.stackexchange.com" / "Posts.xml"
    other.write_bytes(other.read_bytes().replace(b"What is cs thing number 3 ", b"&wrong; ", 1))
    summary = curate(_spec(inputs), tmp_path / "out")
    counts = {kind: entry["count"] for kind, entry in summary["damage"].items()}
    assert counts == {"row has no Id": 1, "row is not well-formed XML": 1}
    found = Damage.from_json(summary["damage"])
    assert "ai.stackexchange.com" in found.examples["row has no Id"][0]
    with pytest.raises(DataError, match="row has no Id"):
        curate(_spec(inputs, strict=True), tmp_path / "strict")


def test_why_names_the_filters_the_lines_and_the_votes(inputs: Path, tmp_path: Path) -> None:
    spec = _spec(inputs, filters=FilterSpec(description_share=0.0))
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
