"""The walk over a post's tree: what becomes of each element of HTML.

What belongs to lines and paragraphs is marked (`lima.curation.text.line_marks`); code is held
apart.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from lima.curation.text.line_marks import (
    BREAK,
    BREAKS,
    CODE,
    GAP,
    GONE,
    HEADING,
    LINE,
    SPACE,
    URL,
    after_colon,
)

POINTERS = frozenset(
    {
        *("there", "source", "more", "read more", "image", "picture", "video"),
        *("paper", "article", "pdf", "post", "answer"),
    }
)
"""Words of links that point to what is taken out with the address, as do `_POINTS`."""
MAX_DEPTH = 100
"""Elements within each other that are followed; what lies deeper is flattened."""

_POINTS = re.compile(
    r"(?:this|that|these|those|here)\b.*|.*\b(?:here|this|this one|link)\W*", re.DOTALL
)
_FOOTNOTE = re.compile(r"[\[(]?(?:\d{1,3}|[*†‡]+)[\])]?")
_BLOCK_ENDS, _TAKEN_OUT = f" \n\u00a0{GONE}{LINE}", f" {GONE}{GAP}"
_NUMBERED = re.compile(rf"\d+\.{SPACE}")

BASES = f")]}}|'’∂∇{CODE}"
"""What a power or an index may follow, besides letters and digits."""
BAR = "\\|"
"""A bar within a cell."""
_DROPPED = frozenset({"img", "script", "style", "s", "strike", "del", "iframe", "object", "svg"})
"""Not shown, or struck out by the author: gone with what they hold."""
_SHOWN = frozenset({"img", "iframe", "object", "svg"})
"""Of these, what a reader saw: words that end with a colon led to it."""
_BLOCKS = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "center", "dd", "details", "div"),
        *("dl", "dt", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5"),
        *("h6", "header", "hr", "html", "li", "main", "nav", "ol", "p", "pre", "section"),
        *("summary", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul"),
    }
)
_RAISED = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_LOWERED = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
_RAISABLE = re.compile(r"[0-9+\-−=()ni]+")
_LOWERABLE = re.compile(r"[0-9+\-−=()]+")
_MARKS = frozenset({"st", "nd", "rd", "th", "tm", "™", "®", "©", "sm", "′", "″"})
"""Raised without a meaning that would be lost: ordinals, trade marks, primes."""
MAX_SCRIPT = 40
"""Characters of an exponent or an index; longer ones are small print."""


class Walk:
    """One pass over the tree of a post."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.links = self.images = self.pointers = self.gone = 0

    def blocks(self, element: Any, depth: int, out: list[str]) -> None:
        """Append the blocks of an element; text between them makes paragraphs."""
        inline: list[str] = [element.text] if element.text else []
        for child in element:
            tag = child.tag
            writer = _WRITERS.get(tag)
            if writer is None or depth >= MAX_DEPTH:
                if len(child) == 0 or depth >= MAX_DEPTH or not _holds_blocks(child):
                    self.inline(child, tag, depth, inline)
                    continue
                writer = Walk.blocks
            if inline:
                out.append("".join(inline))
            writer(self, child, depth + 1, out)
            tail = child.tail
            inline = [tail] if tail and not tail.isspace() else []
        if inline:
            out.append("".join(inline))

    def paragraph(self, element: Any, depth: int, out: list[str]) -> None:
        """Append a paragraph, which holds no blocks once it is parsed."""
        if len(element) == 0:
            out.append(element.text or "")
            return
        parts = [element.text or ""]
        for child in element:
            self.inline(child, child.tag, depth, parts)
        out.append("".join(parts))

    def inline(self, element: Any, tag: Any, depth: int, out: list[str]) -> None:
        """Append the text of an inline element and of its tail."""
        if tag == "code":
            self.inline_code(element, out)
        elif tag == "br":
            out.append(BREAK)
        elif tag in ("sup", "sub"):
            note = tag == "sup" and next(element.iterdescendants("a"), None) is not None
            out.append(GONE if note else self.script(element, depth, out))
        elif tag in _DROPPED:
            self.images += tag == "img"
            self.gone += 1
            out.append(GAP if tag in _SHOWN and after_colon(out) else GONE)
        elif depth >= MAX_DEPTH:
            out.append("".join(element.itertext()))
        else:
            begin = len(out)
            if element.text:
                out.append(element.text)
            for child in element:
                self.inline(child, child.tag, depth + 1, out)
            if tag == "a":
                out[begin:] = [self.link("".join(out[begin:]))]
        if element.tail:
            out.append(element.tail)

    def script(self, element: Any, depth: int, out: list[str]) -> str:
        """Return what is raised or lowered after `out`."""
        parts = [element.text or ""]
        for child in element if depth < MAX_DEPTH else ():
            self.inline(child, child.tag, depth + 1, parts)
        follows = next((part[-1] for part in reversed(out) if part), " ")
        return _script(element.tag, "".join(parts), attached=follows.isalnum() or follows in BASES)

    def link(self, text: str) -> str:
        """Return the words of a link; none if they are an address or the number of a note."""
        self.links += 1
        words = text.strip(f" \n{GONE}{GAP}")
        if not words:
            self.gone += 1
            return GAP if GAP in text else GONE
        if _FOOTNOTE.fullmatch(words) or URL.fullmatch(words):
            self.gone += 1
            return GAP
        plain = words.casefold()
        self.pointers += plain in POINTERS or _POINTS.fullmatch(plain) is not None
        return text

    def heading(self, element: Any, depth: int, out: list[str]) -> None:
        """Append a heading."""
        parts: list[str] = []
        self.paragraph(element, depth, parts)
        out += [HEADING + part for part in parts if part]

    def inline_code(self, element: Any, out: list[str]) -> None:
        """Append a span of code, as one line."""
        code = " ".join("".join(element.itertext()).split())
        if code:
            fence, space = ("``", " ") if "`" in code else ("`", "")
            self.codes.append(f"{fence}{space}{code}{space}{fence}")
            out.append(CODE)

    def code_block(self, element: Any, _depth: int, out: list[str]) -> None:
        """Append a block of code, line by line as it is."""
        for line_break in element.iter("br"):
            line_break.tail = "\n" + (line_break.tail or "")
        code = "".join(element.itertext()).replace("\r", "").strip("\n").rstrip()
        if code:
            fence = "```"
            while fence in code:
                fence += "`"
            self.codes.append(f"{fence}\n{code}\n{fence}")
            out.append(CODE)

    def quote(self, element: Any, depth: int, out: list[str]) -> None:
        """Append a quote, `> ` before each line."""
        first_code, gone = len(self.codes), self.gone
        blocks = self.within(element, depth)
        if blocks:
            out.append(self.prefixed(blocks, f">{SPACE}", f"{LINE}>{LINE}>{SPACE}", first_code))
        elif self.gone > gone:
            out.append(GONE)

    def listing(self, element: Any, depth: int, out: list[str]) -> None:
        """Append a list as one block; numbers count from the list's start."""
        number = _start(element) if element.tag == "ol" else None
        items: list[str] = []
        loose, gone = False, self.gone
        for child in element:
            first_code = len(self.codes)
            if child.tag in ("ul", "ol"):  # a list right within a list
                inner: list[str] = []
                self.listing(child, depth + 1, inner)
                items += [self.prefixed(inner, SPACE * 2, "", first_code)] * bool(inner)
                continue
            blocks = self.within(child, depth)
            if not blocks:
                continue
            marker = "*" if number is None else f"{number}."
            tight = len(blocks) == 1 or (len(blocks) == 2 and _is_list(blocks[1]))
            loose = loose or not tight
            indent = SPACE * (len(marker) + 1)
            between = LINE + indent if tight else LINE + LINE + indent
            body = self.prefixed(blocks, indent, between, first_code)
            items.append(f"{marker}{SPACE}{body.removeprefix(indent)}")
            number = None if number is None else number + 1
        if items:
            out.append((LINE * 2 if loose else LINE).join(items))
        elif self.gone > gone:
            out.append(GONE)

    def table(self, element: Any, depth: int, out: list[str]) -> None:
        """Append a table as one block, a line a row."""
        rows, gone = [], self.gone
        for row in _rows_of(element):
            cells = [" ".join(self.within(cell, depth)).replace(LINE, " ") for cell in row]
            if any(cells):
                rows.append(f"| {' | '.join(cell.replace('|', BAR) for cell in cells)} |")
                if len(rows) == 1:
                    rows.append(f"|{'---|' * len(cells)}")
        if rows:
            out.append(LINE.join(rows))
        elif self.gone > gone:
            out.append(GONE)

    def within(self, element: Any, depth: int) -> list[str]:
        """Return the blocks of an element that is written as a whole, without empty ones."""
        blocks: list[str] = []
        self.blocks(element, depth + 1, blocks)
        found: list[str] = []
        for block in blocks:
            whole = URL.sub(GAP, block) if "://" in block or "www." in block else block
            if BREAK in whole:
                whole = BREAKS.sub(LINE, whole)
            text = whole.strip(_BLOCK_ENDS)
            if text.strip(_TAKEN_OUT):
                found.append(text)
            elif found and found[-1][-1] == ":" and (GONE in whole or GAP in whole):
                found[-1] += GAP
            else:
                self.pointers += text.count(GAP)
                self.gone += text.count(GAP)
        return found

    def prefixed(self, blocks: list[str], prefix: str, between: str, first_code: int) -> str:
        """Return blocks as one text with a prefix before each line, in code too."""
        plain = prefix.replace(SPACE, " ")
        for index in range(first_code, len(self.codes)):
            lines = self.codes[index].split("\n")
            self.codes[index] = "\n".join([lines[0], *((plain + x).rstrip() for x in lines[1:])])
        return prefix + between.join(block.replace(LINE, LINE + prefix) for block in blocks)


