"""No record, whatever it holds, ends the reading of a file: it is a candidate or damage."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lima.curation.arms.edits import Patches
from lima.curation.arms.picks import Picks
from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.sources import alpaca, authored, lima_release, reddit, superni, wikihow

Reader = Callable[[list[str], Damage], Iterator[Candidate]]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)
KEYS = {
    "wikihow": "title url category authors introduction sections text step_texts section_id "
    "heading steps headline section",
    "posts": "id title selftext score author created_utc over_18 is_self domain subreddit",
    "comments": "id body parent_id score author created_utc stickied subreddit",
    "task": "Definition Categories Instances Contributors Input_language input output",
    "alpaca": "instruction input output",
    "examples": "conversations messages instruction output history prompt response source id "
    "category authors licence url from value role content",
}
LINES = st.sampled_from(["# User\n", "# Assistant\n", "---\n", "```\n", "x\n"])
WORDS = st.sampled_from(["WritingPrompts", "p1", "t3_p1", "user", "human", "Paraphrasing", "x"])


def _records(*names: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    keys = st.sampled_from([key for name in names for key in KEYS[name].split()])
    inner = st.dictionaries(keys, VALUES | WORDS, max_size=6)
    value = VALUES | WORDS | inner | st.lists(inner | WORDS, max_size=3)
    return st.lists(st.dictionaries(keys, value, max_size=9), min_size=1, max_size=4)


def _stories(paths: list[str], damage: Damage) -> Iterator[Candidate]:
    return reddit.read(paths, damage=damage, subreddit="WritingPrompts", responses=1)


def _examine(read: Reader, paths: list[str]) -> None:
    damage = Damage()
    for candidate in read(paths, damage):
        assert all(isinstance(turn, str) for turn in candidate.conversation)
        assert len(candidate.key) == 64
        assert json.dumps([candidate.source_id, candidate.category, candidate.provenance.authors])
        assert candidate.reasons or all(turn.strip() for turn in candidate.conversation)
        assert Patches([]).apply(candidate) is candidate
        assert not Picks().apply(candidate).keep


@pytest.mark.parametrize(
    ("read", "names"),
    [
        (lambda paths, damage: wikihow.read(paths, damage=damage), ("wikihow",)),
        (lambda paths, damage: alpaca.read(paths, damage=damage), ("alpaca",)),
        (lambda paths, damage: authored.read(paths, damage=damage), ("examples",)),
        (lambda paths, damage: lima_release.read(paths, damage=damage), ("examples", "alpaca")),
    ],
)
def test_records_of_any_shape(read: Reader, names: tuple[str, ...], tmp_path_factory: Any) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.jsonl"

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(_records(*names))
    def examine(records: list[dict[str, Any]]) -> None:
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        _examine(read, [str(path)])

    examine()


def test_tasks_of_any_shape(tmp_path: Path) -> None:
    path = tmp_path / "task1.json"
    instances = st.lists(_records("task").map(lambda r: r[0]) | VALUES, max_size=3)

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(_records("task"), instances)
    def examine(records: list[dict[str, Any]], found: list[Any]) -> None:
        path.write_text(json.dumps({**records[0], "Instances": found}))
        _examine(lambda paths, damage: superni.read(paths, damage=damage, seed=0), [str(path)])

    examine()


def test_posts_and_comments_of_any_shape(tmp_path: Path) -> None:
    posts, comments = tmp_path / "RS.jsonl", tmp_path / "RC.jsonl"

    @settings(max_examples=200, suppress_health_check=list(HealthCheck))
    @given(_records("posts"), _records("comments"))
    def examine(asked: list[dict[str, Any]], told: list[dict[str, Any]]) -> None:
        here = {"subreddit": "WritingPrompts"}
        first = {"id": "p1", "title": "A prompt", "is_self": True, **here}
        posts.write_text("".join(json.dumps(p | here) + "\n" for p in (first, *asked)))
        comments.write_text(
            "".join(json.dumps({"body": "b" * 90, **c, **here}) + "\n" for c in told)
        )
        _examine(_stories, [str(posts), str(comments)])

    examine()


@settings(max_examples=300)
@given(
    st.text()
    | st.lists(st.sampled_from(["# User\n", "# Assistant\n", "---\n", "```\n", "x\n"])).map("".join)
)
def test_markdown_of_any_shape(text: str) -> None:
    try:
        record = authored.parse_markdown(text)
    except ValueError:
        return
    assert isinstance(record["conversations"], list)
