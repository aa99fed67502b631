"""Cleaning of posts: HTML to text that keeps code blocks and lists, as Markdown (section 2.1).

Links keep their words, images and all other tags go. libxml2 parses, so that tags that never
close do no harm. The tree is walked once (`lima.curation.text.html_to_markdown`), then the whole
text is put in order at once (`lima.curation.text.line_marks`).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lxml import etree

from lima.curation.text.html_to_markdown import Walk
from lima.curation.text.line_marks import CODE, PARAGRAPH, plain_spaces, tidy

_PARSER = etree.HTMLParser(remove_comments=True, remove_pis=True, no_network=True)
_CONTROL_REFERENCE = re.compile(
    r"&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])(?![0-9])"
    r"|[xX]0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F])(?![0-9a-fA-F]));?"
)
_DOLLARS = re.compile(r"\$\$[^$]+\$\$|\$(?=\S)[^$]+(?<=\S)\$(?!\d)")
_BACKSLASHES = re.compile(r"\\\((?:(?!\\\().)*?\\\)|\\\[(?:(?!\\\[).)*?\\\]", re.DOTALL)
_VOID = ("<br", "<hr", "<img", "<!--")


@dataclass(frozen=True)
class CleanText:
    """A post as text, and what was in it."""

    text: str
    """Markdown: paragraphs, fenced and inline code, lists, quotes."""
    prose: str
    """The text without code, for filters that look at words."""
    links: int
    images: int
    dangling: int
    """Places that pointed to what is gone: `here`, the number of a note, an address, a colon."""
    unclosed: int
    """Tags that are not closed, or closed and never opened; 0 in what a site wrote itself."""
    cut: Mapping[str, int] = field(default_factory=dict)
    """Last paragraphs that only led to what is gone, by reason: heading, colon, source."""


def clean(html: str) -> CleanText:
    """Return a post's HTML, as an attribute of XML holds it, as text."""
    if "&#" in html:
        html = _CONTROL_REFERENCE.sub("", html)
    root = etree.HTML(html, _PARSER) if html and not html.isspace() else None
    walk = Walk()
    paragraphs: list[str] = []
    if root is not None:
        walk.blocks(root, 0, paragraphs)
    tidied = tidy(PARAGRAPH.join(paragraphs))
    text = prose = tidied.text
    if walk.codes:
        parts = tidied.text.split(CODE)
        codes = [*walk.codes[: len(parts) - 1], ""]  # those of an ending that was cut are gone
        text = "".join([part + code for part, code in zip(parts, codes, strict=True)])
        prose = " ".join(parts)
    return CleanText(
        text=text,
        prose=prose,
        links=walk.links,
        images=walk.images,
        dangling=walk.pointers + tidied.gaps,
        unclosed=_unclosed(html),
        cut=tidied.cut,
    )


def without_formulas(prose: str) -> str:
    """Return a text without what stands between the signs of TeX."""
    if "$" in prose:
        prose = _DOLLARS.sub(" ", prose)
    if "\\(" in prose or "\\[" in prose:
        prose = _BACKSLASHES.sub(" ", prose)
    return prose


def clean_inline(text: str) -> str:
    """Return a single line of plain text, as a title, with its spaces in order."""
    return " ".join(plain_spaces(text).split())


def _unclosed(html: str) -> int:
    closing = html.count("</")
    opening = html.count("<") - closing
    if opening == closing:
        return 0
    return abs(opening - closing - sum(html.count(tag) for tag in _VOID))
