"""WritingPrompts and AskReddit from Pushshift's records: shortlists, responses, picks."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lima.curation.arms.picks import Picks, dump_picks, parse_picks
from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.sources import reddit
from lima.errors import DataError

STORY = "It was a dark and stormy night, and the cat knew more than it would ever tell anyone. "


def _post(name: str, score: object = 10, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "subreddit": "WritingPrompts",
        "title": f"[WP] The cat {name} writes back.",
        "selftext": "",
        "is_self": True,
        "author": f"asker_{name}",
        "score": score,
        "created_utc": 1517443200,
        **changes,
    }


def _comment(name: str, post: str, score: int = 5, **changes: Any) -> dict[str, Any]:
    return {
        "id": name,
        "subreddit": "WritingPrompts",
        "link_id": f"t3_{post}",
        "parent_id": f"t3_{post}",
        "body": STORY + name,
        "author": f"writer_{name}",
        "score": score,
        "created_utc": "1517443300",
        **changes,
    }


def _file(path: Path, *records: Any) -> str:
    data = "".join(json.dumps(record) + "\n" for record in records).encode()
    path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)
    return str(path)


def _read(*paths: str, **options: Any) -> list[Candidate]:
    options = {"subreddit": "WritingPrompts", "damage": Damage(strict=True), **options}
    return list(reddit.read(paths, **options))


def test_the_real_records_read(shared_data: Path) -> None:
    folder = str(shared_data / "reddit")
    (asked,) = _read(folder, subreddit="AskReddit")
    assert asked.keep
    assert asked.conversation[0].startswith("Redditors who have a chronic pain disorder")
    assert asked.provenance.created == datetime(2018, 2, 1, tzinfo=UTC)
    assert asked.provenance.url == "https://www.reddit.com/r/AskReddit/comments/7ueit9/"
    (daily,) = _read(folder, subreddit="Calligraphy")
    assert set(daily.reasons) == {"has_body", "moderator"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"author": "[deleted]"}, "removed"),
        ({"selftext": "[removed]"}, "removed"),
        ({"removed_by_category": "moderator"}, "removed"),
        ({"title": "[deleted by user]"}, "removed"),
        ({"over_18": True}, "over_18"),
        ({"is_self": False}, "link"),
        ({"is_self": None, "domain": "i.redd.it"}, "link"),
        ({"title": "[WP] Look: https://x.org/a"}, "link"),
        ({"selftext": "More of it."}, "has_body"),
        ({"stickied": True}, "moderator"),
        ({"distinguished": "moderator"}, "moderator"),
        ({"title": "[PI] My story"}, "other_tag"),
        ({"title": "[OT] A chat"}, "other_tag"),
        ({"title": "[WP]"}, "no_prompt"),
    ],
)
def test_submissions_that_are_dropped(tmp_path: Path, changes: Any, reason: str) -> None:
    path = _file(tmp_path / "RS.jsonl", _post("a", **changes), _post("b"))
    found = {c.source_id: c.reasons for c in _read(path)}
    assert reason in found["a"]
    assert found["b"] == ()


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("[WP] You wake up.", ("You wake up.", "WP")),
        ("[wp] You wake up.", ("You wake up.", "WP")),
        ("(EU) : You wake &amp; see\n it.", ("You wake & see it.", "EU")),
        ("[the] article stays", ("[the] article stays", "")),
        ("[Serious] Why?", ("Why?", "SERIOUS")),
        ("No tag", ("No tag", "")),
    ],
)
def test_tags_of_titles(title: str, expected: tuple[str, str]) -> None:
    assert reddit.prompt(title) == expected


def test_the_shortlist_is_ranked_and_says_what_fell_below(tmp_path: Path) -> None:
    scores: list[Any] = [7, "900", 31.0, 900, None]
    posts = [_post(f"p{i}", score) for i, score in enumerate(scores)]
    path = _file(tmp_path / "WritingPrompts_submissions.zst", *posts)
    found = _read(path, shortlist=3)
    kept = [(c.source_id, c.score, c.measures["rank"]) for c in found if c.keep]
    assert kept == [("p1", 900, 1), ("p3", 900, 2), ("p2", 31, 3)]
    assert {c.source_id: c.reasons for c in found if not c.keep} == {
        "p0": ("below_shortlist",),
        "p4": ("below_shortlist",),
    }


def test_responses_are_the_best_top_level_comments(tmp_path: Path) -> None:
    comments = [
        _comment("c1", "a", 5),
        _comment("c2", "a", 50, body="**Bold** &gt; [link](https://x.org)\n\n" + STORY),
        _comment("c3", "a", 7),
        _comment("c4", "a", 99, parent_id="t1_c2"),
        _comment("c5", "a", 98, author="AutoModerator"),
        _comment("c6", "a", 97, body="[removed]"),
        _comment("c7", "a", 96, body="Nice!"),
        _comment("c8", "a", 95, body=STORY * 60),
        _comment("c9", "zz", 94),
    ]
    paths = [
        _file(tmp_path / "RC_2018-02", *comments),
        _file(tmp_path / "RS_2018-02.zst", _post("a"), _post("b")),
    ]
    found = _read(*paths, responses=2)
    assert [c.source_id for c in found if c.keep] == ["a/c2", "a/c3"]
    assert {c.source_id: c.reasons for c in found if not c.keep} == {
        "a/c1": ("outranked",),
        "a/c5": ("moderator_response",),
        "a/c6": ("removed_response", "short_response"),
        "a/c7": ("short_response",),
        "a/c8": ("long_response",),
        "b": ("no_response",),
    }
    best = next(c for c in found if c.source_id == "a/c2")
    assert best.conversation == ("The cat a writes back.", "**Bold** > link\n\n" + STORY.strip())
    assert best.provenance.authors == ("asker_a", "writer_c2")
    assert best.provenance.url.endswith("/r/WritingPrompts/comments/a/_/c2/")
    assert best.measures["response_score"] == 50


def test_the_order_of_files_and_of_records_does_not_matter(tmp_path: Path) -> None:
    posts = [_post(f"p{i}", i % 4) for i in range(12)]
    comments = [_comment(f"c{i}", f"p{i % 12}", i % 5) for i in range(60)]
    one = [
        _file(tmp_path / "RS_2018-01", *posts[:6]),
        _file(tmp_path / "RS_2018-02", *posts[6:], posts[0]),
        _file(tmp_path / "RC_2018-01", *comments),
    ]
    (tmp_path / "other").mkdir()
    two = [
        _file(tmp_path / "other" / "RC_2018-01", *comments[::-1]),
        _file(tmp_path / "other" / "RS_2018-02", *posts[3:]),
        _file(tmp_path / "other" / "RS_2018-01", *posts[4::-1]),
    ]
    read = [_read(*paths, responses=2, shortlist=5) for paths in (one, one[::-1], two)]
    assert read[0] == read[1]
    kept = [[c for c in found if c.keep] for found in read]
    assert kept[0] == kept[2]
    assert len(kept[0]) == 10


def test_a_post_that_comes_again_counts_once_with_its_later_score(tmp_path: Path) -> None:
    paths = [
        _file(tmp_path / "RS_2018-01", _post("a", 3), _post("b", 4), _post("c", 1)),
        _file(tmp_path / "RS_2018-02", _post("a", 9)),
    ]
    kept = [(c.source_id, c.score) for c in _read(*paths, shortlist=2) if c.keep]
    assert kept == [("a", 9), ("b", 4)]


def test_memory_is_bounded_by_the_shortlist(tmp_path: Path) -> None:
    """A hundred thousand posts stream through a shortlist of ten."""
    import tracemalloc

    path = _file(tmp_path / "RS.jsonl", *(_post(f"p{i}", i) for i in range(100_000)))
    found: Iterator[Candidate] = reddit.read(
        [path], damage=Damage(strict=True), subreddit="WritingPrompts", shortlist=10
    )
    tracemalloc.start()
    reasons = Counter(c.reasons for c in found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reasons == {("below_shortlist",): 99_990, (): 10}
    assert peak < 4 << 20


def test_records_without_what_is_needed_are_damage(tmp_path: Path) -> None:
    path = _file(tmp_path / "RS.jsonl", _post("a"), {"subreddit": "WritingPrompts", "title": 3})
    damage = Damage()
    assert len(_read(path, damage=damage)) == 1
    assert damage.counts == {"not a record of Pushshift": 1}


# Picks


def _candidates() -> list[Candidate]:
    return [
        Candidate("writingprompts", f"p{i}", (f"prompt {i}", f"response {i}")) for i in range(4)
    ]


def test_picks_are_replayed(tmp_path: Path) -> None:
    first, second, third, fourth = _candidates()
    picks = Picks()
    picks.set(second, "keep")
    picks.set(first, "keep")
    picks.set(third, "drop")
    data = dump_picks(picks.decisions.values())
    again = parse_picks(data, "picks.jsonl")
    assert again == picks
    assert [json.loads(line)["source_id"] for line in data.splitlines()] == ["p0", "p1", "p2"]
    changed = Candidate("writingprompts", "p1", ("prompt 1", "another response"))
    assert again.apply(first) == first
    assert again.apply(changed).reasons == ("changed_since_picked",)
    assert again.apply(third).reasons == ("picked_out",)
    assert again.apply(fourth).reasons == ("not_picked",)
    picks.set(first, None)
    assert picks.apply(first).reasons == ("not_picked",)


def test_a_line_that_is_no_pick_is_named() -> None:
    line = b'{"source": "x", "source_id": "y", "decision": "maybe", "text": ""}'
    with pytest.raises(DataError, match=r"picks\.jsonl:2: not a pick"):
        parse_picks(b"\n" + line, "picks.jsonl")
