"""Rows of a dump's XML as a stream: found by their tags, each parsed by libxml2 on its own terms.

A row begins at `<row` and nowhere else, since XML has no bare `<` within a row. So damage to one
row never reaches the next, and what is not needed is never parsed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Any

from lxml import etree

from lima.curation.reading.damage import Damage

START = b"<row"
BREAKS_OFF = "file breaks off after a row"
NOT_XML = "row is not well-formed XML"
REPLACED = "character that XML forbids, replaced"
NOT_UTF8 = "row is not in UTF-8, and the file does not say in what"
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)

Attributes = dict[str, str]
_TAG_BOUNDS = re.compile(r"[<>|]+")
_REFERENCE = re.compile(rb"&#(?:x([0-9A-Fa-f]{1,8})|([0-9]{1,10}));")
_CONTROL = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]")
_INSTEAD = "\ufffd".encode()


class _Collector:
    """Takes the attributes of elements as they are parsed, so that no tree is built."""

    def __init__(self) -> None:
        self._found: list[Attributes] = []

    def start(self, _tag: str, attributes: Attributes) -> None:
        self._found.append(attributes)

    def close(self) -> list[Attributes]:
        return self._found


def frames(
    chunks: Iterable[bytes], where: str, max_bytes: int, damage: Damage
) -> Iterator[tuple[int, bytes]]:
    """Yield `(position, row)` of every row, from `<row` to the next one or the end.

    Memory is bounded by a chunk and `max_bytes`; a longer row is damage, and so is a file
    without rows.

    Args:
        chunks: The file, in pieces of any size.
        where: Its name, for the log.
        max_bytes: Longest row.
        damage: The log.

    """
    inside, base, rest, cut = False, 0, b"", 0
    for chunk in chunks:
        *parts, rest_of_chunk = (rest + chunk).split(START)
        for part in parts:
            position, size = base - cut, cut + len(part)
            if inside and (problem := _problem(part, size, max_bytes)):
                damage.note(f"{where}: byte {position}", *problem)
            elif inside and part[:1].isspace():
                yield position, START + part
            inside, base, cut = True, base + len(part) + len(START), 0
        rest = rest_of_chunk
        if len(rest) > max_bytes:
            # Keep as much as may be the beginning of the next `<row`.
            dropped = len(rest) - len(START) + 1
            rest, base, cut = rest[dropped:], base + dropped, cut + dropped
    if not inside:
        damage.note(where, "holds no rows")
    elif problem := _problem(rest, cut + len(rest), max_bytes):
        damage.note(f"{where}: byte {base - cut}", *problem)
    elif rest[:1].isspace():
        yield base - cut, START + rest
        if rest.rstrip().endswith(b"/>"):  # no end tag of the document follows
            damage.note(f"{where}: byte {base + len(rest)}", BREAKS_OFF)


def _problem(part: bytes, size: int, max_bytes: int) -> tuple[str, str] | None:
    """Return what is wrong with the text between one `<row` and the next."""
    if size > max_bytes:
        return "row is too long", f"{size} bytes; curate.limits.max_row_bytes allows {max_bytes}"
    if part[:1].isspace() or part[:2] == b"s>":  # `<rows>` is a root that some tools write
        return None
    return NOT_XML, ""


def attribute(row: bytes, name: bytes) -> bytes:
    """Return an attribute of a row as it is written; empty if it is not found at a glance."""
    start = row.find(b" " + name + b'="')
    if start < 0:
        return b""
    start += len(name) + 3
    end = row.find(b'"', start)
    return row[start:end] if end >= 0 else b""


def reason_of(row: bytes) -> str:
    """Return why a row is None to `parse_rows`."""
    try:
        row.decode("utf-8")
    except UnicodeDecodeError:
        return NOT_UTF8
    return NOT_XML


def parse_rows(
    rows: Sequence[bytes], damage: Damage | None = None, where: str = ""
) -> list[Attributes | None]:
    """Return the attributes of rows as `frames` yields them; None for one that is not XML.

    Characters that XML forbids, as `&#x0E;`, are replaced by U+FFFD, and noted in `damage`.
    """
    tidy = [_ended(row) for row in rows]
    joined = b"".join(tidy)
    if joined.count(b"<") == len(rows):  # nothing but empty elements, so each of them is a row
        # Within an element no entity can be declared: only those of XML itself are resolved.
        parser = etree.XMLParser(target=_Collector(), resolve_entities="internal", no_network=True)
        with suppress(etree.XMLSyntaxError):
            found: list[Attributes] = etree.fromstring(b"<rows>" + joined + b"</rows>", parser)
            return [*found[1:]]
    return [_parse_one(row, damage, where) for row in tidy]


def split_tags(text: str) -> tuple[str, ...]:
    """Return the tags of a question: `<a><b>`, and `|a|b|` since 2024."""
    return tuple(tag for tag in _TAG_BOUNDS.split(text) if tag)


def _ended(row: bytes) -> bytes:
    """Return a row without what follows it: spaces, and the end tag of the document."""
    row = row.rstrip()
    if row.endswith(b"/>"):
        return row
    end = max(row.rfind(b"/>"), row.rfind(b"</row>") + 4)
    tail = row[end + 2 :].strip() if end >= 4 else b""
    if tail.startswith(b"</") and tail.endswith(b">") and tail.count(b"<") == 1:
        return row[: end + 2]
    return row


def _parse_one(row: bytes, damage: Damage | None, where: str) -> Attributes | None:
    found = _attributes(row)
    if found is not None:
        return found
    allowed, count = _without_forbidden(row)
    found = _attributes(allowed) if count else None
    if found is not None and damage is not None:
        for _ in range(count):
            damage.note(f"{where}: post {found.get('Id', '')}", REPLACED)
    return found


def _attributes(row: bytes) -> Attributes | None:
    try:
        root: Any = etree.fromstring(b"<rows>" + row + b"</rows>", _PARSER)
    except etree.XMLSyntaxError:
        return None
    return dict(root[0].items()) if len(root) == 1 else None


def _without_forbidden(row: bytes) -> tuple[bytes, int]:
    """Return a row with other characters for those that XML forbids, and how many they were."""
    replaced = 0

    def allowed(reference: re.Match[bytes]) -> bytes:
        nonlocal replaced
        number = int(reference[1], 16) if reference[1] else int(reference[2])
        if _is_character(number):
            return reference[0]
        replaced += 1
        return _INSTEAD

    row = _REFERENCE.sub(allowed, row)
    row, controls = _CONTROL.subn(_INSTEAD, row)
    return row, replaced + controls


def _is_character(number: int) -> bool:
    """Whether XML 1.0 has a character of this number (its production 2)."""
    if number < 0x20:
        return number in (0x9, 0xA, 0xD)
    return number <= 0x10FFFF and not 0xD800 <= number <= 0xDFFF and number not in (0xFFFE, 0xFFFF)
