"""The first half of reading a site: its rows are put aside by question, on disk.

Answers lie anywhere in a dump, before or after their question. So every row goes to the partition
of its question's id: what belongs together meets there, and a partition fits into memory however
large the site. Comments go to the partition of their answer's question. Nothing is parsed here.
"""

import html
import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lima.curation.reading.damage import Damage
from lima.curation.stackexchange.dump import COMMENTS, POSTS, USERS, Chunks, Dump
from lima.curation.stackexchange.on_disk import Names, NameWriter, Spill
from lima.curation.stackexchange.xml_rows import START, attribute, frames, parse_rows, reason_of
from lima.spec.curate import CurateSpec

RANGE = 1 << 16
"""Post ids a partition, and a shard: about 60 MB of rows."""
BATCH = 4096
"""Rows that are looked up or written together."""
MAX_ID = 2**40
QUESTION, ANSWER = 1, 2
"""Post types; the others are wikis of tags, elections and the like."""

_ROW = re.compile(START)
_USER = re.compile(rb"-?[0-9]{1,18}")
_BEGINNING = re.compile(rb'<row Id="([0-9]+)" PostTypeId="([0-9]+)"(?: ParentId="([0-9]+)")?')
"""Of a row as Stack Exchange writes it; others are searched for what is in it."""


class Post(NamedTuple):
    """What decides where a row of Posts.xml belongs."""

    kind: int
    id: int
    question: int
    """Id of the question: its own, or its parent's."""
    row: bytes


@dataclass
class SplitSite:
    """A site whose rows are put aside in a folder."""

    site: str
    folder: Path
    damage: Damage = field(default_factory=Damage)

    @property
    def partitions(self) -> list[int]:
        """Numbers of the partitions that hold posts."""
        return self.posts.partitions()

    @property
    def posts(self) -> Spill:
        """Rows of Posts.xml by their question."""
        return Spill(self.folder / "posts")

    @property
    def comments(self) -> Spill:
        """Rows of Comments.xml by the question of their answer."""
        return Spill(self.folder / "comments")

    @property
    def names(self) -> Names:
        """Names of users."""
        return Names(self.folder / "names")


def split(dump: Dump, folder: Path, spec: CurateSpec, *, dialogues: bool) -> SplitSite:
    """Put the rows of a site aside; memory does not grow with the site.

    Args:
        dump: The files of the site.
        folder: An empty folder on a local disk; takes about a third of the unpacked posts.
        spec: Limits, and whether damage stops.
        dialogues: Whether comments are needed.

    Raises:
        DataError: the input is damaged and `spec` is strict.

    """
    site = SplitSite(dump.site, folder, Damage(spec.strict))
    splitter = _Splitter(site, spec, dialogues)
    wanted = (POSTS, USERS, COMMENTS) if dialogues else (POSTS, USERS)
    for table, where, chunks in dump.streams(wanted, spec.limits, site.damage):
        splitter.readers[table](chunks, where)
    splitter.finish()
    return site


def identify(row: bytes) -> Post | str:
    """Return where a row of Posts.xml belongs, or what is wrong with it."""
    usual = _BEGINNING.match(row)
    own, kind, parent = usual.groups(b"") if usual else _sought(row)
    parent = own if kind != b"2" else parent or attribute(row, b"ParentId")
    if not (kind.isdigit() and own.isdigit() and parent.isdigit()):
        parsed = parse_rows([row])[0]
        if parsed is None:
            return reason_of(row)
        kind, own = parsed.get("PostTypeId", "").encode(), parsed.get("Id", "").encode()
        parent = parsed.get("ParentId", "").encode() if kind == b"2" else own
        missing = {"PostTypeId": kind, "Id": own, "ParentId": parent}
        for name, value in missing.items():
            if not value.isdigit():
                return f"row has no {name}"
    if max(len(own), len(parent)) > len(str(MAX_ID)) or not 0 < int(parent) < MAX_ID:
        return "row has an impossible Id"
    return Post(int(kind), int(own), int(parent), row)


def _sought(row: bytes) -> tuple[bytes, bytes, bytes]:
    return attribute(row, b"Id"), attribute(row, b"PostTypeId"), b""


class _Splitter:
    def __init__(self, site: SplitSite, spec: CurateSpec, dialogues: bool) -> None:
        self.damage, self.max_bytes = site.damage, spec.limits.max_row_bytes
        self.turns = spec.filters.min_dialogue_turns if dialogues else 0
        self.posts, self.comments = site.posts, site.comments
        self.unsorted = Spill(site.folder / "unsorted", buffer=4 << 20)
        self.names = NameWriter(site.folder / "names")
        self.answers, self.questions = array("q"), array("q")
        self.readers = {POSTS: self._posts, USERS: self._users, COMMENTS: self._comments}

    def finish(self) -> None:
        """Sort the comments, once all answers are known."""
        self.posts.close()
        self.names.close()
        self.unsorted.close()
        if self.answers:
            self._sort_comments()

    def _posts(self, chunks: Chunks, where: str) -> None:
        for position, row in frames(chunks, where, self.max_bytes, self.damage):
            post = identify(row)
            if isinstance(post, str):
                self.damage.note(f"{where}: byte {position}", post)
                continue
            self.posts.add(post.question // RANGE, row)
            if self.turns and post.kind == ANSWER and _number(row, b"CommentCount") >= self.turns:
                self.answers.append(post.id)
                self.questions.append(post.question)

    def _users(self, chunks: Chunks, where: str) -> None:
        ids, names = array("q"), list[bytes]()
        for _, row in frames(chunks, where, self.max_bytes, self.damage):
            own = attribute(row, b"Id")
            if _USER.fullmatch(own):
                ids.append(int(own))
                name = attribute(row, b"DisplayName").decode("utf-8", "replace")
                names.append(html.unescape(name).encode())
            if len(ids) >= BATCH:
                self.names.add(ids, names)
                ids, names = array("q"), []
        self.names.add(ids, names)

    def _comments(self, chunks: Chunks, where: str) -> None:
        for _, row in frames(chunks, where, self.max_bytes, self.damage):
            self.unsorted.add(0, row)

    def _sort_comments(self) -> None:
        """Put comments beside the question of their answer. A sorted list finds it: 16 bytes for
        each answer with enough comments."""
        answers = np.frombuffer(self.answers, np.int64)
        order = np.argsort(answers)
        answers, questions = answers[order], np.frombuffer(self.questions, np.int64)[order]
        for block in self.unsorted.read(0):
            rows = _rows(block)
            posts = np.array([_number(row, b"PostId") for row in rows], np.int64)
            at = np.minimum(np.searchsorted(answers, posts), len(answers) - 1)
            for index in np.flatnonzero(answers[at] == posts):
                self.comments.add(int(questions[at[index]]) // RANGE, rows[index])
        self.comments.close()


def _rows(block: bytes) -> list[bytes]:
    starts = [found.start() for found in _ROW.finditer(block)]  # faster than `split`
    return [block[start:end] for start, end in pairwise([*starts, len(block)])]


def joined_rows(blocks: Iterable[bytes]) -> list[bytes]:
    """Return the rows of a partition's blocks, in their order."""
    return [row for block in blocks for row in _rows(block)]


def _number(row: bytes, name: bytes) -> int:
    value = attribute(row, name)
    return int(value) if value.isdigit() and len(value) < 19 else 0
