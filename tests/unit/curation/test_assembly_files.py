"""What goes with a data set: attribution ledger, table 1, dataset card."""

import csv
import gzip
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml
from markdown_it import MarkdownIt

from lima.curation.arms.assembly import Admission, Part, assemble, to_jsonl
from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.candidates.losses import Losses
from lima.curation.card.attribution import entries, ledger_csv, ledger_markdown
from lima.curation.card.data_set_card import Arm, dataset_card
from lima.curation.card.table1 import PAPER, Row, table1, to_markdown, token_counter
from lima.curation.reading.damage import Damage
from lima.errors import ModelError

ANSWER = Candidate(
    "stackexchange/ai.stackexchange.com",
    "1/2",
    ("What is *backprop*?\n\n[really]", "The chain rule."),
    "ai.stackexchange.com",
    provenance=Provenance(
        url="https://ai.stackexchange.com/a/2",
        authors=("Ada [x](http://evil.org) <https://ai.stackexchange.com/users/7>", "<b>Bob</b>"),
        licence="CC BY-SA 4.0",
        created=datetime(2016, 8, 2, tzinfo=UTC),
        changes="links pruned",
    ),
)
EVIL = Candidate(
    "authored",
    "=cmd()",
    ("=HYPERLINK(1)\n# Heading", "ok"),
    provenance=Provenance(url="javascript:alert(1)", licence=""),
)


def test_the_ledger_as_csv() -> None:
    found = list(csv.DictReader(io.StringIO(ledger_csv(entries("train", [ANSWER, EVIL])))))
    assert found[0] == {
        "data_set": "train",
        "line": "1",
        "source": "stackexchange/ai.stackexchange.com",
        "source_id": "1/2",
        "title": "What is *backprop*? [really]",
        "authors": "Ada [x](http://evil.org) <https://ai.stackexchange.com/users/7>; <b>Bob</b>",
        "url": "https://ai.stackexchange.com/a/2",
        "licence": "CC BY-SA 4.0",
        "licence_url": "https://creativecommons.org/licenses/by-sa/4.0/",
        "created": "2016-08-02",
        "changes": "links pruned",
    }
    assert found[1]["source_id"] == "'=cmd()"
    assert (found[1]["authors"], found[1]["licence"]) == ("author unknown", "none stated")


def test_the_ledger_as_markdown_shows_what_is_there_and_runs_nothing() -> None:
    ledger = [*entries("train", [EVIL, ANSWER]), *entries("more", [ANSWER])]
    text = ledger_markdown(ledger, "LIMA_like")
    html = MarkdownIt("commonmark", {"html": True}).render(text)
    assert '<a href="https://ai.stackexchange.com/a/2">What is *backprop*? [really]</a>' in html
    assert '<a href="https://ai.stackexchange.com/users/7">Ada [x](http://evil.org)</a>' in html
    assert '<a href="https://creativecommons.org/licenses/by-sa/4.0/">CC BY-SA 4.0</a>' in html
    assert "2016-08-02" in html
    assert "changes: links pruned; train:2, more:1" in html
    assert html.count("backprop") == 1
    assert "<b>" not in html
    assert "javascript:" not in html
    assert html.count("<h2>") == 2
    assert "1 under" in html


def test_table_1_counts_tokens_of_all_turns() -> None:
    def count(texts: list[str]) -> list[int]:
        return [len(text.split()) for text in texts]

    rows = table1(
        [
            ("train", "authored", ("a b", "c d e", "f", "g")),
            ("train", "authored", ("a", "c")),
            ("test", "authored", ("a b c",)),
        ],
        count,  # type: ignore[arg-type]
    )
    assert rows == [Row("train", "authored", 2, 2.0, 2.5), Row("test", "authored", 1, 3.0, None)]
    assert table1([("dev", "x", ("a",))], None) == [Row("dev", "x", 1, None, None)]


def test_table_1_stands_beside_the_papers_with_its_marks() -> None:
    text = to_markdown([Row("train", "wikihow", 20, 11.6, 1750.2), Row("test", "mine", 3)], "t")
    assert "| train | wikiHow | 20 | 200 S | 12 | 12 sec | 1750 | 1811 sec |" in text
    assert "| test | mine | 3 |  | – |  | – |  |" in text
    assert "S: stated in the paper's text; sec: from a public" in text
    assert "der:" not in text


