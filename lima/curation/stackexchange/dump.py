"""Dumps of Stack Exchange as byte streams: archives and folders, a site at a time.

A site is `SITE.7z`, or the archives `SITE-Posts.7z` and so on of the largest one, or a folder
`SITE` with `Posts.xml` (which may be compressed), once. Nothing is unpacked to disk.
"""

import codecs
import itertools
import lzma
import re
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lima.common.paths import base_name
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import open_bytes
from lima.errors import DataError, InputError
from lima.spec.curate import LimitSpec
from lima.store.files import files
from lima.store.storage import Storage

POSTS, COMMENTS, USERS = "Posts", "Comments", "Users"
CHUNK = 1 << 20
GRACE = 64 << 20
"""Bytes that a file may unpack to whatever its ratio."""
_SPLIT_ARCHIVE = re.compile(r"(.+)-(Posts|Comments|Users)\.7z", re.IGNORECASE)
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*encoding=["']([\w.:-]+)["']""")

Chunks = Iterator[bytes]


@dataclass(frozen=True)
class Dump:
    """The files of one site: archives, which hold any tables, and single tables."""

    site: str
    archives: tuple[str, ...] = ()
    tables: tuple[tuple[str, str], ...] = ()
    """`(table, path)` of XML files."""

    @property
    def size(self) -> int:
        """Packed bytes."""
        return sum(size_of(path) for path in (*self.archives, *(path for _, path in self.tables)))

    def streams(
        self, wanted: Sequence[str], limits: LimitSpec, damage: Damage
    ) -> Iterator[tuple[str, str, Chunks]]:
        """Yield `(table, where, chunks of UTF-8)` of the wanted tables, to be read in turn.

        What cannot be read, breaks off, or unpacks to more than the limits allow is damage; the
        chunks before it are yielded.
        """
        for table, path in self.tables:
            if table in wanted:
                chunks = _bounded(_read(path, damage), path, limits, damage)
                yield table, path, _as_utf8(chunks, path, damage)
        for path in self.archives:
            for table, where, chunks in _unpack(path, wanted, limits, damage):
                yield table, where, _as_utf8(chunks, where, damage)


def find_dumps(paths: Sequence[str]) -> list[Dump]:
    """Return the sites below `paths`, by name.

    Raises:
        DataError: a path does not exist or holds no dump, or a site's table lies there twice.

    """
    archives: defaultdict[str, list[str]] = defaultdict(list)
    tables: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
    for path in files(paths, (".7z", ".xml")):
        name = base_name(path)
        if name.endswith(".7z"):
            split = _SPLIT_ARCHIVE.fullmatch(name)
            archives[split[1] if split else name.removesuffix(".7z")].append(path)
        elif (table := _table(name)) in (POSTS, COMMENTS, USERS):
            site = path.rstrip("/").rsplit("/", 2)[-2] if "/" in path else "stackexchange"
            tables[site].append((table, path))
    unpacked = {site for site, found in tables.items() if any(t == POSTS for t, _ in found)}
    sites = sorted(archives.keys() | unpacked)
    if not sites:
        raise DataError(f"{', '.join(paths)}: no SITE.7z and no folder with Posts.xml in it")
    return [Dump(s, tuple(archives[s]), _once_each(s, tables[s])) for s in sites]


def _once_each(site: str, found: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return a site's tables in order; of two files of one, nothing says which is meant."""
    tables = sorted(found)
    for (table, path), (following, other) in itertools.pairwise(tables):
        if table == following:
            raise DataError(
                f"{path} and {other}: two files with the {table} of {site}, of which only one can "
                "be read; take the other out of the paths of the source"
            )
    return tuple(tables)


def size_of(path: str) -> int:
    """Return the bytes of a file, as it lies there."""
    if "://" not in path:
        return Path(path).expanduser().stat().st_size
    folder, _, name = path.rpartition("/")
    storage = Storage(folder)
    return int(storage.filesystem.get_file_info(storage.full_path(name)).size or 0)


def _table(name: str) -> str:
    return name.rsplit("/", 1)[-1].removesuffix(".xml").capitalize()


def _read(path: str, damage: Damage) -> Chunks:
    with open_bytes(path) as stream:
        # An unpacker's own `read1` gives what it has; a full read would lose it to an error.
        read = getattr(stream.raw, "read1", stream.read1)
        while True:
            try:
                chunk = read(CHUNK)
            except _errors_of(path) as error:
                damage.note(path, "file breaks off or is damaged", str(error))
                return
            if not chunk:
                return
            yield chunk


def _errors_of(path: str) -> tuple[type[Exception], ...]:
    """Return what reading a damaged file raises."""
    known = (OSError, EOFError, zlib.error, lzma.LZMAError)
    if not path.endswith(".zst"):
        return known
    import zstandard

    return (*known, zstandard.ZstdError)


def _unpack(
    path: str, wanted: Sequence[str], limits: LimitSpec, damage: Damage
) -> Iterator[tuple[str, str, Chunks]]:
    """Yield the wanted tables of a .7z archive in one pass over it."""
    libarchive = _libarchive()
    packed = size_of(path)
    with open_bytes(path) as stream:
        try:
            with libarchive.stream_reader(stream, "7zip", "none", CHUNK) as archive:
                for entry in archive:
                    table, where = _table(entry.pathname), f"{path}:{entry.pathname}"
                    allowed = max(packed * limits.max_expansion, GRACE)
                    if (entry.size or 0) > min(allowed, limits.max_bytes):
                        damage.note(path, "unpacks to more than the limits", entry.pathname)
                        return
                    if table in wanted:
                        chunks = _blocks(entry, where, damage)
                        yield table, where, _bounded(chunks, path, limits, damage)
        except libarchive.ArchiveError as error:
            damage.note(path, "file breaks off or is damaged", error.msg)


def _blocks(entry: Any, where: str, damage: Damage) -> Chunks:
    # Of an error only its words are told: with it stands where it lay in memory.
    try:
        yield from entry.get_blocks(CHUNK)
    except _libarchive().ArchiveError as error:
        damage.note(where, "file breaks off or is damaged", error.msg)


def _libarchive() -> Any:
    try:
        import libarchive
    except (ImportError, OSError, AttributeError, TypeError) as error:
        raise InputError(
            f".7z archives need libarchive ({error}); install it, as by `apt install "
            "libarchive13` or `brew install libarchive`, or unpack the archives to folders"
        ) from None
    return libarchive


def _bounded(chunks: Chunks, path: str, limits: LimitSpec, damage: Damage) -> Chunks:
    """Pass chunks on until a file unpacks to more than it may."""
    packed, unpacked = size_of(path), 0
    allowed = min(max(packed * limits.max_expansion, GRACE), limits.max_bytes)
    for chunk in chunks:
        unpacked += len(chunk)
        if unpacked > allowed:
            detail = f"over {allowed} bytes, see curate.limits"
            damage.note(path, "unpacks to more than the limits", detail)
            return
        yield chunk


def _as_utf8(chunks: Chunks, where: str, damage: Damage) -> Chunks:
    """Recode what says that it is in another encoding; bytes that do not fit stay visible."""
    first = next(chunks, b"")
    encoding = next((name for bom, name in _BOMS if first.startswith(bom)), "")
    if not encoding:
        declared = _DECLARED.match(first)
        encoding = declared[1].decode("ascii") if declared else "utf-8"
    try:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    except LookupError:
        damage.note(where, "unknown encoding", encoding)
        return
    if codecs.lookup(encoding).name in ("utf-8", "utf-8-sig", "ascii"):
        yield first
        yield from chunks
        return
    damage.note(where, "not in UTF-8, recoded", encoding)
    yield decoder.decode(first).encode()
    for chunk in chunks:
        yield decoder.decode(chunk).encode()
