"""Cleaning of posts: HTML to text that keeps code blocks and lists, as Markdown (section 2.1).

Links keep their words, images and all other tags go. libxml2 parses, so that tags that never
close do no harm.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lxml import etree

CODE_START, CODE_END, BREAK = "\x01", "\x02", "\x03"
"""Stand around code and for `<br>` while a post is cleaned. XML cannot hold them."""
MAX_DEPTH = 100
"""Elements within each other that are followed; what lies deeper is flattened."""

_PARSER = etree.HTMLParser(remove_comments=True, remove_pis=True, no_network=True)
_CONTROL_REFERENCE = re.compile(
    r"&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[0-8bBcCeEfF]|1[0-9a-fA-F]));?"
)
_INVISIBLE = re.compile("[\u200b\u2060\ufeff]")
_CODE = re.compile(f"{CODE_START}[^{CODE_END}]*{CODE_END}")
_MATH = re.compile(r"\$\$[^$]+\$\$|\$(?=\S)[^$]+(?<=\S)\$(?!\d)|\\\(.*?\\\)|\\\[.*?\\\]", re.DOTALL)
_URL = re.compile(r"\(?\b(?:https?://|www\.)[^\s<>]*[^\s<>.,;:!?'\"]")
_FOOTNOTE = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡]+)[\])]?")
_EMPTY_BRACKETS = re.compile(r"(?:^|(?<= )) ?[(\[]\s*[)\]] ?")
_SPACE_BEFORE_STOP = re.compile(r"(?<=\w) +(?=[.,;](?: |$))")
_SPACE = " \n\t\u00a0"
_VOID = ("<br", "<hr", "<img")

_DROPPED = frozenset({"img", "script", "style", "s", "strike", "del", "iframe", "object", "svg"})
"""Not shown, or struck out by the author: gone with what they hold."""
_BLOCKS = frozenset(
    "address article aside blockquote body center dd details div dl dt figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hr html li main nav ol p pre section summary table tbody td "
    "tfoot th thead tr ul".split()
)
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_RAISABLE = re.compile(r"[0-9+\-−=()ni]+")
_LOWERABLE = re.compile(r"[0-9+\-−=()]+")


@dataclass(frozen=True)
class CleanText:
    """A post as text, and what was in it."""

    text: str
    """Markdown: paragraphs, fenced and inline code, lists, quotes."""
    prose: str
    """The text without code and formulas, for filters that look at words."""
    links: int
    images: int
    unclosed: int
    """Tags that are not closed, or closed and never opened; 0 in what a site wrote itself."""


def clean(html: str) -> CleanText:
    """Return a post's HTML as text."""
    if "&#" in html:
        html = _CONTROL_REFERENCE.sub("", html)
    if not html.isascii():
        html = _INVISIBLE.sub("", html)
    blocks: list[str] = []
    root = etree.HTML(html, _PARSER) if html.strip() else None
    if root is not None:
        _blocks(root, 0, blocks)
    marked = "\n\n".join(blocks)
    prose = _CODE.sub(" ", marked) if CODE_START in marked else marked
    return CleanText(
        text=marked.replace(CODE_START, "").replace(CODE_END, ""),
        prose=_MATH.sub(" ", prose) if "$" in prose or "\\" in prose else prose,
        links=html.count("<a "),
        images=html.count("<img"),
        unclosed=_unclosed(html),
    )


def clean_inline(text: str) -> str:
    """Return a single line of plain text, as a title, with its spaces in order."""
    return " ".join(_INVISIBLE.sub("", text).split())


def _unclosed(html: str) -> int:
    closing = html.count("</")
    opening = html.count("<") - closing - sum(html.count(tag) for tag in _VOID)
    return abs(opening - closing - html.count("<!--"))


def _blocks(element: Any, depth: int, out: list[str]) -> None:
    """Append the blocks of an element; text between them makes paragraphs."""
    inline: list[str] = [element.text] if element.text else []
    for child in element:
        tag = child.tag
        writer = _WRITERS.get(tag)
        if writer is None or depth >= MAX_DEPTH:
            if len(child) == 0 or depth >= MAX_DEPTH or not _holds_blocks(child):
                _inline(child, tag, depth, inline)
                continue
            writer = _blocks
        if inline:
            _paragraph(inline, out)
        writer(child, depth + 1, out)
        tail = child.tail
        inline = [tail] if tail and not tail.isspace() else []
    if inline:
        _paragraph(inline, out)


def _holds_blocks(element: Any) -> bool:
    """Whether an inline element was opened around blocks, as `<b><p>…</p></b>`."""
    return element.tag not in _DROPPED and any(e.tag in _BLOCKS for e in element.iterdescendants())


def _text_block(element: Any, depth: int, out: list[str]) -> None:
    """Append a paragraph, which holds no blocks once it is parsed."""
    parts = [element.text] if element.text else []
    for child in element:
        _inline(child, child.tag, depth, parts)
    if parts:
        _paragraph(parts, out)


def _paragraph(parts: list[str], out: list[str]) -> None:
    text = "".join(parts) if len(parts) > 1 else parts[0]
    if CODE_START not in text:
        text = _tidy(text)
    else:
        pieces, end = [], 0
        for code in _CODE.finditer(text):
            pieces += [_tidy(text[end : code.start()]), code.group()]
            end = code.end()
        text = "".join([*pieces, _tidy(text[end:])])
    text = text.strip(" ")
    if BREAK in text:
        lines = (line.strip(" ") for line in text.split(BREAK))
        text = "\n".join(line for line in lines if line)
    if text:
        out.append(text)


