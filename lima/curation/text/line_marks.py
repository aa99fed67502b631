"""Text between HTML and Markdown: plain, but for marks that say where lines and paragraphs end.

Spaces are put in order for a whole post at once, which is far faster than by paragraph.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

CODE, BREAK, GONE, GAP, PARAGRAPH, LINE, SPACE, HEADING = "\x01\x02\x03\x04\x05\x06\x07\x08"
"""Marks: code (held apart), `<br>`, something taken out, something taken out that words lead to (an
address, a picture after a colon), bounds of paragraphs, line ends and spaces of lists and quotes,
and headings. XML cannot hold them."""
LEADS = frozenset(
    {
        *("citation", "cited", "credit", "credits", "from", "link", "links", "ref", "reference"),
        *("references", "see", "source", "sourced", "sources", "taken", "via"),
    }
)
"""Words that begin a paragraph that says no more than where something lies."""
MAX_LEAD = 5
"""Words of such a paragraph."""
URL = re.compile(
    r"\b(?:https?://|www\.)(?:[^\s<>()\x01-\x08]|\([^\s<>()\x01-\x08]*\))+(?<![.,;:!?'\"])"
)
_INVISIBLE = "\u200b\u2060\ufeff"
_OTHER_SPACES = "\u00a0\u2003\u2009\u200a\u202f\u3000"
BREAKS = re.compile(f"(?<![ \\n])[ \\n]*{BREAK}[ \\n{BREAK}]*")
_AFTER_GAP = f" .,;!?)\n{LINE}"
"""Before these a space is one too many."""
_EMPTY_ENDS, _NO_WORDS = f" {LINE}{GONE}{HEADING}", f" {LINE}{GONE}{GAP}"
_BLANK_ENDS = f" {LINE}"
_LINE_ENDS, _STARTS, _BLANKS = (LINE, "\n"), ("\n", HEADING), f" {SPACE}"
_TAKEN_OUT = re.compile(f"([{GONE}{GAP}])")


def plain_spaces(text: str) -> str:
    """Return a text with simple spaces only. Searching for each is faster than one pattern."""
    if not text.isascii():
        for character in _INVISIBLE:
            if character in text:
                text = text.replace(character, "")
        for character in _OTHER_SPACES:
            if character in text:
                text = text.replace(character, " ")
    return text.replace("\t", " ").replace("\r", " ").replace("\n", " ")


def after_colon(parts: Sequence[str]) -> bool:
    """Whether the last words of a paragraph so far end with a colon, which what follows is for."""
    rests = (part.rstrip(f" \n\t\r\u00a0{BREAK}") for part in reversed(parts))
    return next(filter(None, rests), "").endswith(":")


@dataclass
class Tidied:
    """A text in order, and what became of what led elsewhere."""

    text: str
    gaps: int
    """Places that lead to what is gone."""
    cut: dict[str, int]
    """Endings that were cut, by reason: `heading` or `colon`, with nothing but what is gone after
    it, or `source`, which named an address only."""


def tidy(text: str) -> Tidied:
    """Put spaces in order, take out addresses and endings that led to them only, end lines."""
    text = plain_spaces(text)
    while "  " in text:
        text = text.replace("  ", " ")
    if "://" in text or "www." in text:
        text = URL.sub(GAP, text)
    if BREAK in text:
        text = BREAKS.sub(LINE, text)
    paragraphs, lost, cut = _paragraphs(text)
    text = "\n\n".join(paragraphs)
    if GONE in text or GAP in text:
        text, gaps = _closed_up(text)
        lost += gaps
    if HEADING in text:
        text = text.replace(HEADING, "")
    if LINE in text or SPACE in text:
        text = text.replace(SPACE, " ")
        while f" {LINE}" in text:
            text = text.replace(f" {LINE}", LINE)
        text = text.replace(LINE, "\n")
    return Tidied(text, lost, cut)


def _paragraphs(text: str) -> tuple[list[str], int, dict[str, int]]:
    """Return the paragraphs that hold words, in how many places they lead to one that is gone, and
    the endings that were cut."""
    found: list[str] = []
    leading: set[int] = set()
    gaps = gone = 0
    for raw in text.split(PARAGRAPH):
        if part := _stripped(raw):
            found.append(part)
        elif GONE in raw or GAP in raw:
            gone = len(found)
            if found and found[-1][-1] == ":":
                leading.add(gone)
            else:
                gaps += raw.count(GAP)
    cut: dict[str, int] = {}
    led = gone == len(found)  # what comes last is gone
    while len(found) > 1 and (reason := _loose_end(found[-1], led)):
        cut[reason] = cut.get(reason, 0) + 1
        found.pop()
        led = True
    return found, gaps + sum(number <= len(found) for number in leading), cut


def _stripped(paragraph: str) -> str:
    """Return a paragraph without what is empty at its ends; nothing if it holds no words."""
    text = paragraph.strip(_EMPTY_ENDS)
    if not text.strip(_NO_WORDS):
        return ""
    return HEADING + text if paragraph[0] == HEADING else text


def _closed_up(text: str) -> tuple[str, int]:
    """Close the gaps where something was taken out, with lines and brackets left empty."""
    closed, *pieces = _TAKEN_OUT.split(text)
    gaps = 0
    for mark, after in zip(pieces[::2], pieces[1::2], strict=True):
        gaps += mark == GAP
        before, rest = closed.rstrip(" ,;"), after.lstrip(" ,;")
        if before.endswith(("(", "[")) and rest.startswith((")", "]")):
            closed = before[:-1].rstrip(" ") + rest[1:]
            gaps -= mark == GAP
        elif rest[:1] in _LINE_ENDS and (line := _without_line(closed, after)) is not None:
            closed = line
        else:
            if closed.endswith(" ") and (not after or after[0] in _AFTER_GAP):
                closed = closed[:-1]
            closed += after
    return closed.rstrip(f" {LINE}"), gaps


def _without_line(before: str, after: str) -> str | None:
    """Return a text without the line of which nothing is left; None if it holds words."""
    begin = before.rstrip(_BLANKS)
    if begin.endswith(LINE):
        return begin[:-1] + after.lstrip(" ")
    if not begin or begin[-1] in _STARTS:
        return begin + after.lstrip(" ").removeprefix(LINE)
    return None


def _loose_end(paragraph: str, led: bool) -> str:
    """Return why a last paragraph only led to what is taken out; empty: it did not.

    `led`: whether something was taken out right after it. Whatever else an answer ends with is
    its end.
    """
    if SPACE in paragraph:  # a list or a quote
        return ""
    words = paragraph.strip(_NO_WORDS)
    holds = len(words) < len(paragraph.rstrip(_BLANK_ENDS))
    if not (led or holds):
        return ""
    if words.startswith(HEADING):
        return "heading"
    if words.endswith(":"):
        return "colon"
    first, count = words.split(" ", 1)[0].casefold().rstrip(":.,"), words.count(" ") + 1
    return "source" if first in LEADS and count <= MAX_LEAD else ""
