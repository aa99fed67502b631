"""WritingPrompts and AskReddit from Pushshift's files of submissions and comments (section 2.1).

LIMA's authors chose by hand among the most upvoted posts. So this module yields a ranked
shortlist, and `lima.curation.arms.picks` holds what a person chose from it.

The files are JSONL, mostly packed (`RS_2018-02.zst`, `WritingPrompts_comments.zst`); whether a
file holds submissions or comments is told by its first record.
"""

import heapq
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import Record, records
from lima.curation.sources.source_kind import SourceKind
from lima.data.plain_text import one_line, tidy, without_links
from lima.store.files import files

LICENCE = "Reddit user content"
SUFFIXES = (
    *(".jsonl", ".json", ".ndjson", "_submissions", "_comments"),
    *(f"-{month:02d}" for month in range(1, 13)),
)
"""What names end with. Monthly files have no suffix once unpacked: RS_2018-02, RC_2016-10."""
SHORTLIST = 3000
RESPONSES = 3
MIN_CHARACTERS, MAX_CHARACTERS = 80, 4096
"""Of a response. The shortest of LIMA's 150 has 92 characters."""
PROMPT_TAGS = {"WP", "SP", "EU", "CW", "RF", "SERIOUS"}
"""Tags of prompts that text can answer."""
OTHER_TAGS = {"CC", "IP", "META", "MODPOST", "MP", "NSFW", "OT", "PI", "PM", "TT"}
"""Tags of stories, pictures, events and talk about the subreddit."""
GONE = {"[removed]", "[deleted]", "[deleted by user]"}

_TAG = re.compile(r"^\s*[\[({]\s*([A-Za-z]{2,12})\s*[\])}]\s*[:\-–—]?\s*")
_HAS_ADDRESS = re.compile(r"https?://|www\.")
_BOT = re.compile(r"(?:^automoderator$|[-_]?bot$)", re.IGNORECASE)


@dataclass(frozen=True)
class _Ranked:
    """A record by its worth: the score, then the older id, so that ties have one order."""

    score: int
    tie: tuple[int, ...]
    candidate: Candidate

    def __lt__(self, other: "_Ranked") -> bool:
        return (self.score, self.tie) < (other.score, other.tie)