def _rows_of(table: Any) -> Iterator[Any]:
    """Yield the rows of a table, without those of tables within it."""
    for child in table:
        if child.tag == "tr":
            yield child
        elif child.tag in ("thead", "tbody", "tfoot"):
            yield from child.iterchildren("tr")


def _holds_blocks(element: Any) -> bool:
    """Whether an inline element was opened around blocks, as `<b><p>…</p></b>`."""
    return element.tag not in _DROPPED and any(e.tag in _BLOCKS for e in element.iterdescendants())


def _script(tag: str, text: str, *, attached: bool) -> str:
    """Return raised or lowered text in Unicode's characters, or after `^` or `_`.

    What is attached to nothing, or too long, is small print.
    """
    text = text.strip()
    raised = tag == "sup"
    if (_RAISABLE if raised else _LOWERABLE).fullmatch(text):
        return text.translate(_RAISED if raised else _LOWERED)
    plain = not attached or len(text) > MAX_SCRIPT or text[:1] in ("", "[", GONE, GAP)
    if plain or (raised and text.casefold() in _MARKS):
        return text
    bare = len(text) == 1 or (text[0] == "(" and text.find(")") == len(text) - 1)
    return ("^" if raised else "_") + (text if bare else f"({text})")


def _is_list(block: str) -> bool:
    return block.startswith(f"*{SPACE}") or _NUMBERED.match(block) is not None


def _start(element: Any) -> int:
    text = element.get("start", "")
    return int(text) if text.isdecimal() and len(text) < 10 else 1


_WRITERS: dict[str, Callable[[Walk, Any, int, list[str]], None]] = {
    **dict.fromkeys(_BLOCKS, Walk.blocks),
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), Walk.heading),
    "p": Walk.paragraph,
    "pre": Walk.code_block,
    "blockquote": Walk.quote,
    "ul": Walk.listing,
    "ol": Walk.listing,
    "table": Walk.table,
}
