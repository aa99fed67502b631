"""Records of JSON and CSV files, as streams: compressed or not, local or on a storage.

What cannot be read is noted as damage and passed over; the rest goes on.
"""

import bz2
import contextlib
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec

from lima.common.encoding import not_bytewise, not_utf8
from lima.curation.reading.damage import Damage
from lima.errors import DataError
from lima.store.storage import Storage

Record = dict[str, Any]

MAX_LINE = 64 << 20
"""Longest line of JSONL that is read, in bytes: more is damage, or a bomb."""
MAX_DOCUMENT = 1 << 30
"""Largest JSON document that is read whole, in bytes."""
DAMAGED: tuple[type[Exception], ...] = (OSError, EOFError, zlib.error, lzma.LZMAError)
BOM = b"\xef\xbb\xbf"


def records(path: str, damage: Damage, *, containing: bytes = b"") -> Iterator[tuple[str, Record]]:
    """Yield `(where, record)` of a JSONL file, or of a JSON file that is a list of records.

    Lines without the bytes `containing` are passed over unread: a tenth of the time in a dump
    of all of Reddit.
    """
    with open_bytes(path) as stream:
        start = _start(path, stream, damage)
        if start is None:
            return
        if start.removeprefix(BOM).lstrip().startswith(b"["):
            yield from _list_items(path, stream, damage)
        else:
            yield from _lines(path, stream, damage, containing)


def document(path: str, damage: Damage) -> Any:
    """Return the one JSON document of a file; None if it is damaged."""
    with open_bytes(path) as stream:
        return _document(path, stream, damage)


def rows(path: str, damage: Damage) -> Iterator[tuple[str, Record]]:
    """Yield `(where, row)` of a CSV file with a header."""
    csv.field_size_limit(MAX_LINE)
    with open_bytes(path) as stream:
        if _start(path, stream, damage) is None:
            return
        lines = _bounded_lines(path, stream, damage)
        reader = csv.DictReader(line.decode("utf-8", "surrogateescape") for _, line in lines)
        try:
            for row in reader:
                where = f"{path}:{reader.line_num}"
                if None in row or not all(_is_text(value) for value in row.values()):
                    damage.note(where, "not a row of the header's columns in UTF-8")
                else:
                    yield where, cast("Record", row)
        except csv.Error as error:
            damage.note(f"{path}:{reader.line_num}", "cannot be read on", str(error))


@contextlib.contextmanager
def open_bytes(path: str) -> Iterator[io.BufferedReader]:
    """Open a local file or an object for reading, unpacked by its suffix.

    Raises:
        DataError: there is no such file.
        StorageError: a storage could not be reached.

    """
    with _opened(path) as raw, io.BufferedReader(_unpacked(raw, path)) as stream:
        yield stream


def _opened(path: str) -> Any:
    if "://" in path:
        folder, _, name = path.rpartition("/")
        storage = Storage(folder)
        if storage.exists(name):
            return storage.filesystem.open_input_file(storage.full_path(name))
        raise DataError(f"{path}: no such object")
    try:
        return Path(path).expanduser().open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _unpacked(raw: Any, path: str) -> Any:
    if path.endswith(".gz"):
        return gzip.GzipFile(fileobj=raw)
    if path.endswith(".bz2"):
        return bz2.BZ2File(raw)
    if path.endswith(".xz"):
        return lzma.LZMAFile(raw)
    if path.endswith(".zst"):
        from lima.curation.reading.zstd_file import ZstdFile

        return ZstdFile(raw)
    return raw


def _start(path: str, stream: io.BufferedReader, damage: Damage) -> bytes | None:
    """Return the first bytes of a file, which are still to be read; None: it is no text of ours."""
    try:
        start = stream.peek(64)
    except _unreadable(path) as error:
        damage.note(path, "cannot be read", str(error))
        return None
    if problem := not_bytewise(start):
        damage.note(path, "not UTF-8", problem)
        return None
    return start


def _list_items(
    path: str, stream: io.BufferedReader, damage: Damage
) -> Iterator[tuple[str, Record]]:
    items = _document(path, stream, damage) or []
    for number, item in enumerate(items):
        where = f"{path}[{number}]"
        if isinstance(item, dict):
            yield where, item
        else:
            damage.note(where, "not a JSON object")


def _document(path: str, stream: io.BufferedReader, damage: Damage) -> Any:
    try:
        data = stream.read(MAX_DOCUMENT + 1)
        if len(data) <= MAX_DOCUMENT:
            if problem := not_utf8(data):
                damage.note(path, "not UTF-8", problem)
                return None
            return _decoded(data.removeprefix(BOM))
        damage.note(path, f"a JSON document of more than {MAX_DOCUMENT} bytes", "use JSONL")
    except ValueError as error:
        damage.note(path, "not a JSON document", str(error))
    except _unreadable(path) as error:
        damage.note(path, "cannot be read", str(error))
    return None


def _lines(
    path: str, stream: io.BufferedReader, damage: Damage, containing: bytes
) -> Iterator[tuple[str, Record]]:
    for number, line in _bounded_lines(path, stream, damage):
        if containing not in line or not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            record = _decoded(line)
        except ValueError as error:
            cut = "" if line.endswith(b"\n") else "; the file may be cut off"
            problem = not_utf8(line)
            damage.note(where, "not UTF-8" if problem else "not JSON", problem or f"{error}{cut}")
            continue
        if isinstance(record, dict):
            yield where, record
        else:
            damage.note(where, "not a JSON object")


def _bounded_lines(
    path: str, stream: io.BufferedReader, damage: Damage
) -> Iterator[tuple[int, bytes]]:
    number = 0
    try:
        while line := stream.readline(MAX_LINE):
            number += 1
            if len(line) == MAX_LINE and not line.endswith(b"\n"):
                damage.note(f"{path}:{number}", f"a line of more than {MAX_LINE} bytes")
                while len(line) == MAX_LINE and not line.endswith(b"\n"):
                    line = stream.readline(MAX_LINE)
                continue
            yield number, line.removeprefix(BOM) if number == 1 else line
    except _unreadable(path) as error:
        damage.note(f"{path}:{number + 1}", "cannot be read on", str(error))


def _unreadable(path: str) -> tuple[type[Exception], ...]:
    """Return what reading a damaged file of this compression raises."""
    if not path.endswith(".zst"):
        return DAMAGED
    import zstandard

    return (*DAMAGED, zstandard.ZstdError)


def _decoded(data: bytes) -> Any:
    """Return a JSON value.

    Raises:
        ValueError: it is none.

    """
    try:
        return msgspec.json.decode(data)
    except RecursionError:
        raise ValueError("lists or objects within each other without end") from None
    except ValueError:
        value = json.loads(data)  # takes the NaN that pandas and Python write
        msgspec.json.encode(value)  # refuses halves of characters, which no file can hold
        return value


def _is_text(value: object) -> bool:
    return isinstance(value, str) and not any("\udc80" <= c <= "\udcff" for c in value)