def read(
    paths: Sequence[str],
    *,
    damage: Damage,
    subreddit: str,
    responses: int = 0,
    shortlist: int = SHORTLIST,
) -> Iterator[Candidate]:
    """Yield the submissions of a subreddit: what is dropped as it is met, then the shortlist.

    Memory is bounded by the shortlist. Reasons: `removed`, `over_18`, `link`, `has_body`,
    `moderator`, `other_tag`, `no_prompt`, `below_shortlist`; of responses `removed_response`,
    `moderator_response`, `short_response`, `long_response`, `outranked`, `no_response`.

    Args:
        paths: Files and folders of submissions and, for responses, of comments.
        damage: Takes what cannot be read.
        subreddit: Its name; the source is the name in lower case.
        responses: Best-voted top-level comments a prompt, each a candidate of its own; 0: prompts
            only, as LIMA used AskReddit.
        shortlist: Submissions of highest score that are kept.

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    comments: list[str] = []
    best: dict[str, _Ranked] = {}
    found = _submissions(paths, subreddit, comments, damage)
    yield from _shortlisted(found, shortlist, best)
    ranking = sorted(best.values(), reverse=True)
    ranked = [
        replace(r.candidate, measures={**r.candidate.measures, "rank": float(place)})
        for place, r in enumerate(ranking, start=1)
    ]
    if responses:
        yield from _with_responses(ranked, comments, subreddit, responses, damage)
    else:
        yield from ranked


def prompt(title: str) -> tuple[str, str]:
    """Return a title without its tag, and the tag: `[WP] You wake up.`."""
    text = one_line(without_links(title))
    match = _TAG.match(text)
    if match and match[1].upper() in PROMPT_TAGS | OTHER_TAGS:
        return text[match.end() :], match[1].upper()
    return text, ""


def _submissions(
    paths: Sequence[str], subreddit: str, comments: list[str], damage: Damage
) -> Iterator[Candidate]:
    """Yield the submissions; files of comments are noted in `comments` and left for later."""
    for path in files(paths, SUFFIXES):
        for where, record in records(path, damage, containing=subreddit.encode()):
            if "body" in record and "title" not in record:
                comments.append(path)
                break
            there = str(record.get("subreddit", "")).casefold() == subreddit.casefold()
            if there and _valid(record, "title", where, damage):
                yield _submission(record, subreddit)


def _shortlisted(
    found: Iterator[Candidate], size: int, best: dict[str, _Ranked]
) -> Iterator[Candidate]:
    """Fill `best` with the `size` highest; yield what is dropped or falls below."""
    queue: list[_Ranked] = []
    for candidate in found:
        ranked = _Ranked(candidate.score or 0, _tie(candidate.source_id), candidate)
        earlier = best.get(candidate.source_id)
        if candidate.reasons:
            yield candidate
        elif earlier is None or earlier < ranked:
            best[candidate.source_id] = ranked
            heapq.heappush(queue, ranked)
        while len(best) > size:
            lowest = heapq.heappop(queue)
            if best.get(lowest.candidate.source_id) is lowest:  # else a newer copy replaced it
                del best[lowest.candidate.source_id]
                yield replace(lowest.candidate, reasons=("below_shortlist",))


def _with_responses(
    prompts: Sequence[Candidate], paths: Sequence[str], subreddit: str, size: int, damage: Damage
) -> Iterator[Candidate]:
    waiting = {p.source_id: p for p in prompts}
    best: dict[str, dict[str, _Ranked]] = {p.source_id: {} for p in prompts}
    for path in paths:
        for where, record in records(path, damage, containing=subreddit.encode()):
            parent = str(record.get("parent_id", "")).removeprefix("t3_")
            if parent in waiting and _valid(record, "body", where, damage):
                candidate = _response(record, waiting[parent])
                if candidate.reasons:
                    yield candidate
                else:
                    yield from _keep_best(best[parent], candidate, size)
    for prompt_only in prompts:
        kept = sorted(best[prompt_only.source_id].values(), reverse=True)
        yield from (ranked.candidate for ranked in kept)
        if not kept:
            yield replace(prompt_only, reasons=("no_response",))


def _keep_best(kept: dict[str, _Ranked], candidate: Candidate, size: int) -> Iterator[Candidate]:
    score = int(candidate.measures["response_score"])
    ranked = _Ranked(score, _tie(candidate.source_id), candidate)
    earlier = kept.get(candidate.source_id)
    if earlier is None or earlier < ranked:
        kept[candidate.source_id] = ranked
    if len(kept) > size:
        lowest = min(kept.values())
        del kept[lowest.candidate.source_id]
        yield replace(lowest.candidate, reasons=("outranked",))


def _submission(record: Record, subreddit: str) -> Candidate:
    text, tag = prompt(str(record["title"]))
    body = str(record.get("selftext") or "").strip()
    author = str(record.get("author") or "")
    reasons = {
        "removed": author in GONE
        or body in GONE
        or record["title"].strip() in GONE
        or bool(record.get("removed_by_category") or record.get("removed_by")),
        "over_18": bool(record.get("over_18")),
        "link": not _is_self(record) or bool(_HAS_ADDRESS.search(record["title"])),
        "has_body": bool(body) and body not in GONE,
        "moderator": _from_moderator(record),
        "other_tag": tag in OTHER_TAGS,
        "no_prompt": not text,
    }
    return Candidate(
        source=subreddit.casefold(),
        source_id=str(record["id"]),
        conversation=(text,),
        category=tag,
        score=_integer(record.get("score")),
        provenance=Provenance(
            url=f"https://www.reddit.com/r/{subreddit}/comments/{record['id']}/",
            authors=(author,) if author else (),
            licence=LICENCE,
            created=_time(record.get("created_utc")),
            changes="tag and links pruned",
        ),
        measures={"comments": float(_integer(record.get("num_comments")))},
        reasons=tuple(name for name, objects in reasons.items() if objects),
    )


def _response(record: Record, asked: Candidate) -> Candidate:
    body = str(record["body"])
    text = tidy(without_links(tidy(body)))
    author = str(record.get("author") or "")
    reasons = {
        "removed_response": body.strip() in GONE or author in GONE,
        "moderator_response": _from_moderator(record),
        "short_response": len(text) < MIN_CHARACTERS,
        "long_response": len(text) > MAX_CHARACTERS,
    }
    measures = {
        **asked.measures,
        "response_score": float(_integer(record.get("score"))),
        "response_characters": float(len(text)),
    }
    origin = replace(
        asked.provenance,
        url=f"{asked.provenance.url}_/{record['id']}/",
        authors=tuple(dict.fromkeys((*asked.provenance.authors, author))),
        created=_time(record.get("created_utc")),
    )
    return replace(
        asked,
        source_id=f"{asked.source_id}/{record['id']}",
        conversation=(*asked.conversation, text),
        provenance=origin,
        measures=measures,
        reasons=tuple(name for name, objects in reasons.items() if objects),
    )


def _valid(record: Record, text: str, where: str, damage: Damage) -> bool:
    valid = isinstance(record.get(text), str) and isinstance(record.get("id"), str)
    if not valid:
        damage.note(where, "not a record of Pushshift", f"it needs an id and a {text}")
    return valid


def _is_self(record: Record) -> bool:
    """Say whether a post is text; older dumps say it by the domain."""
    if isinstance(record.get("is_self"), bool):
        return bool(record["is_self"])
    return str(record.get("domain", "self.")).startswith("self.")


def _from_moderator(record: Record) -> bool:
    return bool(
        record.get("stickied")
        or record.get("distinguished")
        or _BOT.search(str(record.get("author") or ""))
    )


def _tie(source_id: str) -> tuple[int, ...]:
    """Return a key by which the older post, of the smaller id, ranks higher."""
    return (-len(source_id), *(-ord(c) for c in source_id))


def _integer(value: object) -> int:
    """Return a number that dumps write as an integer, a float or a text; 0 if there is none."""
    try:
        return int(float(value)) if isinstance(value, int | float | str) else 0
    except (ValueError, OverflowError):
        return 0


def _time(value: object) -> datetime | None:
    seconds = _integer(value)
    try:
        return datetime.fromtimestamp(seconds, UTC) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


WRITING_PROMPTS = SourceKind(
    "writingprompts",
    SUFFIXES,
    lambda paths, _source, _spec, damage: read(
        paths, damage=damage, subreddit="WritingPrompts", responses=RESPONSES
    ),
    licence=LICENCE,
)
ASK_REDDIT = SourceKind(
    "askreddit",
    SUFFIXES,
    lambda paths, _source, _spec, damage: read(paths, damage=damage, subreddit="AskReddit"),
    licence=LICENCE,
)
