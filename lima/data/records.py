"""The records of a file of examples: JSONL, a JSON list or Parquet, packed or not.

A file is known by its first bytes: what it is called does not matter.
"""

import json
from collections.abc import Iterator
from typing import Any

from lima.common.encoding import not_utf8, unpacked
from lima.common.parquet_rows import PARQUET, parquet_rows
from lima.common.paths import base_name
from lima.errors import DataError

TAR = slice(257, 262)
"""Where an archive says that it is one."""
TABLES_OF_TEXT = (".csv", ".tsv")
"""Whose columns nobody can guess."""


def records(data: bytes, where: str) -> Iterator[tuple[str, Any]]:
    """Yield `(place, value)` of each record of a file; blank lines are passed over.

    Args:
        data: Of the file.
        where: What errors call it.

    Raises:
        DataError: it is damaged, or no such file; the message names the line.

    """
    try:
        data = unpacked(data)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None
    if data[TAR.start : TAR.stop] == b"ustar":
        raise DataError(f"{where}: a tar archive; unpack it, and name a file or folder of it")
    if data.startswith(PARQUET):
        return _of_parquet(data, where)
    if problem := not_utf8(data):
        raise DataError(f"{where}: {problem}")
    text = data.decode("utf-8-sig")
    if base_name(where).lower().endswith(TABLES_OF_TEXT):
        raise DataError(
            f"{where}: a table of texts does not say which column is the prompt; write a line of "
            'JSON a row instead, {"prompt": …, "response": …}'
        )
    return _of_list(text, where) if text.lstrip()[:1] == "[" else _of_lines(text, where)


def _of_parquet(data: bytes, where: str) -> Iterator[tuple[str, Any]]:
    for number, row in enumerate(parquet_rows(data, where), start=1):
        yield f"{where}:{number}", row


def _of_list(text: str, where: str) -> Iterator[tuple[str, Any]]:
    found = parsed(text, where)
    if not isinstance(found, list):  # [1] 2
        raise DataError(f"{where}: not a list of records")
    for number, record in enumerate(found):
        yield f"{where}[{number}]", record


def _of_lines(text: str, where: str) -> Iterator[tuple[str, Any]]:
    # Not splitlines(): a JSON string may hold U+2028 and the like.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{where}:{number}", parsed(line, f"{where}:{number}")


def parsed(text: str, where: str) -> Any:
    """Return a JSON value.

    Raises:
        DataError: it is none; the message begins with `where`.

    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        line = f"{where}:{error.lineno}" if error.lineno > 1 else where
        raise DataError(f"{line}: not JSON ({error.msg}); mend or drop the line") from None
    except (ValueError, RecursionError):
        raise DataError(
            f"{where}: holds a number of thousands of digits, or lists within lists without end; "
            "mend or drop the line"
        ) from None