def _tidy(text: str) -> str:
    """Put the spaces of prose in order; take out addresses and the brackets they leave."""
    words = " ".join(text.split())
    if not words:
        return " " if text else ""
    if text[0] in _SPACE:
        words = " " + words
    if text[-1] in _SPACE:
        words += " "
    if "://" in words or "www." in words:
        words = _URL.sub("", words)
    if "()" in words or "[]" in words or "( )" in words or "[ ]" in words:
        words = _EMPTY_BRACKETS.sub("", words)
    if " ." in words or " ," in words or " ;" in words:
        words = _SPACE_BEFORE_STOP.sub("", words)
    return words


def _inline(element: Any, tag: Any, depth: int, out: list[str]) -> None:
    """Append the text of an inline element and of its tail."""
    if tag == "code":
        out.append(_inline_code("".join(element.itertext())))
    elif tag == "br":
        out.append(BREAK)
    elif tag == "a":
        out.append(_link_text(element))
    elif tag in ("sup", "sub"):
        out.append(_script(tag, "".join(element.itertext())))
    elif depth >= MAX_DEPTH:
        out.append("".join(element.itertext()))
    elif tag not in _DROPPED:
        if element.text:
            out.append(element.text)
        for child in element:
            _inline(child, child.tag, depth + 1, out)
    if element.tail:
        out.append(element.tail)


def _inline_code(code: str) -> str:
    code = " ".join(code.split())
    if not code:
        return ""
    fence, space = ("``", " ") if "`" in code else ("`", "")
    return f"{CODE_START}{fence}{space}{code}{space}{fence}{CODE_END}"


def _link_text(element: Any) -> str:
    """Return the words of a link; none if they are an address or the number of a note."""
    parts: list[str] = [element.text or ""]
    for child in element:
        _inline(child, child.tag, MAX_DEPTH - 1, parts)
    text = "".join(parts)
    words = text.strip()
    return "" if _FOOTNOTE.fullmatch(words) or _URL.fullmatch(words) else text


def _script(tag: str, text: str) -> str:
    """Return raised or lowered text in Unicode's characters where they exist."""
    text = text.strip()
    if tag == "sub":
        return text.translate(_LOWERED) if _LOWERABLE.fullmatch(text) else text
    if _RAISABLE.fullmatch(text):
        return text.translate(_RAISED)
    return f"^{text}" if len(text) == 1 and text.isalnum() else text


def _code_block(element: Any, _depth: int, out: list[str]) -> None:
    for line_break in element.iter("br"):
        line_break.tail = "\n" + (line_break.tail or "")
    code = "".join(element.itertext()).replace("\r\n", "\n").strip("\n").rstrip()
    if code.strip():
        fence = "```"
        while fence in code:
            fence += "`"
        out.append(f"{CODE_START}{fence}\n{code}\n{fence}{CODE_END}")


def _quote(element: Any, depth: int, out: list[str]) -> None:
    blocks: list[str] = []
    _blocks(element, depth, blocks)
    if blocks:
        lines = "\n\n".join(blocks).split("\n")
        out.append("\n".join(f"> {line}".rstrip() for line in lines))


def _list(element: Any, depth: int, out: list[str]) -> None:
    """Append a list as one block; numbers count from the list's start."""
    number = _start(element) if element.tag == "ol" else None
    items: list[str] = []
    loose = False
    for child in element:
        blocks: list[str] = []
        if child.tag in ("ul", "ol"):  # a list right within a list
            _list(child, depth + 1, blocks)
            items.extend(_indented(block, 2) for block in blocks)
            continue
        _blocks(child, depth + 1, blocks)
        if not blocks:
            continue
        marker = "* " if number is None else f"{number}. "
        tight = len(blocks) == 1 or (len(blocks) == 2 and _is_list(blocks[1]))
        loose = loose or not tight
        items.append(
            marker + _indented(("\n" if tight else "\n\n").join(blocks), len(marker))[len(marker) :]
        )
        number = None if number is None else number + 1
    if items:
        out.append(("\n\n" if loose else "\n").join(items))


def _is_list(block: str) -> bool:
    return block.startswith("* ") or re.match(r"\d+\. ", block) is not None


def _start(element: Any) -> int:
    text = element.get("start", "")
    return int(text) if text.isdecimal() else 1


def _indented(text: str, width: int) -> str:
    return "\n".join(" " * width + line if line else line for line in text.split("\n"))


def _table(element: Any, depth: int, out: list[str]) -> None:
    """Append a table as one block, a line a row."""
    rows = []
    for row in element.iter("tr"):
        cells = []
        for cell in row:
            blocks: list[str] = []
            _blocks(cell, depth + 1, blocks)
            cells.append(" ".join(blocks).replace("\n", " "))
        if any(cells):
            rows.append(f"| {' | '.join(cells)} |")
    if rows:
        out.append("\n".join(rows))


_WRITERS: dict[str, Callable[[Any, int, list[str]], None]] = {
    **dict.fromkeys(_BLOCKS, _blocks),
    **dict.fromkeys(("p", "h1", "h2", "h3", "h4", "h5", "h6"), _text_block),
    "pre": _code_block,
    "blockquote": _quote,
    "ul": _list,
    "ol": _list,
    "table": _table,
}
