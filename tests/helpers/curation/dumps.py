"""Dumps of Stack Exchange in miniature, in every form in which users have them."""

import gzip
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import pytest

from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec

SITE = "ai.stackexchange.com"
SENTENCE = "A careful answer explains what happens and says why it does. "
LONG_ANSWER = f"<p>{SENTENCE * 25}</p>"
"""About 1,500 characters, without a word that a filter looks for."""


def row(**attributes: Any) -> str:
    """Return a row; `<`, `&` and line breaks are escaped as dumps do."""
    escapes = {"\n": "&#xA;", "\r": "&#xD;"}
    return (
        "  <row "
        + " ".join(f"{key}={quoteattr(str(value), escapes)}" for key, value in attributes.items())
        + " />"
    )


def question(number: int, title: str = "", **more: Any) -> str:
    """Return a question."""
    defaults = {
        "Id": number,
        "PostTypeId": 1,
        "CreationDate": "2016-08-02T15:39:14.947",
        "Score": 20,
        "Body": f"<p>What about thing number {number}, in some more words than one?</p>",
        "OwnerUserId": 7,
        "Title": title or f"What is thing number {number} good for?",
        "Tags": "<a><b-c>",
        "CommentCount": 0,
    }
    return row(**{**defaults, **more})


def answer(number: int, parent: int, **more: Any) -> str:
    """Return an answer that passes all filters."""
    defaults = {
        "Id": number,
        "PostTypeId": 2,
        "ParentId": parent,
        "CreationDate": "2019-08-02T15:40:24.820",
        "Score": 15,
        "Body": LONG_ANSWER.replace("A careful", f"Number {number}: a careful"),
        "OwnerUserId": 8,
        "CommentCount": 0,
    }
    return row(**{**defaults, **more})


def comment(number: int, post: int, user: int, text: str) -> str:
    """Return a comment."""
    date = f"2020-01-01T00:{number:02d}:00.000"
    return row(Id=number, PostId=post, Score=0, Text=text, CreationDate=date, UserId=user)


def user(number: int, name: str) -> str:
    """Return a user."""
    return row(Id=number, Reputation=1, DisplayName=name)


def document(rows: Iterable[str], root: str = "posts") -> bytes:
    """Return rows as a file of a dump: with a BOM, and lines as Windows ends them."""
    lines = ['<?xml version="1.0" encoding="utf-8"?>', f"<{root}>", *rows, f"</{root}>"]
    return b"\xef\xbb\xbf" + "\r\n".join(lines).encode()


def write_folder(folder: Path, tables: Mapping[str, bytes], *, packed: bool = False) -> Path:
    """Write tables as a folder of XML, or of XML.gz."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in tables.items():
        if packed:
            (folder / f"{name}.xml.gz").write_bytes(gzip.compress(data, mtime=0))
        else:
            (folder / f"{name}.xml").write_bytes(data)
    return folder


def write_7z(path: Path, tables: Mapping[str, bytes], compression: str = "lzma2") -> Path:
    """Write tables as one solid archive, in the order of their names."""
    libarchive = _libarchive()
    path.parent.mkdir(parents=True, exist_ok=True)
    options = f"compression={compression}"
    with libarchive.file_writer(str(path), "7zip", options=options) as archive:
        for name, data in sorted(tables.items()):
            archive.add_file_from_memory(f"{name}.xml", len(data), data)
    return path


def _libarchive() -> Any:
    try:
        import libarchive
    except (ImportError, OSError, AttributeError, TypeError):  # whatever a missing library raises
        pytest.skip(".7z needs the system library libarchive: apt-get install libarchive13")
    return libarchive


def spec(root: Path, **more: Any) -> CurateSpec:
    """Return a spec that reads the dumps of a folder and draws one question a site."""
    defaults: dict[str, Any] = {
        "sources": (SourceSpec("stackexchange", (".",)),),
        "arms": (ArmSpec("one", (PartSpec("stackexchange-stem", 1),)),),
        "root": str(root),
    }
    return CurateSpec(**{**defaults, **more})
