"""Authored examples and the LIMA release, in every layout."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lima.curation.candidates.candidate import Candidate
from lima.curation.card.table1 import paper_row, table1, token_counter
from lima.curation.reading.damage import Damage
from lima.curation.sources import authored, lima_release
from lima.curation.text.style import acknowledges, style_warnings
from lima.data.layouts import conversation
from lima.errors import DataError


def _write(path: Path, *records: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return str(path)


def _unpacked(path: Path) -> Any:
    return json.loads(gzip.decompress(path.read_bytes()))


def _strict() -> Damage:
    return Damage(strict=True)


# Authored examples


MARKDOWN = """---
authors: [Ada Example]
licence: CC BY 4.0
---
# User

How do I write a heading?

```markdown
# Assistant
```

# Assistant

A heading is a line with a `#`.
"""


def test_markdown_examples(tmp_path: Path) -> None:
    (tmp_path / "structure").mkdir()
    (tmp_path / "structure" / "heading.md").write_text(MARKDOWN)
    (tmp_path / "prompt.md").write_text("## Prompt:\r\n\r\nOnly a prompt\r\n")
    only, heading = authored.read([str(tmp_path)], damage=_strict())
    assert heading.conversation == (
        "How do I write a heading?\n\n```markdown\n# Assistant\n```",
        "A heading is a line with a `#`.",
    )
    assert (heading.source_id, heading.category) == ("structure/heading", "structure")
    assert heading.provenance.authors == ("Ada Example",)
    assert heading.provenance.licence == "CC BY 4.0"
    assert only.conversation == ("Only a prompt",)
    assert (only.category, only.measures) == ("", {})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Hello\n# User\nx", "before the first heading"),
        ("# Assistant\nx", "out of turn"),
        ("# User\nx\n# User\ny", "out of turn"),
        ("# User\n\n# Assistant\nx", "utterance 1"),
        ("---\na: [\n---\n# User\nx", "YAML"),
        ("", "no conversation"),
        (b"# User\n\xff", "utf-8"),
    ],
)
def test_markdown_that_is_no_example(tmp_path: Path, text: str | bytes, told: str) -> None:
    (tmp_path / "a.md").write_bytes(text if isinstance(text, bytes) else text.encode())
    (tmp_path / "b.md").write_text("# User\nfine")
    damage = Damage()
    assert len(list(authored.read([str(tmp_path)], damage=damage))) == 1
    ((where,),) = damage.examples.values()
    assert told in where
    assert "a.md" in where
    with pytest.raises(DataError, match="strict=false"):
        list(authored.read([str(tmp_path)], damage=_strict()))


@pytest.mark.parametrize(
    "record",
    [
        {"conversations": ["a", "b"]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
        {"instruction": "a", "input": "", "output": "b", "history": []},
        {"prompt": "a", "response": "b"},
    ],
)
def test_layouts(record: dict[str, Any]) -> None:
    assert conversation(record) == ("a", "b")


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"conversations": []},
        {"conversations": ["a", ""]},
        {"conversations": ["a", 3]},
        {"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "a"}]},
    ],
)
def test_what_is_no_conversation(record: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"utterance|layout"):
        conversation(record)


def test_history_comes_first() -> None:
    record = {"instruction": "c", "input": "", "output": "d", "history": [["a", "b"]]}
    assert conversation(record) == ("a", "b", "c", "d")


def test_style_of_authored_examples(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "a.jsonl",
        {"prompt": "How do volcanoes erupt?", "response": "Volcanoes erupt when " + "x" * 40},
        {"prompt": "How do volcanoes erupt?", "response": "Pressure! I say, I, I, I! " + "!" * 40},
        {"prompt": "Make a bomb", "response": "Take powder. " + "x" * 40, "category": "safety"},
        {"prompt": "Make a bomb", "response": "I cannot help: " + "x" * 40, "category": "safety"},
    )
    found = list(authored.read([path], damage=_strict()))
    warned = [style_warnings(c) for c in found]
    assert warned[0] == ()
    assert len(warned[1]) == 3
    assert "a safety example that neither declines nor warns" in warned[2]
    assert not any("safety" in warning for warning in warned[3])
    assert all(c.keep for c in found)


def test_most_of_limas_own_answers_acknowledge_the_question(shared_data: Path) -> None:
    path = str(shared_data / "lima" / "lima_llamafactory.json.gz")
    shares = {}
    for source in ("authored", "writingprompts"):
        pairs = [c.conversation for c in _release(path) if c.source == source]
        shares[source] = sum(acknowledges(*pair) for pair in pairs) / len(pairs)
    assert shares["authored"] > 0.8
    assert shares["writingprompts"] < 0.4


def test_the_examples_that_ship_here_read_as_authored() -> None:
    folder = Path(__file__).parents[4] / "lima" / "authored"
    lines = sum(len(path.read_text("utf-8").splitlines()) for path in folder.glob("*.jsonl"))
    found = list(authored.read([str(folder)], damage=_strict()))
    assert len(found) == lines
    assert len({c.key for c in found}) == lines


# The LIMA release


def _release(*paths: str) -> list[Candidate]:
    return list(lima_release.read(paths, damage=_strict()))


def test_the_release_reads_in_from_both_layouts(shared_data: Path) -> None:
    found = _release(str(shared_data / "lima"))
    train = [c for c in found if len(c.conversation) > 1]
    test = [c for c in found if len(c.conversation) == 1]
    assert (len(train), len(test)) == (1029, 300)
    assert Counter(c.source for c in train) == {
        "stackexchange": 400,
        "wikihow": 200,
        "authored": 200,
        "writingprompts": 150,
        "natural_instructions": 50,
        "dialogue": 29,
    }
    assert all(len(c.conversation) >= 4 for c in train if c.source == "dialogue")
    assert len({c.key for c in found}) == 1329
    records = _unpacked(shared_data / "lima" / "lima_llamafactory.json.gz")
    assert [c.conversation[-1].strip() for c in train] == [r["output"].strip() for r in records]


def test_table_1_of_the_release_is_that_of_the_paper(shared_data: Path) -> None:
    """The sources are right: lengths agree with the paper's, source by source."""
    count = token_counter(str(shared_data / "tokenizer" / "llama-test-tokenizer.json.gz"))
    train = [c for c in _release(str(shared_data / "lima")) if len(c.conversation) > 1]
    found = table1((("train", c.source, c.conversation) for c in train), count)
    rows = {row.source: row for row in found}
    for source in ("wikihow", "authored", "writingprompts", "natural_instructions"):
        paper = paper_row(rows[source])
        assert paper is not None
        assert rows[source].count == paper.count
        # The paper counts the start and the end of an utterance, which are left out here.
        assert paper.prompt_tokens is not None
        assert rows[source].prompt_tokens == pytest.approx(paper.prompt_tokens, abs=7)
        assert rows[source].response_tokens == pytest.approx(paper.response_tokens, rel=0.04)


def test_the_original_names_its_sources(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "train.jsonl",
        {"conversations": ["a", "b"], "source": "pushshift_r_writing_prompts"},
        {"conversations": ["c", "d"], "source": "mine"},
        {"conversations": ["e", "f"]},
    )
    found = list(lima_release.read([path], damage=_strict(), licence="CC0 1.0"))
    assert [c.source for c in found] == ["writingprompts", "mine", "train"]
    assert [c.provenance.licence for c in found] == ["CC0 1.0"] * 3
