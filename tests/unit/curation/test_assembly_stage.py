"""From files of every source to data sets, by the stage itself in one process.

Stack Exchange is in test_curation_stackexchange.py and the like; here are all other sources.
"""

import csv
import io
import json
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.curation.arms.picks import Picks, dump_picks
from lima.curation.stage import Curation
from lima.data.examples import load_examples, training_examples
from lima.errors import DataError
from lima.spec import CellSpec, DataSpec
from lima.spec.curate import ArmSpec, AssemblySpec, CurateSpec, PartSpec, SourceSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import EXAMPLES
from lima_k8s.web.pick import read_shortlist

AUTHORED = Path(__file__).parents[3] / "lima" / "authored"
POOLS = ("diverse", "test", "dialogue")
QUESTION = "What would you take along to an island without electricity and why?"


def _curate(spec: CurateSpec, folder: Path, *, backwards: bool = False) -> Curation:
    curation = Curation(CellSpec("study", "curation", curate=spec), Storage(str(folder)))
    units = curation.units()
    for unit in reversed(units) if backwards else units:
        curation.read_source(unit)
    curation.assemble()
    return curation


def _file(curation: Curation, name: str) -> bytes:
    return curation.storage.read(f"{curation.datasets}/{name}")


def _examples(curation: Curation, arm: str) -> list[Any]:
    path = curation.storage.local_path(f"{curation.datasets}/{arm}.jsonl")
    return load_examples(DataSpec(str(path)))


