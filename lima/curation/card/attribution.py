"""The attribution ledger: author, link, licence and changes of every example (CC BY-SA).

Two files say the same: CSV for programs, Markdown for people. Both name the line of the data set
that an entry is about.
"""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lima.common.spreadsheet import inert
from lima.curation.arms.licence_policy import licences
from lima.curation.candidates.candidate import Candidate
from lima.data.plain_text import one_line

COLUMNS = (
    *("data_set", "line", "source", "source_id", "title", "authors", "url"),
    *("licence", "licence_url", "created", "changes"),
)
TITLE = 100
NO_AUTHOR, NO_CHANGES = "author unknown", "none"
_SPECIAL = re.compile(r"([\\`*_\[\]<>|~])")
_PROFILE = re.compile(r"(.*)\s<(https?://[^\s<>]+)>")


@dataclass(frozen=True)
class Entry:
    """An example of a data set."""

    data_set: str
    line: int
    """Of the JSONL file; 1 is the first."""
    candidate: Candidate


def entries(data_set: str, chosen: Iterable[Candidate]) -> list[Entry]:
    """Return the entries of a data set, in the order of its lines."""
    return [Entry(data_set, line, candidate) for line, candidate in enumerate(chosen, start=1)]


def ledger_csv(ledger: Sequence[Entry]) -> str:
    """Return the ledger as CSV with a header. Cells that a spreadsheet would run get a quote."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for entry in ledger:
        writer.writerow([inert(cell) for cell in _cells(entry)])
    return out.getvalue()


def ledger_markdown(ledger: Sequence[Entry], title: str) -> str:
    """Return the ledger as Markdown: the licences first, then every work once, by its source."""
    works: dict[str, list[Entry]] = {}
    for entry in ledger:
        works.setdefault(entry.candidate.key, []).append(entry)
    by_source: dict[str, list[list[Entry]]] = {}
    for uses in works.values():
        by_source.setdefault(uses[0].candidate.source, []).append(uses)
    lines = [f"# Attribution: {escaped(title)}", ""]
    lines += _licence_lines([uses[0] for uses in works.values()])
    for source, found in by_source.items():
        lines += ["", f"## {escaped(source)}", "", *map(_work, found)]
    return "\n".join([*lines, ""])


def _cells(entry: Entry) -> tuple[object, ...]:
    origin = entry.candidate.provenance
    found = licences(origin.licence)
    return (
        entry.data_set,
        entry.line,
        entry.candidate.source,
        entry.candidate.source_id,
        _title(entry.candidate),
        "; ".join(dict.fromkeys(origin.authors)) or NO_AUTHOR,
        origin.url,
        " / ".join(licence.name for licence in found),
        " ".join(licence.url for licence in found if licence.url),
        origin.created.date().isoformat() if origin.created else "",
        origin.changes or NO_CHANGES,
    )


def _licence_lines(ledger: Sequence[Entry]) -> list[str]:
    counts: dict[str, int] = {}
    links: dict[str, str] = {}
    for entry in ledger:
        for found in licences(entry.candidate.provenance.licence):
            counts[found.name] = counts.get(found.name, 0) + 1
            links[found.name] = found.url
    return [
        "Texts are by their authors and under their licences. An entry says what was changed, and "
        "the files and lines that hold it. The selection is no endorsement by any of them.",
        "",
        *(
            f"* {count} under {_link(name, links[name])}"
            for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        ),
    ]


def _work(uses: Sequence[Entry]) -> str:
    candidate = uses[0].candidate
    origin = candidate.provenance
    names = ", ".join(map(_author, dict.fromkeys(origin.authors))) or NO_AUTHOR
    found = ", ".join(_link(found.name, found.url) for found in licences(origin.licence))
    date = f", {origin.created.date().isoformat()}" if origin.created else ""
    places = ", ".join(f"{escaped(entry.data_set)}:{entry.line}" for entry in uses)
    return (
        f"* {_link(_title(candidate), origin.url)} by {names}{date}; {found}; "
        f"changes: {escaped(origin.changes or NO_CHANGES)}; {places}"
    )


def _author(name: str) -> str:
    """Return an author as a link if a profile follows: `Ada <https://…/users/1>`."""
    found = _PROFILE.fullmatch(name)
    return _link(found[1], found[2]) if found else escaped(name)


def _link(text: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        return escaped(text)
    return f"[{escaped(text)}](<{url.replace('<', '%3C').replace('>', '%3E')}>)"


def _title(candidate: Candidate) -> str:
    text = one_line(candidate.conversation[0])
    return text if len(text) <= TITLE else f"{text[: TITLE - 1]}…"


def escaped(text: str) -> str:
    """Return a text as one line of Markdown that shows it as it is."""
    return _SPECIAL.sub(r"\\\1", one_line(text))
