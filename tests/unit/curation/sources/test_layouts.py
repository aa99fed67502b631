"""Rows of data sets are read whole or named as damage, and claim no licence that nothing proves."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.curation.reading.damage import Damage
from lima.curation.sources import lima_release
from lima.curation.sources.lima_release import LICENCE, URL, released_as
from lima.data.examples import load_examples, training_examples
from lima.data.layouts import CONTENT, LAYOUTS, METADATA, Layout, conversation
from lima.errors import DataError
from lima.recipes.curation import curate_alpaca
from lima.recipes.paper import alpaca_65b
from lima.spec import DataSpec
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from tests.helpers.curation.curating import curate

SAYS = [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]


def write(path: Path, *records: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return str(path)


def run(folder: Path, *sources: SourceSpec, exact: bool = False) -> dict[str, Any]:
    """Curate an arm for training of all sources."""
    parts = tuple(PartSpec(source.pool or source.kind) for source in sources)
    arm = ArmSpec("train", parts, exact=exact)
    return curate(CurateSpec(sources, (arm,)), folder / "out")


def lines(folder: Path, name: str = "train") -> list[dict[str, Any]]:
    (path,) = (folder / "out" / "datasets").rglob(f"{name}.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: json.dumps(layout.record))
def test_every_layout_is_read_as_the_reference_says(layout: Layout) -> None:
    assert conversation(layout.record, chosen=layout.chosen) == layout.conversation


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"instruction": "p", "input": "", "output": ""}, "utterance 2"),
        ({"prompt": "p", "chosen": "r", "rejected": "x"}, "chosen, rejected"),
        ({"chosen": SAYS, "rejected": SAYS}, "no conversation"),
        ({"system": "Be rude.", "prompt": "p", "response": "r"}, "system"),
        ({"system": "Be rude.", "conversations": ["p", "r"]}, "system"),
        ({"tools": "[{}]", "messages": SAYS}, "tools"),
        ({"messages": [SAYS[0], {**SAYS[1], "tool_calls": [{}]}]}, "tool_calls"),
        ({"messages": [{"role": "system", "content": "s"}, *SAYS]}, "a system prompt"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "not text"),
        ({"messages": SAYS, "output": "another"}, "output"),
        ({"conversations": ["p"], "response": "r"}, "response"),
        ({"prompt": "p", "reply": "r"}, "reply"),
        ({"prompt": "p", "answers": ["r"]}, "answers"),
        ({"question": "p", "answer": "r"}, "answer, question"),
        ({"instruction": "p", "output": "r", "response": "x"}, "output and response"),
        ({"instruction": "p", "input": {"a": 1}, "output": "r"}, "input is not text"),
        ({"instruction": "p", "context": "c", "input": "d", "output": "r"}, "input and context"),
        ({"prompt": "p", "input": "c", "history": "x", "output": "r"}, "history"),
        ({"prompt": [SAYS[0]], "input": "c", "output": "r"}, "input"),
        ({"prompt": ["p"], "output": "r"}, "list of texts"),
        ({"prompt": "p", "response": ["r1", "r2"]}, "list of texts"),
        ({"prompt": "p", "completion": "r", "label": False}, "turned down"),
        ({"messages": [SAYS[0], {**SAYS[1], "thinking": "Hm."}]}, "thinking"),
        ({"id": "1", "system_prompt": "s", "question": "p", "response": "r"}, "no conversation"),
        ({"instruction": "p", "instances": [{"input": "", "output": "r"}]}, "instances"),
        ({"question_id": 1, "turns": ["p1", "p2"]}, "no conversation"),
        ({"inputs": "p", "targets": "r"}, "no conversation"),
    ],
)
def test_what_would_lose_text_is_refused(record: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        conversation(record)


def test_a_chosen_text_needs_its_prompt() -> None:
    with pytest.raises(ValueError, match="without a prompt"):
        conversation({"chosen": "Human: p Assistant: r", "rejected": "x"}, chosen=True)


def test_what_only_repeats_an_utterance_is_no_loss() -> None:
    assert conversation({"prompt": "p", "prompt_id": "7", "messages": SAYS}) == ("p", "r")
    row = {"prompt": "p", "chosen": SAYS, "rejected": SAYS, "messages": SAYS}
    assert conversation(row, chosen=True) == ("p", "r")
    assert conversation({"system": "", "tools": None, "messages": SAYS}) == ("p", "r")


KEYS = sorted(CONTENT | {"reply", "text", "id", "source"})


@given(st.sets(st.sampled_from(KEYS)), st.booleans())
def test_every_text_is_read_or_the_row_is_refused(keys: set[str], chosen: bool) -> None:
    record = {key: f"text of {key}" for key in keys}
    try:
        said = "\n".join(conversation(record, chosen=chosen))
    except ValueError:
        return
    unread = {key for key in keys - METADATA if f"text of {key}" not in said}
    assert unread <= ({"rejected"} if chosen else set()) | {"reply", "text"}
    if unread - {"rejected"}:
        assert len(conversation(record, chosen=chosen)) == 2, "only beside a response"


def test_rows_of_known_layouts_keep_their_responses(tmp_path: Path) -> None:
    write(
        tmp_path / "in" / "rows.jsonl",
        {"instruction": "Explain rainbows", "context": "Light.", "response": "Drops bend light."},
        {"prompt": "Explain the tides", "completion": "The moon pulls at the sea."},
        {"prompt": "Explain why ice floats", "output": "It is lighter than water."},
        {"prompt": "Explain soap", "chosen": "It binds fat and water.", "rejected": "Magic."},
        {"instruction": "Explain thunder", "input": "", "output": ""},
    )
    rows = SourceSpec("examples", (str(tmp_path / "in"),))
    summary = run(tmp_path, rows)

    assert sorted(row["conversations"] for row in lines(tmp_path)) == [
        ["Explain rainbows\n\nLight.", "Drops bend light."],
        ["Explain the tides", "The moon pulls at the sea."],
        ["Explain why ice floats", "It is lighter than water."],
    ]
    damage = summary["damage"]["not an example"]
    assert damage["count"] == 2
    assert [place.partition(": ")[0][-7:] for place in damage["examples"]] == ["jsonl:4", "jsonl:5"]

    run(tmp_path / "chosen", SourceSpec("examples", rows.paths, chosen=True))
    assert ["Explain soap", "It binds fat and water."] in [
        row["conversations"] for row in lines(tmp_path / "chosen")
    ]


def test_training_data_takes_no_prompt_without_a_response(tmp_path: Path) -> None:
    write(tmp_path / "in" / "rows.jsonl", {"prompt": "Explain rainbows"}, {"prompt": "And dew"})
    source = SourceSpec("examples", (str(tmp_path / "in"),))
    (arm,) = run(tmp_path, source)["arms"]
    assert (arm["examples"], arm["turned_away"]) == (0, 2)
    exact = CurateSpec((source,), (ArmSpec("train", (PartSpec("examples", 1),)),))
    with pytest.raises(DataError, match="lost to 'no_response'"):
        curate(exact, tmp_path / "exact")
    test = CurateSpec((source,), (ArmSpec("test", (PartSpec("examples", 2),), split="test"),))
    assert curate(test, tmp_path / "test")["arms"][0]["examples"] == 2


@pytest.mark.parametrize("beside", [{"system": "Be rude."}, {"output": "r"}, {"tools": ["t"]}])
def test_training_reads_no_row_by_halves(tmp_path: Path, beside: dict[str, Any]) -> None:
    good = {"conversations": ["p", "r"], "system": "", "id": "7"}
    assert len(load_examples(DataSpec(write(tmp_path / "good.jsonl", good)))) == 1
    path = write(tmp_path / "a.jsonl", good, {"conversations": ["p", "x"], **beside})
    with pytest.raises(DataError, match=rf"a\.jsonl:2: {next(iter(beside))}"):
        load_examples(DataSpec(path))


def test_alpaca_rows_with_more_than_alpaca_are_damaged(tmp_path: Path) -> None:
    row = {"instruction": "Sum up.", "input": "", "output": "Short."}
    path = write(
        tmp_path / "a.jsonl", row, {**row, "system": "s"}, {**row, "history": [["a", "b"]]}
    )
    summary = run(tmp_path, SourceSpec("alpaca", (path,)))
    assert summary["damage"]["not in Alpaca's layout"]["count"] == 2


def test_the_recipes_of_alpaca_fit_together(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"Say number {n}.", "input": "", "output": f"It is {n}." * (n % 13 > 0)}
        for n in range(52)
    ]
    write(tmp_path / "alpaca" / "alpaca_data.json", *rows)
    (cell,) = curate_alpaca()
    assert cell.curate is not None
    curate(CurateSpec(cell.curate.sources, cell.curate.arms, root=str(tmp_path)), tmp_path / "out")
    (path,) = (tmp_path / "out" / "datasets").rglob("alpaca.jsonl")

    (trained,) = alpaca_65b()
    assert trained.train is not None
    data = trained.train.data
    assert len(training_examples(DataSpec(str(path), count=data.count))) == 48


# Provenance


def made_up(count: int) -> list[dict[str, Any]]:
    return [
        {
            "instruction": f"What is {n} times three?",
            "input": "",
            "output": f"It is {3 * n}, surely.",
        }
        for n in range(count)
    ]


@pytest.mark.parametrize("licence", ["", "CC0 1.0", "CC BY-NC 4.0"])
@pytest.mark.parametrize("count", [1000, 1030])
def test_a_file_of_the_releases_size_is_not_the_release(
    tmp_path: Path, count: int, licence: str
) -> None:
    rows = made_up(count)
    for row in rows[1000:]:
        row["history"] = [["And before?", f"Before {row['output']}"]]
    path = write(tmp_path / "mine.jsonl", *rows)
    found = list(lima_release.read([path], damage=Damage(strict=True), licence=licence))
    assert {c.source for c in found} == {"mine"}
    assert {(c.provenance.url, c.provenance.licence) for c in found} == {("", licence)}


def test_the_card_of_ones_own_thousand_shows_no_line_of_the_paper(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.jsonl", *made_up(1000))
    run(tmp_path, SourceSpec("examples", (path,), licence="CC0 1.0"))
    (card,) = (tmp_path / "out" / "datasets").rglob("README.md")
    text = card.read_text("utf-8")
    assert "CC0 1.0" in text
    assert "CC BY-NC" not in text
    assert not any(line.startswith("| train | wikiHow") for line in text.splitlines())
    assert "| train | mine |" in text


def test_names_alone_prove_nothing(tmp_path: Path) -> None:
    names = ["multi_turn", "paper_authors_a", "wikihow", "stackexchange"]
    rows = [{"conversations": ["p", "r"], "source": name} for name in names]
    path = write(tmp_path / "train.jsonl", *rows)
    found = list(lima_release.read([path], damage=Damage(strict=True)))
    assert {(c.provenance.url, c.provenance.licence) for c in found} == {("", "")}


def test_the_words_of_the_release_prove_it_in_any_order(shared_data: Path, tmp_path: Path) -> None:
    found = list(lima_release.read([str(shared_data / "lima")], damage=Damage(strict=True)))
    pairs = [c for c in found if len(c.conversation) > 1]
    assert {(c.provenance.url, c.provenance.licence) for c in pairs} == {(URL, LICENCE)}

    mixed = [{"conversations": [f" {t}\n" for t in c.conversation]} for c in pairs[::-7]]
    path = write(tmp_path / "some.jsonl", *mixed, *made_up(3))
    some = list(lima_release.read([path], damage=Damage(strict=True)))
    assert [c.source for c in some] == [*(c.source for c in pairs[::-7]), *["some"] * 3]
    assert [bool(c.provenance.licence) for c in some[-4:]] == [True, False, False, False]

    declared = list(lima_release.read([path], damage=Damage(strict=True), licence="CC BY 4.0"))
    assert {c.provenance.licence for c in declared} == {"CC BY 4.0"}, "what a user says stands"


def test_a_short_question_is_nobodys(shared_data: Path) -> None:
    texts = (shared_data / "lima" / "lima_test.jsonl").read_text("utf-8").splitlines()
    prompts = [json.loads(line)["conversations"] for line in texts]
    prompts = [p if isinstance(p, list) else [p] for p in prompts]
    short = [p for p in prompts if len(p[0].split()) < 5]
    long = [p for p in prompts if len(p[0].split()) > 20]
    assert short
    assert not any(released_as(p) for p in short)
    assert all(released_as(p) for p in long)
    assert not any(released_as([p[0] + " More"]) for p in long)


@pytest.mark.parametrize(
    ("kind", "name", "record", "presumed"),
    [
        ("wikihow", "a.jsonl", {"title": "How to Nap", "text": "Lie down."}, "CC BY-NC-SA 3.0"),
        ("alpaca", "a.jsonl", {"instruction": "a", "output": "b"}, "CC BY-NC 4.0"),
        (
            "natural_instructions",
            "task1_x.json",
            {
                "Categories": ["Paraphrasing"],
                "Definition": "Say.",
                "Instance License": ["MIT"],
                "Instances": [{"input": "a", "output": "b"}],
            },
            "Apache-2.0 / MIT",
        ),
        ("authored", "a.jsonl", {"prompt": "a", "response": "b", "licence": "MIT"}, "MIT"),
        ("examples", "a.jsonl", {"prompt": "a", "response": "b", "license": "MIT"}, "MIT"),
        ("examples", "a.jsonl", {"prompt": "a", "response": "b", "license": ["MIT"]}, ",MIT,"),
        ("authored", "a.jsonl", {"prompt": "a", "response": "b", "licence": {"x": "MIT"}}, ",MIT,"),
    ],
)
def test_a_declared_licence_stands_unless_the_file_names_one(
    tmp_path: Path, kind: Any, name: str, record: dict[str, Any], presumed: str
) -> None:
    path = write(tmp_path / "in" / name, record)
    expected = {"Apache-2.0 / MIT": "CC0 1.0 / MIT", "MIT": "MIT", ",MIT,": ",MIT,"}.get(
        presumed, "CC0 1.0"
    )
    for licence, told in (("", presumed), ("CC0 1.0", expected)):
        folder = tmp_path / (licence or "none")
        run(folder, SourceSpec(kind, (path,), licence=licence))
        (ledger,) = (folder / "out" / "datasets").rglob("attribution.csv")
        assert told in ledger.read_text("utf-8")
        assert (licence in ledger.read_text("utf-8")) == (licence in told)
