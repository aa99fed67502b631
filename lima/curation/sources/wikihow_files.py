"""wikiHow articles as they lie in files.

Layouts, told apart by their keys; all may be compressed:

* JSONL, a line an article: `title` or `url`, and optionally `category`, `authors`,
  `introduction`, then either `text` or `sections`, a list of `{"heading", "steps": [...]}` (a
  step is text, or `{"headline", "text"}`) or `{"heading", "text"}`.
* CSV, a row a step, as `wikihowSep.csv`: `COLUMNS`. Rows of an article follow each other.
* CSV, a row a part of an article, as `wikihowAll.csv`: `headline` holds all headlines of the part,
  each after a line break and, but for the first, a comma; `text` the texts of its steps; `title`
  ends with the number of the part if there are several.
* JSONL, a line a section of an article: `url`, `step_texts`, a list of `{"text"}`.
* `categories.csv` or `categories.jsonl`: `title` or `url`, and `category`, for files without.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lima.common.paths import base_name
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import Record, records, rows
from lima.data.plain_text import one_line

COLUMNS = {
    "title": "of the article; or its url",
    "url": "address of the article",
    "category": "of the article; or in categories.csv",
    "authors": "names, apart by ; or ,",
    "introduction": "before the first step",
    "overview": "the same",
    "section": "heading above the step",
    "sectionLabel": "the same",
    "headline": "of the step; or of all steps of a part, each after a line break and a comma",
    "text": "of the step; or of all steps of a part",
}
"""Columns of CSV files and what they hold; a file with others, or without text, is refused."""
_SECTION_KEYS = {"step_texts", "url"}
_HEADLINES = re.compile(r"(?:\A|,)[ \t]*\r?\n")
_TEXTS = re.compile(r"\r?\n[ \t]*,")
_DEBRIS = " \t\r\n;,"
_BROKEN = re.compile(r"(?<!;);[ \t]*(?=\r?\n)|(?<=\n);")


@dataclass(frozen=True)
class Section:
    """A part of an article: numbered steps, or prose."""

    heading: str
    steps: tuple[str, ...] = ()
    prose: str = ""


@dataclass(frozen=True)
class Article:
    """An article as its layout gives it."""

    title: str
    url: str
    category: str
    authors: tuple[str, ...]
    introduction: str
    sections: tuple[Section, ...] = field(default=())


def read_articles(path: str, damage: Damage) -> Iterator[Article]:
    """Yield the articles of a file; what is none is damage."""
    is_csv = base_name(path).endswith(".csv")
    found = _parts(_csv_rows(path, damage)) if is_csv else records(path, damage)
    seen: set[str] = set()
    for key, group in itertools.groupby(found, key=lambda item: _group_key(item[1])):
        where, first = group_first = next(group)
        if not key:
            for place, _ in itertools.chain([group_first], group):
                damage.note(place, "an article has neither a title nor a url")
        elif key in seen:
            damage.note(where, "rows of an article that do not follow each other", key)
        else:
            seen.add(key)
            yield _article(first, [first, *(record for _, record in group)])


def _csv_rows(path: str, damage: Damage) -> Iterator[tuple[str, Record]]:
    """Yield the rows of a CSV file, without what its writers left between texts."""
    for where, row in rows(path, damage):
        others = sorted(row.keys() - COLUMNS.keys())
        if others or not row.keys() & {"headline", "text"}:
            what = f"columns {', '.join(others)}" if others else "neither headline nor text"
            damage.note(path, "not the columns of wikiHow articles", what)
            return
        yield where, row


def _parts(found: Iterable[tuple[str, Record]]) -> Iterator[tuple[str, Record]]:
    """Yield rows, those that are parts of one article under its title without their number."""
    before: tuple[str, int] | None = None
    for (where, row), (_, following) in itertools.pairwise(itertools.chain(found, [("", {})])):
        title = _text(row, "title").strip()
        if not _is_part(row):
            yield where, row
            continue
        before = _part_of(title, before, _text(following, "title").strip())
        title = before[0] if before else title
        yield where, {**row, "title": title}


def _part_of(title: str, before: tuple[str, int] | None, after: str) -> tuple[str, int] | None:
    """Return the article and the number that a title is made of; None: the title is whole.

    Names end with digits too (MP3, Co2), so a number is one of a part only where the title of the
    row before or after counts with it: on from a part, or, for a first row, up to the next.
    """
    readings, next_readings = _numbered(title), _numbered(after)
    for name, number in readings:
        if before and before[0] == name and number >= before[1]:
            return name, number
    for name, number in readings:
        counted = [other for next_name, other in next_readings if next_name == name]
        if (number == 1 and 2 in counted) or (_is_word(name) and max(counted, default=0) > number):
            return name, number
    return None


def _numbered(title: str) -> list[tuple[str, int]]:
    """Return a title as name and number, in all ways to read it: of Shed12 with 2 and with 12."""
    splits = [(title[:-digits], title[-digits:]) for digits in (1, 2)]
    return [(n, int(end)) for n, end in splits if n and end.isdecimal() and end[0] != "0"]


def _is_word(name: str) -> bool:
    """Whether a name ends as words do; of others (MP3, MP4) digits more likely belong to them."""
    return name[-1].islower() or name[-1] in ")\"”’'?!"


def _is_part(row: Record) -> bool:
    """Whether a row holds all steps of a part of an article."""
    whole = "section" not in row and "sectionLabel" not in row
    return whole and _text(row, "headline").lstrip(" \t\r").startswith("\n")


def _part_section(row: Record) -> Section:
    """Return a part: steps with their texts; where these do not fit, the text and the steps."""
    headlines = [h.strip(_DEBRIS) for h in _HEADLINES.split(_text(row, "headline"))]
    headlines = [h for h in headlines if h]
    texts = [_unbroken(text) for text in _TEXTS.split(_text(row, "text"))]
    if len(texts) > len(headlines) and not texts[-1]:
        texts.pop()
    if len(texts) != len(headlines):
        return Section("", tuple(headlines), "\n\n".join(filter(None, texts)))
    pairs = zip(headlines, texts, strict=True)
    return Section("", tuple(_steps({"headline": h, "text": t} for h, t in pairs)))


def _unbroken(text: str) -> str:
    """Return a text of a CSV file without the marks that its writers put between paragraphs."""
    return _BROKEN.sub("", text.strip(_DEBRIS))


def _group_key(record: Record) -> str:
    return _text(record, "url") or _text(record, "title")


def _article(first: Record, parts: Sequence[Record]) -> Article:
    authors = first.get("authors")
    if isinstance(authors, str):
        authors = [name for name in re.split(r"[;,]", authors) if name.strip()]
    return Article(
        title=_text(first, "title"),
        url=_text(first, "url"),
        category=_text(first, "category"),
        authors=tuple(one_line(str(name)) for name in _list(authors)),
        introduction=_text(first, "introduction", "overview"),
        sections=tuple(_sections(first, parts)),
    )


def _sections(first: Record, parts: Sequence[Record]) -> Iterator[Section]:
    if first.keys() >= _SECTION_KEYS:
        ordered = sorted(parts, key=lambda p: _number(p.get("section_id")))
        for part in ordered:
            yield Section(_text(part, "heading"), tuple(_steps(_list(part.get("step_texts")))))
    elif isinstance(first.get("sections"), list):
        for part in parts:
            for section in _list(part.get("sections")):
                if isinstance(section, dict):
                    steps = tuple(_steps(_list(section.get("steps"))))
                    yield Section(_text(section, "heading"), steps, _text(section, "text"))
    elif _is_part(first):
        yield from map(_part_section, parts)
    elif "headline" in first or "section" in first or "sectionLabel" in first:
        by_name = itertools.groupby(parts, key=lambda p: _text(p, "section", "sectionLabel"))
        for heading, group in by_name:
            cleaned = ({k: _unbroken(_text(p, k)) for k in ("headline", "text")} for p in group)
            yield Section(heading, tuple(_steps(cleaned)))
    else:
        yield Section("", prose="\n\n".join(filter(None, (_text(p, "text") for p in parts))))


def _steps(steps: Iterable[Any]) -> Iterator[str]:
    for step in steps:
        if isinstance(step, str):
            yield step
        elif isinstance(step, dict):
            headline, text = _text(step, "headline").strip(), _text(step, "text").strip()
            stop = "" if not headline or headline.endswith((".", "!", "?", ":")) else "."
            yield " ".join(part for part in (headline + stop, text) if part)


def read_categories(paths: Sequence[str], damage: Damage) -> dict[str, str]:
    """Return the categories that lists give, by `name_key` of the article."""
    found = {}
    for path in paths:
        for where, row in (rows if base_name(path).endswith(".csv") else records)(path, damage):
            name, category = _group_key(row), _text(row, "category")
            if name and category:
                found[name_key(_slug_title(name))] = category
            else:
                damage.note(where, "a category list needs a title or a url, and a category")
    return found


def article_name(article: Article) -> str:
    """Return the title in an article's address; its title if it has none."""
    return _slug_title(article.url) if article.url else one_line(article.title)


def _slug_title(url_or_title: str) -> str:
    """Return the title that an address ends with: `…/Adjust-Ski-Bindings`."""
    if "/" not in url_or_title or " " in url_or_title.strip():
        return one_line(url_or_title)
    slug = re.split("[#?]", url_or_title, maxsplit=1)[0].rstrip("/").rsplit("/", 1)[-1]
    return one_line(unquote(slug).replace("-", " "))


def name_key(name: str) -> str:
    """Return a name without what writers of lists differ in."""
    return re.sub(r"^how to\s+|[^\w]", "", name.casefold().strip())


def _text(record: Record, *keys: str) -> str:
    for key in keys:
        if isinstance(value := record.get(key), str) and value.strip():
            return value
    return ""


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
