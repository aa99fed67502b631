"""Rows of a dump's XML as a stream: found by their tags, each parsed by libxml2 on its own terms.

A row begins at `<row` and nowhere else, since XML has no bare `<` within a row. So damage to one
row never reaches the next, and what is not needed is never parsed.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from lxml import etree

from lima.curation.damage import Damage

START = b"<row"
NOT_WELL_FORMED = "row is not well-formed XML"
_END = re.compile(rb"\s*(?:</[A-Za-z]+>\s*)?\Z")
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False)


def frames(
    chunks: Iterable[bytes], where: str, max_bytes: int, damage: Damage
) -> Iterator[tuple[int, bytes]]:
    """Yield `(position, bytes)` of every row: from `<row` to the next one or the end.

    Memory is bounded by one chunk and one row. A longer row than `max_bytes` is damage.
    """
    position, rest, size = 0, b"", 0
    for chunk in chunks:
        parts = (rest + chunk).split(START)
        # The first part ends the row that an earlier chunk began, or stands before all rows.
        for part in parts[:-1]:
            size += len(part)
            if position:
                yield from _frame(position, part, size, where, max_bytes, damage)
            position, size = position + size + len(START) if position else size + len(START), 0
        rest = parts[-1]
    if position:
        yield from _frame(position, rest, size + len(rest), where, max_bytes, damage)


def _frame() -> None: ...
