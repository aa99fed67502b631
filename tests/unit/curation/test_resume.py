"""The curate stage on its way: any order, kills, damage, picks and edits, and the same bytes."""

import json
import random
from pathlib import Path

import pytest

from lima.curation.arms.picks import Picks, dump_picks
from lima.curation.candidates.table import CandidateStore
from lima.curation.reading.damage import Damage
from lima.curation.stage import Curation
from lima.errors import ChangedInputError, DataError, LimaError
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.storage import Storage
from tests.helpers.curation.curating import Order, cell, contents, curate
from tests.helpers.curation.sites import STEM, drawn, inputs, stem_spec

__all__ = ["inputs"]


def _shuffled(seed: int) -> Order:
    shuffle = random.Random(seed)
    return lambda items: shuffle.sample(list(items), len(items))


def test_same_bytes_in_any_order_of_units_partitions_and_files(
    inputs: Path, tmp_path: Path
) -> None:
    spec = stem_spec(inputs)
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
        curate(stem_spec(inputs, sources=sources), tmp_path / str(seed))
        found.append(drawn(tmp_path / str(seed), "small"))
    assert found[0] == found[1] == found[2]


class _Killed(BaseException):
    """Ends a run as a signal would."""


@pytest.mark.parametrize("writes", range(0, 22, 3))
def test_a_run_that_is_killed_anywhere_ends_with_the_same_bytes(
    inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    spec = stem_spec(inputs)
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
    curation = Curation(cell(stem_spec(inputs)), Storage(str(tmp_path / "out")))
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
    spec = stem_spec(inputs)
    curate(spec, tmp_path / "out")
    posts = inputs / "ai.stackexchange.com" / "Posts.xml"
    posts.write_bytes(posts.read_bytes() + b" ")
    with pytest.raises(ChangedInputError, match=r"changed since this run began: .*ai\.stack"):
        curate(spec, tmp_path / "out")


def _prompts(path: Path, count: int) -> None:
    lines = [
        json.dumps({"conversations": [f"Write about {n} things.", f"Story {n}. " * 9]})
        for n in range(count)
    ]
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
    taken = {row["conversations"][0] for row in drawn(tmp_path / "out", "picked")}
    assert taken == {"Write about 1 things.", "Write about 4 things."}
    after = contents(tmp_path / "out")
    assert all(after[name] == data for name, data in before.items()), "no candidate is changed"
    assert Curation(cell(spec), storage).done
    picks.set(candidates[1], "drop")
    picks.set(candidates[5], "keep")
    (tmp_path / "in" / "picks.jsonl").write_bytes(dump_picks(picks.decisions.values()))
    assert not Curation(cell(spec), storage).done
    curate(spec, tmp_path / "out")
    taken = {row["conversations"][0] for row in drawn(tmp_path / "out", "picked")}
    assert taken == {"Write about 4 things.", "Write about 5 things."}


def test_edits_change_the_example_and_not_the_candidate(tmp_path: Path) -> None:
    _prompts(tmp_path / "in" / "stories" / "a.jsonl", 1)
    patch = {
        "source": "a",
        "source_id": "a:0",
        "utterance": 1,
        "find": "0 things",
        "replace": "a few things",
    }
    (tmp_path / "in" / "patches.jsonl").write_text(json.dumps(patch))
    source = SourceSpec("examples", ("stories",), pool="stories", patches="patches.jsonl")
    spec = CurateSpec((source,), (ArmSpec("e", (PartSpec("stories"),)),), root=str(tmp_path / "in"))
    curate(spec, tmp_path / "out")
    (row,) = drawn(tmp_path / "out", "e")
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
    summary = curate(stem_spec(inputs), tmp_path / "out")
    counts = {kind: entry["count"] for kind, entry in summary["damage"].items()}
    assert counts == {"row has no Id": 1, "row is not well-formed XML": 1}
    found = Damage.from_json(summary["damage"])
    assert "ai.stackexchange.com" in found.examples["row has no Id"][0]
    with pytest.raises(DataError, match="row has no Id"):
        curate(stem_spec(inputs, strict=True), tmp_path / "strict")
