"""wikiHow articles as prompts and responses (section 2.1)."""

import re
from collections.abc import Iterator, Mapping, Sequence

from lima.common.paths import stem
from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.reading.damage import Damage
from lima.curation.sources.source_kind import SourceKind
from lima.curation.sources.wikihow_files import (
    Article,
    Section,
    article_name,
    name_key,
    read_articles,
    read_categories,
)
from lima.data.plain_text import one_line, tidy, without_links
from lima.store.files import files

SOURCE = "wikihow"
SUFFIXES = (".jsonl", ".json", ".ndjson", ".csv")
LICENCE = "CC BY-NC-SA 3.0"
CONTRIBUTORS = "wikiHow contributors"
CATEGORIES = (
    "Arts and Entertainment",
    "Cars and Other Vehicles",
    "Computers and Electronics",
    "Education and Communications",
    "Family Life",
    "Finance and Business",
    "Food and Entertaining",
    "Health",
    "Hobbies and Crafts",
    "Holidays and Traditions",
    "Home and Garden",
    "Personal Care and Style",
    "Pets and Animals",
    "Philosophy and Religion",
    "Relationships",
    "Sports and Fitness",
    "Travel",
    "Work World",
    "Youth",
)
"""The 19 that are sampled first, then an article within each."""
PRUNED_SECTIONS = {
    *("about this article", "article info", "article summary", "quick summary", "quizzes"),
    *("community q&a", "expert q&a", "expert interview", "q&a", "questions and answers"),
    *("frequently asked questions", "reader success stories", "did this summary help you?"),
    *("references", "sources", "citations", "sources and citations", "external links"),
    *("related", "related articles", "related wikihows", "see also", "you might also like"),
    *("video", "videos", "tips", "warnings", "tips and warnings"),
    *("things you'll need", "things you’ll need"),
}
"""Sections that are left out, by their heading: what serves the page and not the reader, and
tips, warnings and things needed, which LIMA's 200 articles do not have either."""

_BEGINNING = re.compile(
    r"(^|[.!?][\"”)]?\s+|(?<=\n)[^\S\n]*)This (?:wikiHow(?: article)?|article|how-to)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[^.!?\n]+([.!?)]*[ \t]*)")
_POINTER = re.compile(
    r"\b(?:wikihows?|(?:read|see|visit|check out|look at|watch) "
    r"(?:this|our|the) (?:article|page|video))\b",
    re.IGNORECASE,
)
_BEGIN = re.compile(r"(?<![^\s(])")
# Some snapshots were cut into words and joined again.
_APART = (
    (re.compile(r"(\w) ([’']) (s|t|re|ve|ll|d|m)\b"), r"\1\2\3"),
    (re.compile(r"(\w) (n[’']t)\b"), r"\1\2"),
    (re.compile(r"(?<=\w)\( "), " ("),
    (re.compile(r"(?<=\w)- (?!and |or |to )(?=\w)"), "-"),
)
_SPECIAL_WORD = re.compile(r".+[A-Z0-9]|.*\d|I$|I['’]|[A-Z]$")


def read(paths: Sequence[str], *, damage: Damage) -> Iterator[Candidate]:
    """Yield every article of `paths` (files and folders), in the order of the files' names.

    The category is one of `CATEGORIES`, or empty where no file says it; an article of another
    category is dropped (`other_category`), and one without text (`no_response`).

    Raises:
        DataError: a path does not exist, or `damage` is strict.

    """
    known = files(paths, SUFFIXES)
    lists = [path for path in known if stem(path).lower() == "categories"]
    categories = read_categories(lists, damage)
    for path in known:
        if path not in lists:
            for article in read_articles(path, damage):
                yield candidate(article, categories)


