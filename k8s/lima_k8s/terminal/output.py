"""What commands write: results on standard output, everything else on standard error."""

import json
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.console import Console

PLAIN_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./:+-]*[A-Za-z0-9_]")
SEQUENCES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])"
    r"|\x9b[0-?]*[ -/]*[@-~]|[\x90\x9d\x98\x9e\x9f][^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
)
"""Escape sequences of terminals (ECMA-48): colours and cursor, titles and clipboard, the rest."""
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Other control characters, and those that turn the direction of text."""
NOT_WORDS = {"true", "false", "null", "yes", "no", "on", "off"}
"""Words that one or the other version of YAML takes for something else."""


def write_json(document: Any) -> None:
    """Write the one JSON document of `--format json`."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def write_yaml(document: Any) -> None:
    """Write plain data as YAML."""
    click.echo(yaml_text(document))


def yaml_text(document: Any) -> str:
    """Return plain data as YAML. Its own writer: importing PyYAML takes longer than `show`."""
    return "\n".join(_yaml_lines(document))


def visible(text: str) -> str:
    """Return a text of a model or a user without what a terminal would obey.

    Escape sequences could move the cursor, hide or forge what is on the screen, or write into the
    clipboard. Line breaks and tabs stay; every other control character is shown as a mark.
    """
    return CONTROLS.sub("\ufffd", SEQUENCES.sub("", text.replace("\r\n", "\n")))


def write_table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write rows as columns of plain text, numbers to the right."""
    cells = [["" if value is None else _one_line(str(value)) for value in row] for row in rows]
    headers = [_one_line(header) for header in headers]
    widths = [max(map(len, column)) for column in zip(headers, *cells, strict=True)]
    right = [_is_numeric([row[i] for row in rows]) for i in range(len(headers))]
    for row in [list(headers), *cells]:
        line = (
            value.rjust(width) if is_right else value.ljust(width)
            for value, width, is_right in zip(row, widths, right, strict=True)
        )
        click.echo("  ".join(line).rstrip())


def _one_line(text: str) -> str:
    return " ".join(visible(text).splitlines())


def _is_numeric(column: Sequence[object]) -> bool:
    present = [value for value in column if value is not None]
    return bool(present) and all(isinstance(value, int | float) for value in present)


def plain_console(*, stderr: bool = False, width: int | None = None) -> "Console":
    """Return a console of rich that takes no text for markup: names and texts are of users."""
    from rich.console import Console

    return Console(stderr=stderr, width=width, markup=False, emoji=False, highlight=False)


def say(message: str) -> None:
    """Write a message for people."""
    click.echo(visible(message), err=True)


def duration_text(seconds: float | None) -> str:
    """Return a time as people say it: 40 s, 12 min, 3.5 h."""
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _yaml_lines(value: Any) -> Iterator[str]:
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in items:
        start = "-" if key is None else f"{_yaml_scalar(key)}:"
        if not (item and isinstance(item, dict | list | tuple)):
            yield f"{start} {_yaml_scalar(item)}"
        elif key is None:
            first, *rest = _yaml_lines(item)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
        else:
            yield start
            yield from (f"  {line}" for line in _yaml_lines(item))


def _yaml_scalar(value: Any) -> str:
    """Return a value as JSON writes it, which YAML reads; a plain word without its quotes."""
    if isinstance(value, str) and PLAIN_WORD.fullmatch(value) and value.lower() not in NOT_WORDS:
        return value
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if isinstance(value, float) and "." not in text:
        return text.replace("e", ".0e")  # to YAML 1.1, 1e-05 is a word
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in text)