def test_the_papers_counts_add_up() -> None:
    totals = {
        s: sum(row.count for row in PAPER if row.split == s) for s in ("train", "dev", "test")
    }
    assert totals == {"train": 1000, "dev": 50, "test": 300}


def test_tokenizers_from_files_and_folders(shared_data: Path, tmp_path: Path) -> None:
    packed = shared_data / "tokenizer" / "llama-test-tokenizer.json.gz"
    texts = ["Hello world", "", "a\nb"]
    from transformers import PreTrainedTokenizerFast

    (tmp_path / "tokenizer.json").write_bytes(gzip.decompress(packed.read_bytes()))
    folder = tmp_path / "folder"
    PreTrainedTokenizerFast(tokenizer_file=str(tmp_path / "tokenizer.json")).save_pretrained(folder)
    counts = [
        token_counter(str(name))(texts) for name in (packed, tmp_path / "tokenizer.json", folder)
    ]
    assert counts[0] == counts[1] == counts[2]
    assert counts[0][0] == 2
    with pytest.raises(ModelError, match="no tokenizer can be loaded"):
        token_counter(str(tmp_path / "none"))


@pytest.fixture
def card() -> str:
    held = Candidate("askreddit", "q", ("How do whales sleep in the deep blue sea?",))
    overlapping = Candidate("authored", "x", (held.conversation[0], "Half awake."), "safety")
    offered = [overlapping, ANSWER]
    arm = assemble(
        [Part("authored", (("", 3),))],
        lambda *_: iter(offered),
        Admission(heldout=[held]),
        lambda _: Losses.of([(), (), ("short",)]),
    )
    damage = Damage()
    damage.note("Posts.xml: row 3", "row is too long", "5 MB")
    arms = [
        Arm("train", "train", [c.candidate for c in arm.chosen], arm),
        Arm("test", "test", [held], assemble([], lambda *_: iter(()), Admission())),
    ]
    return dataset_card(
        "LIMA-like",
        arms,
        run="0123456789abcdef",
        rows=table1((("train", "authored", c.conversation) for c in arms[0].examples), None),
        tokenizer=None,
        pools={"authored": Losses.of([(), (), ("short",)])},
        damage=damage.to_json(),
    )


def test_the_card_says_what_is_in_and_what_is_not(card: str) -> None:
    _, front, body = card.split("---\n", 2)
    values = yaml.safe_load(front)
    assert values["configs"][0] == {
        "config_name": "train",
        "data_files": [{"split": "train", "path": "train.jsonl"}],
    }
    assert values["size_categories"] == ["n<1K"]
    assert values["license"] == "other"
    for said in (
        "| train.jsonl | train | 1 |",
        "run `0123456789abcdef`",
        "| CC BY-SA 4.0 | 1 | yes | yes | no |",
        "| none stated | 1 | yes | ? | ? |",
        "No open licence is known for: none stated.",
        "| authored | 3 | short | 1 | 1 |",
        "SHORT: authored: 3 asked for, 1 found",
        "1 turned away: contaminated",
        "9 words, 100% of the prompt: How do whales sleep in the deep blue sea",
        "| row is too long | 1 | Posts.xml: row 3: 5 MB |",
    ):
        assert said in body


def test_hugging_face_reads_the_folder_by_its_card(
    card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    import datasets

    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "README.md").write_text(card)
    (folder / "train.jsonl").write_bytes(to_jsonl([(ANSWER.conversation, "stackexchange")]))
    (folder / "test.jsonl").write_bytes(to_jsonl([(("How?",), "askreddit")]))
    (folder / "attribution.csv").write_text(ledger_csv(entries("train", [ANSWER])))
    options = {"cache_dir": str(tmp_path / "cache")}
    train = datasets.load_dataset(str(folder), "train", split="train", **options)
    assert [tuple(row["conversations"]) for row in train] == [ANSWER.conversation]
    test = datasets.load_dataset(str(folder), "test", split="test", **options)
    assert json.dumps(test[0]) == '{"conversations": ["How?"], "source": "askreddit"}'
