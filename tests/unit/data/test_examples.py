"""Examples in LIMA's layout: what is refused, and how that is said."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lima.data.examples import load_examples
from lima.errors import DataError
from lima.spec import DataSpec

GOOD = json.dumps({"conversations": ["prompt", "response"], "source": "test"})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"conversations": ["a\\ud800", "b"]}', "utterance 1 holds half of a surrogate pair"),
        ('{"conversations": ["a", "\\udc00b"]}', "utterance 2 holds half of a surrogate pair"),
        (
            '{"conversations": ["a", "b"], "source": "\\ud800"}',
            "source holds half of a surrogate pair",
        ),
        ('{"conversations": ["a", "b"], "source": ["x"]}', '"source" must be a text'),
        ('{"conversations": ["a", "b"], "n": %s}' % ("1" * 5000), "thousands of digits"),
        ("[" * 100_000, "lists within lists without end"),
        ('{"conversations": ["a", "b"]', "not JSON"),
        ("3", "not a record with keys"),
        ('{"conversations": ["a", 3]}', "utterance 2 is not text"),
        ('{"conversations": []}', "no conversation in a known layout"),
        ('{"prompt": "a", "output": ""}', "utterance 2 is an empty response"),
        ('{"instruction": "a", "completion": "b", "output": "c"}', "which of them is meant?"),
        ('{"prompt": "a", "completion": "b", "label": 0}', "people turned down"),
        ('{"prompt": "a", "response": "b", "weight": 0}', "weight is 0"),
        ('{"prompt": "a", "response": "b", "system_message": "c"}', "system_message: no place"),
        (
            '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}]}',
            "utterance 1: no place for a system prompt",
        ),
        (
            '{"messages": [{"role": "user", "content": "a"}, '
            '{"role": "assistant", "content": "b", "weight": 0}]}',
            "weight is 0",
        ),
        ('{"conversations": ["a", "b", " "]}', "utterance 3 is an empty prompt"),
    ],
)
def test_a_line_that_is_no_example(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text(f"{GOOD}\n{line}\n", "utf-8")
    with pytest.raises(DataError) as error:
        load_examples(DataSpec(str(file)))
    assert str(error.value).startswith(f"{file}:2: ")
    assert message in str(error.value)


def test_a_whole_surrogate_pair_is_a_character(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    file.write_text('{"conversations": ["\\ud83d\\ude00", "b"]}\n', "utf-8")
    (example,) = load_examples(DataSpec(str(file)))
    assert example.conversation == ("\U0001f600", "b")
    assert len(example.key) == 64


def test_turns_and_sources_are_filtered_before_the_sample(tmp_path: Path) -> None:
    file = tmp_path / "examples.jsonl"
    lines = [
        {"conversations": [f"q{i}", "a", "q", "a"][: 2 + 2 * (i % 2)], "source": f"s{i % 3}"}
        for i in range(12)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    spec = DataSpec(str(file), sources=("s0", "s1"), max_turns=1)
    assert [e.conversation[0] for e in load_examples(spec)] == ["q0", "q4", "q6", "q10"]
    assert [e.turns for e in load_examples(replace(spec, max_turns=2))].count(2) == 4
    with pytest.raises(DataError, match="5 examples are asked for, 4 match"):
        load_examples(replace(spec, count=5))
    file.write_text(json.dumps(lines[1]))
    with pytest.raises(DataError, match="no examples of at most 1 turns with a source like s0, s1"):
        load_examples(spec)


@pytest.mark.parametrize("path", ["gone.jsonl", "~nosuchuser/x.jsonl", "x" * 5000])
def test_a_file_that_cannot_be_read(path: str) -> None:
    with pytest.raises(DataError, match=r"cannot be read \("):
        load_examples(DataSpec(path))