def _rejections(curation: Curation) -> list[dict[str, Any]]:
    rows = RunTable(curation.storage, EXAMPLES, curation.cell).read().to_pylist()
    return [row for row in rows if row["line"] is None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of small inputs of every kind."""
    root = tmp_path / "root"
    noise = random.Random(0)

    def words(count: int) -> str:
        return " ".join(f"word{noise.randrange(9999)}" for _ in range(count))

    def write(name: str, records: Sequence[Any]) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("".join(json.dumps(record) + "\n" for record in records))

    write(
        "wikihow/articles.jsonl",
        [
            {"title": f"How to do {words(2)}", "text": words(40), "category": category}
            for category in ("Health", "Travel", "Youth")
            for _ in range(6)
        ],
    )
    write(
        "reddit/RS_2018-02",
        [
            {
                "id": f"{name}{i}",
                "title": title,
                "subreddit": sub,
                "score": 100 - i,
                "is_self": True,
            }
            for sub, name in (("WritingPrompts", "w"), ("AskReddit", "a"))
            for i in range(8)
            for title in (QUESTION if name == "a" and i == 3 else f"[WP] {words(9)}",)
        ],
    )
    write(
        "reddit/RC_2018-02",
        [
            {"id": f"c{i}", "parent_id": f"t3_w{i % 8}", "body": words(60), "score": i}
            | {"subreddit": "WritingPrompts", "author": f"writer{i}"}
            for i in range(24)
        ],
    )
    for number in range(5):
        instances = [{"input": words(9), "output": [words(5)]} for _ in range(7)]
        task = {"Definition": [words(20)], "Categories": ["Paraphrasing"], "Instances": instances}
        (root / "natural_instructions").mkdir(exist_ok=True)
        (root / f"natural_instructions/task{number}.json").write_text(json.dumps(task))
    write(
        "alpaca/alpaca.json",
        [{"instruction": words(6), "input": "", "output": words(30)} for _ in range(20)],
    )
    for name in POOLS:
        (root / "authored" / name).mkdir(parents=True)
        shutil.copy(AUTHORED / f"{name}.jsonl", root / "authored" / name)
    (root / "authored" / "diverse" / "leak.md").write_text(
        f"# User\n\n{QUESTION}\n\n# Assistant\n\nA knife, since it needs none.\n"
    )
    return root


def _spec(root: Path, **changes: Any) -> CurateSpec:
    sources = (
        *(SourceSpec(kind, (kind,)) for kind in ("wikihow", "natural_instructions", "alpaca")),
        *(SourceSpec(kind, ("reddit",)) for kind in ("writingprompts", "askreddit")),
        *(
            SourceSpec("authored", (f"authored/{n}",), pool=n)
            for n in ("diverse", "test", "dialogue")
        ),
    )
    arms = (
        ArmSpec(
            "train",
            (
                PartSpec("wikihow", 7, balance="equal"),
                PartSpec("writingprompts", 6, order="score"),
                PartSpec("natural_instructions", 4, balance="equal", per_category=1),
                PartSpec("alpaca", 5),
                PartSpec("diverse"),
            ),
        ),
        ArmSpec("test", (PartSpec("askreddit"), PartSpec("test", 12)), split="test"),
        ArmSpec("train-dialogue", (PartSpec("dialogue", 3),), extends=("train",)),
    )
    return replace(CurateSpec(sources, arms, root=str(root)), **changes)


def test_all_sources_together(root: Path, tmp_path: Path) -> None:
    curation = _curate(_spec(root), tmp_path / "st")
    train, test = _examples(curation, "train"), _examples(curation, "test")
    authored = len((AUTHORED / "diverse.jsonl").read_text().splitlines())
    assert Counter(e.source for e in train) == {
        "wikihow": 7,
        "writingprompts": 6,
        "natural_instructions": 4,
        "alpaca": 5,
        "authored": authored,
    }
    assert Counter(e.source for e in test) == {"askreddit": 8, "authored": 12}
    assert all(len(e.conversation) == 1 for e in test if e.source == "askreddit")
    path = curation.storage.local_path(f"{curation.datasets}/train-dialogue.jsonl")
    dialogue = training_examples(DataSpec(str(path)))
    assert [e.key for e in dialogue[: len(train)]] == [e.key for e in train]
    assert len(dialogue) == len(train) + 3


def test_what_a_test_prompt_says_is_not_trained_on(root: Path, tmp_path: Path) -> None:
    curation = _curate(_spec(root), tmp_path / "st")
    (leak,) = [r for r in _rejections(curation) if r["reason"] == "contaminated"]
    assert (leak["data_set"], leak["source_id"]) == ("train", "leak")
    assert QUESTION[:-1] in leak["evidence"]
    assert "contaminated" in _file(curation, "README.md").decode()


def test_the_same_bytes_from_any_order(root: Path, tmp_path: Path) -> None:
    one = _curate(_spec(root), tmp_path / "one")
    two = _curate(_spec(root), tmp_path / "two", backwards=True)
    names = [e.path.rpartition("/")[2] for e in one.storage.entries(one.datasets)]
    assert len(names) == 7
    assert [_file(one, name) for name in names] == [_file(two, name) for name in names]


def test_every_line_has_an_author_a_licence_and_its_place(root: Path, tmp_path: Path) -> None:
    curation = _curate(_spec(root), tmp_path / "st")
    ledger = list(csv.DictReader(io.StringIO(_file(curation, "attribution.csv").decode())))
    for arm in ("train", "test", "train-dialogue"):
        lines = [row for row in ledger if row["data_set"] == arm]
        examples = _examples(curation, arm)
        assert [int(row["line"]) for row in lines] == list(range(1, len(examples) + 1))
        for row, example in zip(lines, examples, strict=True):
            assert " ".join(example.conversation[0].split()).startswith(row["title"][:60])
    licences = {row["source"]: row["licence"] for row in ledger}
    assert licences["alpaca"] == "CC BY-NC 4.0"
    assert licences["wikihow"] == "CC BY-NC-SA 3.0"


def test_a_licence_policy_empties_its_sources_and_says_so(root: Path, tmp_path: Path) -> None:
    refuse = AssemblySpec(refuse_licences=("*-NC*",))
    with pytest.raises(
        DataError, match=r"(?s)wikihow: 7 asked for, 0 found.*'licence': 18 dropped"
    ):
        _curate(_spec(root, assembly=refuse), tmp_path / "st")
    arms = tuple(replace(arm, exact=False) for arm in _spec(root).arms)
    curation = _curate(_spec(root, assembly=refuse, arms=arms), tmp_path / "st")
    assert {"wikihow", "alpaca"}.isdisjoint(e.source for e in _examples(curation, "train"))
    assert "SHORT: alpaca: 5 asked for, 0 found" in _file(curation, "README.md").decode()


def test_picks_are_made_from_a_run_and_replayed_by_the_next(root: Path, tmp_path: Path) -> None:
    first = _curate(_spec(root), tmp_path / "first")
    shortlist = read_shortlist(first.storage, "writingprompts")
    scores = [(c.score, c.measures["response_score"]) for c in shortlist]
    assert scores == sorted(scores, reverse=True)
    assert len(shortlist) == 24
    picks = Picks()
    for candidate in shortlist[2:20:3]:
        picks.set(candidate, "keep")
    (root / "picks.jsonl").write_bytes(dump_picks(picks.decisions.values()))
    spec = _spec(root)
    sources = tuple(
        replace(s, picks="picks.jsonl" if s.kind == "writingprompts" else None)
        for s in spec.sources
    )
    second = _curate(replace(spec, sources=sources), tmp_path / "second")
    taken = [e.conversation for e in _examples(second, "train") if e.source == "writingprompts"]
    assert sorted(taken) == sorted(c.conversation for c in shortlist[2:20:3])
    assert read_shortlist(second.storage, "writingprompts") == shortlist


def test_the_lima_release_in_table_1_duplicates_and_overlaps(
    shared_data: Path, tmp_path: Path
) -> None:
    sources = (
        SourceSpec("examples", ("lima/lima_llamafactory.json.gz",), pool="lima"),
        SourceSpec("examples", ("lima/lima_test.jsonl",), pool="lima-test"),
    )
    arms = (
        ArmSpec("train", (PartSpec("lima"),)),
        ArmSpec("test", (PartSpec("lima-test", 300),), split="test"),
    )
    tokenizer = AssemblySpec(tokenizer="tokenizer/llama-test-tokenizer.json.gz")
    spec = CurateSpec(sources, arms, root=str(shared_data), assembly=tokenizer)
    curation = _curate(spec, tmp_path)
    assert len(_examples(curation, "train")) == 1028
    assert len(_examples(curation, "test")) == 300
    (overlap,) = _rejections(curation)
    assert overlap["reason"] == "contaminated"
    assert "I'm feeling a bit lonely these days" in overlap["evidence"]
    card = _file(curation, "README.md").decode()
    for row in (
        "| train | wikiHow | 200 | 200 S | 10 | 12 sec | 1753 | 1811 sec |",
        "| train | Natural Instructions | 50 | 50 S | 242 | 236 sec | 93 | 92 sec |",
        "| train | Pushshift r/WritingPrompts | 150 | 150 S | 33 | 34 sec | 273 | 274 sec |",
        "| train | Stack Exchange (both) | 400 | 400 der | 80 | 118 der | 476 | 526 der |",
    ):
        assert row in card
