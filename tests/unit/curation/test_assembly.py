"""Assembly: exact counts, gates with evidence, shortages that say what costs most."""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lima.curation.arms.assembly import Admission, Assembly, Part, assemble, to_jsonl
from lima.curation.arms.edits import parse_patches
from lima.curation.arms.licence_policy import licences, refused
from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.candidates.losses import Losses
from lima.data.examples import load_examples
from lima.errors import DataError
from lima.spec import DataSpec


def _candidate(name: str, category: str = "", text: str = "", licence: str = "") -> Candidate:
    words = random.Random(name)
    body = text or " ".join(f"w{words.randrange(5000)}" for _ in range(60))
    return Candidate(
        "pool", name, (f"prompt {name}", body), category, provenance=Provenance(licence=licence)
    )


class _Pool:
    """Candidates in the order they are offered; counts how many were looked at."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates, self.seen = candidates, 0

    def __call__(self, pool: str, category: str) -> Iterator[Candidate]:
        for candidate in self.candidates:
            if candidate.source == pool and category in ("", candidate.category):
                self.seen += 1
                yield candidate


def _names(arm: Assembly) -> list[str]:
    return [choice.candidate.source_id for choice in arm.chosen]


def test_takes_exact_counts_and_looks_at_no_more() -> None:
    pool = _Pool([_candidate(f"{c}{i}", c) for c in "ab" for i in range(50)])
    arm = assemble([Part("pool", (("a", 3), ("b", 5)))], pool, Admission())
    assert _names(arm) == ["a0", "a1", "a2", "b0", "b1", "b2", "b3", "b4"]
    assert pool.seen == 8
    assert (arm.rejected, arm.moved, arm.shortages) == ([], [], [])


def test_a_larger_arm_holds_the_smaller_one() -> None:
    pool = _Pool([_candidate(f"x{i % 30}") for i in range(40)])
    small, large = (
        _names(assemble([Part("pool", (("", n),))], pool, Admission())) for n in (8, 16)
    )
    assert large[:8] == small


def test_another_category_stands_in_and_it_is_said() -> None:
    sizes = {"a": 1, "b": 9, "c": 9}
    pool = _Pool([_candidate(f"{c}{i}", c) for c, n in sizes.items() for i in range(n)])
    part = Part("pool", (("a", 4), ("b", 4), ("c", 4)))
    arm = assemble([part], pool, Admission())
    taken = Counter(choice.category for choice in arm.chosen)
    assert taken == {"a": 1, "b": 6, "c": 5}
    assert arm.moved == [("pool", "a", -3), ("pool", "b", 2), ("pool", "c", 1)]
    assert not arm.shortages


def test_a_shortage_says_the_numbers_and_the_costliest_filter() -> None:
    pool = _Pool([_candidate(f"a{i}", "a") for i in range(2)])
    losses = Losses.of(
        [(), (), ("short",), ("short", "first_person"), ("first_person",), ("short",)]
    )
    arm = assemble([Part("pool", (("a", 5),))], pool, Admission(), lambda _: losses)
    (shortage,) = arm.shortages
    assert (shortage.asked, shortage.found) == (5, 2)
    assert str(shortage) == (
        "pool: 5 asked for, 2 found among 6 candidates; most are lost to 'short': 3 dropped, "
        "2 by it alone"
    )
    assert arm.moved == []
    nothing = assemble([Part("pool", (("z", 1),))], pool, Admission()).shortages[0]
    assert str(nothing).endswith("0 found among 0 candidates: check the paths of its source")


def test_a_shortage_without_any_filter_to_blame() -> None:
    pool = _Pool([_candidate("a")])
    (shortage,) = assemble([Part("pool", (("", 2),))], pool, Admission()).shortages
    assert str(shortage).endswith(
        "among 1 candidates; no filter dropped any: add more data or ask for less"
    )


def test_gates_count_in_a_shortage() -> None:
    copies = [replace(_candidate("x"), source_id=f"x{i}") for i in range(9)]
    pool = _Pool(copies)
    arm = assemble([Part("pool", (("", 3),))], pool, Admission())
    assert _names(arm) == ["x0"]
    assert arm.shortages[0].losses.costliest == "duplicate"
    assert arm.shortages[0].losses.dropped["duplicate"] == 8


def test_every_gate_gives_its_evidence() -> None:
    held = Candidate("test", "t", ("How do whales sleep in the deep blue sea?",))
    taken = _candidate("taken")
    near = " ".join(taken.conversation[1].split()[:-1])
    offered = [
        _candidate("nc", licence="CC BY-NC-SA 3.0"),
        _candidate("asks", text="They asked: how do whales sleep in the deep blue sea, then?"),
        replace(taken, source_id="copy"),
        replace(taken, source_id="near", conversation=(taken.conversation[0], near)),
        replace(held, source="test", source_id="t"),
        taken,
        _candidate("good"),
    ]
    admission = Admission(refuse_licences=["*NC*"], heldout=[held])
    admission.admit(taken)
    pool = _Pool([replace(c, source="pool") if c is not offered[4] else c for c in offered])
    arm = assemble([Part("pool", (("", 1),)), Part("test", (("", 1),))], pool, admission)
    assert _names(arm) == ["good"]
    said = {r.candidate.source_id: r.objection for r in arm.rejected}
    assert {name: objection.reason for name, objection in said.items()} == {
        "nc": "licence",
        "asks": "contaminated",
        "copy": "duplicate",
        "near": "near_duplicate",
        "t": "taken",
        "taken": "taken",
    }
    assert said["nc"].evidence == "CC BY-NC-SA 3.0"
    assert said["asks"].evidence == (
        "9 words, 100% of the prompt: how do whales sleep in the deep blue sea"
    )
    assert said["asks"].other == held.key
    assert said["near"].evidence.startswith("Jaccard similarity 0.9")
    assert said["copy"].other == said["near"].other == taken.key


def test_the_file_loads_here_and_with_hugging_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [
        (("Line\nbreak “quoted” \u2028 and 🦙?", "Yes, 100 %."), "authored"),
        (("a", "b", "c", "d"), "dialogue"),
    ]
    path = tmp_path / "train.jsonl"
    path.write_bytes(to_jsonl(pairs))
    examples = load_examples(DataSpec(str(path)))
    assert [(e.conversation, e.source) for e in examples] == pairs
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    loaded = datasets.load_dataset(
        "json", data_files=str(path), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert [(tuple(r["conversations"]), r["source"]) for r in loaded] == pairs


# Licences

BY_NC = (
    "https://creativecommons.org/licenses/by-nc/4.0/",
    "http://www.creativecommons.org/licenses/by-nc/4.0/legalcode",
    "Creative Commons Attribution-NonCommercial 4.0",
    "Creative Commons Attribution Non Commercial 4.0 International",
    "CC_BY_NC_4.0",
    "CC BY\u2011NC 4.0",
    "(CC BY-NC 4.0)",
    "cc-by-nc/4.0",
    "under CC BY-NC v4.0",
)


@pytest.mark.parametrize(
    ("text", "name", "terms"),
    [
        ("CC BY-SA 4.0", "CC BY-SA 4.0", (True, True, False)),
        ("cc-by-sa-3.0", "CC BY-SA 3.0", (True, True, False)),
        ("CC BY-NC-SA", "CC BY-NC-SA", (True, True, True)),
        ("CC BY-NC 4.0", "CC BY-NC 4.0", (True, False, True)),
        ("Apache 2.0", "Apache-2.0", (True, False, False)),
        ("CC0", "CC0 1.0", (False, False, False)),
        ("", "none stated", (True, False, False)),
        ("Unknown", "none stated", (True, False, False)),
        ("My own", "My own", (True, False, False)),
        *((text, "CC BY-NC 4.0", (True, False, True)) for text in BY_NC),
        ("CC BY-SA-NC 4.0", "CC BY-NC-SA 4.0", (True, True, True)),
        ("Attribution, NonCommercial, NoDerivatives 3.0", "CC BY-NC-ND 3.0", (True, False, True)),
        ("CC BY 4.0 (non-commercial)", "CC BY-NC 4.0", (True, False, True)),
        ("CC BY-NC (2023)", "CC BY-NC", (True, False, True)),
        ("CC BY 4", "CC BY 4.0", (True, False, False)),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0 1.0", (False, False, False)),
        ("Attribution required", "Attribution required", (True, False, False)),
    ],
)
def test_licences_by_name(text: str, name: str, terms: tuple[bool, bool, bool]) -> None:
    (found,) = licences(text)
    assert found.name == name
    assert (found.attribution, found.share_alike, found.non_commercial) == terms


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("CC BY-SA 3.0/4.0", ["CC BY-SA 3.0", "CC BY-SA 4.0"]),
        ("CC BY-NC 4.0, MIT", ["CC BY-NC 4.0", "MIT"]),
        ("MIT/CC BY 4.0", ["MIT", "CC BY 4.0"]),
        ("Apache-2.0 or My own", ["Apache-2.0", "My own"]),
        ("My own, and yours", ["My own, and yours"]),
    ],
)
def test_several_licences_in_one_text(text: str, names: list[str]) -> None:
    assert [found.name for found in licences(text)] == names


def test_a_policy_refuses_by_glob() -> None:
    assert [found.name for found in licences("Apache-2.0 / CC BY-SA 4.0")] == [
        "Apache-2.0",
        "CC BY-SA 4.0",
    ]
    assert refused("Apache-2.0 / CC BY-NC 4.0", ["*nc*"]) == "CC BY-NC 4.0"
    for text in BY_NC:
        assert refused(text, ["CC BY-NC*"]) == "CC BY-NC 4.0"
        assert refused(text, ["cc-by-nc-4.0"]) == "CC BY-NC 4.0"
    assert refused("", ["none stated"]) == "none stated"
    assert refused("CC BY-SA 4.0", ["*NC*", "none stated", "Reddit*"]) == ""


# Patches


def _patch(**changes: object) -> bytes:
    import json

    patch = {"source": "pool", "source_id": "a", "utterance": 2, "find": "teh", "replace": "the"}
    return json.dumps({**patch, **changes}).encode() + b"\n"


def test_patches_edit_and_are_told() -> None:
    patches = parse_patches(_patch() + _patch(utterance=1, find="prompt", replace="Prompt"), "p")
    edited = patches.apply(_candidate("a", text="see teh cat"))
    assert edited.conversation == ("Prompt a", "see the cat")
    assert edited.provenance.changes == "edited by hand"
    assert edited.key == _candidate("a").key
    assert patches.apply(_candidate("b")) == _candidate("b")
    assert patches.unused() == []


@pytest.mark.parametrize("text", ["no such word", "teh teh"])
def test_a_patch_for_another_text_drops_the_candidate(text: str) -> None:
    patches = parse_patches(_patch() + _patch(source_id="b"), "p")
    assert patches.apply(_candidate("a", text=text)).reasons == ("patch_failed",)
    assert patches.unused() == [("pool", "b")]


@pytest.mark.parametrize(
    "line", [b"{", b"{}", _patch(utterance=0), _patch(find=""), _patch(replace="teh")]
)
def test_what_is_no_patch_is_named(line: bytes) -> None:
    with pytest.raises(DataError, match=r"patches\.jsonl:2"):
        parse_patches(_patch() + line, "patches.jsonl")