def candidate(article: Article, categories: Mapping[str, str] | None = None) -> Candidate:
    """Return an article as a candidate: its title asks, its body answers."""
    name = article_name(article)
    said = article.category or (categories or {}).get(name_key(name), "")
    category = top_category(said)
    kept = [s for s in article.sections if s.heading.casefold().strip() not in PRUNED_SECTIONS]
    body, pointers = response(article.introduction, kept)
    reasons = [
        *(["other_category"] if said and not category else []),
        *([] if body else ["no_response"]),
    ]
    return Candidate(
        source=SOURCE,
        source_id=name,
        conversation=(prompt(article.title or name), body),
        category=category,
        provenance=Provenance(
            url=article.url,
            authors=article.authors or (CONTRIBUTORS,),
            licence=LICENCE,
            changes="title as a question in lower case; links, images and sections pruned; "
            "“This article” reworded",
        ),
        measures={
            "response_characters": len(body),
            "sections": len(kept),
            "sections_pruned": len(article.sections) - len(kept),
            "pointers_pruned": pointers,
        },
        reasons=tuple(reasons),
    )


def prompt(title: str) -> str:
    """Return a title as a question: `How to make quinoa lasagna?`.

    Words are written in lower case as in LIMA's set, but for those with a capital or a digit
    inside (`iPhone`, `PDF`, `MP3`).
    """
    words = re.sub(r"^how to\s+", "", one_line(title), flags=re.IGNORECASE).rstrip("?. ").split()
    return " ".join(["How to", *(w if _SPECIAL_WORD.match(w) else w.lower() for w in words)]) + "?"


def response(introduction: str, sections: Sequence[Section]) -> tuple[str, int]:
    """Return the body as text with headings and numbered steps, and the sentences pruned.

    What is pruned are sentences that only point to another page (“read this article”).
    """
    parts = []
    nameless = sum(not s.heading.strip() for s in sections) > 1
    opening, count = _clean(introduction)
    if opening:
        parts.append(_BEGINNING.sub(r"\1The following answer", opening))
    for number, section in enumerate(sections, start=1):
        text, dropped = _section_text(section)
        count += dropped
        heading = one_line(section.heading) or (f"Part {number}" if nameless else "")
        if text:
            parts.append(f"## {heading}\n\n{text}" if heading else text)
    return "\n\n".join(parts), count


def top_category(text: str) -> str:
    """Return the one of `CATEGORIES` that a category or a path of categories names, or ""."""
    for part in re.split(r"[:>|/;]", text):
        name = " ".join(part.replace("&", " and ").split()).casefold()
        for category in CATEGORIES:
            if name in (category.casefold(), category.casefold().replace(" other ", " ")):
                return category
    return ""


def _section_text(section: Section) -> tuple[str, int]:
    cleaned = [_clean(step) for step in section.steps]
    steps = [re.sub(r"\n(?=.)", "\n\t", text) for text, _ in cleaned if text]
    prose, pruned = _clean(section.prose)
    numbered = "\n".join(f"{i}. {text}" for i, text in enumerate(steps, start=1))
    text = "\n\n".join(part for part in (prose, numbered) if part)
    return text, pruned + sum(count for _, count in cleaned)


def _clean(text: str) -> tuple[str, int]:
    plain = tidy(without_links(tidy(text)))
    for apart, joined in _APART:
        plain = apart.sub(joined, plain)
    # A beginning “This wikiHow teaches” is reworded, not pruned.
    reworded = _BEGINNING.sub(r"\1This article", plain)
    pruned, count = _without_pointers(reworded)
    return tidy(pruned), count


def _without_pointers(text: str) -> tuple[str, int]:
    """Return a text without the sentences that point elsewhere, and how many they were.

    A sentence begins after a space or a bracket: the end of an address or of a number is not cut.
    """
    kept, done, count = [], 0, 0
    for sentence in _SENTENCE.finditer(text):
        begin = _BEGIN.search(text, max(done, sentence.start()), sentence.end())
        if begin and _POINTER.search(text, begin.start(), sentence.start(1)):
            kept.append(text[done : begin.start()])
            done, count = sentence.end(), count + 1
    return "".join([*kept, text[done:]]), count


KIND = SourceKind(
    "wikihow",
    SUFFIXES,
    lambda paths, _source, _spec, damage: read(paths, damage=damage),
    licence=LICENCE,
)
