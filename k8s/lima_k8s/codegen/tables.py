"""Tables of Markdown from types of specs."""

import dataclasses
import inspect
from collections.abc import Iterator, Sequence

from msgspec import Meta


def meaning(annotation: object, nested: type | None) -> str:
    """Return what a field means: its description, or that of the type it holds."""
    for meta in getattr(annotation, "__metadata__", ()):
        if isinstance(meta, Meta) and meta.description:
            return meta.description
    return (inspect.getdoc(nested) or "").split("\n", 1)[0] if nested else ""


def default_of(field: "dataclasses.Field[object]") -> object:
    """Return the default of a field; `dataclasses.MISSING`: it has none."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def markdown_table(
    headers: Sequence[str], rows: Iterator[Sequence[str]] | Sequence[Sequence[str]]
) -> Iterator[str]:
    """Yield the lines of a table."""
    for row in (headers, ["---"] * len(headers), *rows):
        yield f"| {' | '.join(value.replace('|', chr(92) + '|') for value in row)} |"
