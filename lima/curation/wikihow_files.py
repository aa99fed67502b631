"""wikiHow articles as they lie in files.

Layouts, told apart by their keys; all may be compressed:

* JSONL, a line an article: `title` or `url`, and optionally `category`, `authors`,
  `introduction`, then either `text` or `sections`, a list of `{"heading", "steps": [...]}` (a
  step is text, or `{"headline", "text"}`) or `{"heading", "text"}`.
* CSV, a row a step: `title` or `url`, and optionally `category`, `authors`, `introduction` (or
  `overview`), `section` (or `sectionLabel`), `headline`, `text`. Rows of an article follow each
  other.
* JSONL, a line a section of an article: `url`, `step_texts`, a list of `{"text"}`.
* `categories.csv` or `categories.jsonl`: `title` or `url`, and `category`, for files without.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from lima.curation.damage import Damage
from lima.curation.plaintext import one_line
from lima.curation.records import Record, base_name, records, rows

_SECTION_KEYS = {"step_texts", "url"}


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
    found = rows(path, damage) if base_name(path).endswith(".csv") else records(path, damage)
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
    elif "headline" in first or "section" in first or "sectionLabel" in first:
        by_name = itertools.groupby(parts, key=lambda p: _text(p, "section", "sectionLabel"))
        for heading, group in by_name:
            yield Section(heading, tuple(_steps(group)))
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
