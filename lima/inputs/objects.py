"""What objects in buckets contain: by what is remembered, what the store keeps, or by reading."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lima.errors import BucketError, InputError, StorageError
from lima.inputs.fingerprint import SHA256, of_objects, of_stream, of_tree
from lima.inputs.memory import Memory, State, Unknown

if TYPE_CHECKING:
    from lima.store.storage import Entry, Storage

LARGEST_READ = 4 << 30
"""Bytes of a folder of a bucket up to which it is read for its fingerprint: of 65B, 130 GB would
travel to whoever submits."""
THREADS = 4
"""Objects that are looked at at the same time."""
LOCAL = "file"
NOT_READ = "its store keeps no sha256 of it, so that `submit` reads it"


@dataclass(frozen=True)
class Found:
    """The size of an object, or of some, in bytes, and the fingerprint."""

    size: int
    fingerprint: str


class Objects:
    """Looks at objects."""

    def __init__(self, memory: Memory, *, brief: bool = False) -> None:
        """Look with what is remembered; `brief`: read none."""
        self.memory, self.brief = memory, brief
        self._refusals: dict[str, Unknown | None] = {}

    def refusal(self, uri: str) -> Unknown | None:
        """Return why a bucket cannot be asked, found out in seconds and once; None: it can."""
        bucket = "/".join(uri.split("/", 3)[:3])
        if bucket not in self._refusals:
            self._refusals[bucket] = _refusal(bucket)
        return self._refusals[bucket]

    def look(self, uri: str, watch: Callable[[int], Callable[[int], None]]) -> Found | Unknown:
        """Return the size and the fingerprint of an object.

        Args:
            uri: Where it is.
            watch: Returns, for its size, what is told how many bytes more have been read.

        Raises:
            InputError: it changes while it is read.
            StorageError: its store does not answer.

        """
        from lima.store.storage import Storage

        folder, _, name = uri.rpartition("/")
        storage = Storage(folder)
        entry = storage.entry(name)
        if entry is None:
            return Unknown("no such object", is_absent=True)
        etag = storage.etag(name)
        state = _state_of(entry, etag)
        known = self.memory.get(uri, state)
        if known is None and (kept := storage.checksum(name, etag)):
            known = SHA256 + kept
        if known is None and self.brief:
            return Unknown(NOT_READ, size=entry.size)
        if known is None:
            with storage.opened(name) as stream:
                known = of_stream(stream, watch(entry.size))
            _require_unchanged(storage, uri, state)
        self.memory.put(uri, state, known)
        return Found(entry.size, known)


def _refusal(bucket: str) -> Unknown | None:
    from lima.store.s3 import try_bucket

    scheme = bucket.partition("://")[0]
    if scheme == LOCAL:
        return None
    if scheme != "s3":
        return Unknown(f"could not ask: {scheme}:// is asked by `submit` alone")
    try:
        try_bucket(bucket)
    except BucketError as error:
        return Unknown(str(error), is_absent=True)
    except StorageError as error:
        return Unknown(f"could not ask: {error}")
    return None


def large_objects(uri: str) -> Found | None:
    """Return what is known of a folder of a bucket that is too large to be read for it.

    By the sha256 of all of its objects, if the store keeps them, else by their ETags.

    None: it is not so large, or its store tells no ETags.

    Raises:
        StorageError: the store does not answer.

    """
    from lima.inputs.listing import read_of_model
    from lima.store.storage import Storage

    storage = Storage(uri)
    there = {entry.path: entry for entry in storage.entries("")}
    entries = [there[name] for name in read_of_model(there)]
    size = sum(entry.size for entry in entries)
    if size <= LARGEST_READ:
        return None
    with ThreadPoolExecutor(THREADS) as pool:
        etags = dict(zip(entries, pool.map(lambda e: storage.etag(e.path), entries), strict=True))
        if not all(etags.values()):
            return None
        kept = pool.map(lambda e: storage.checksum(e.path, etags[e]), entries)
        tree = _kept_tree({e.path: k for e, k in zip(entries, kept, strict=True)})
    return Found(size, tree or of_objects((e.path, e.size, etags[e]) for e in entries))


def _kept_tree(kept: Mapping[str, str | None]) -> str | None:
    known = {name: SHA256 + digits for name, digits in kept.items() if digits}
    return of_tree(known) if len(known) == len(kept) else None


def _state_of(entry: "Entry", etag: str) -> State:
    """Return the state of an object: an ETag changes with every content, a time may not."""
    if etag:
        return State(f"{entry.size} {etag}", 0.0)
    return State(f"{entry.size} {entry.modified}", entry.modified / 1e9)


def _require_unchanged(storage: "Storage", uri: str, state: State) -> None:
    name = uri.rpartition("/")[2]
    entry = storage.entry(name)
    if entry is None or _state_of(entry, storage.etag(name)) != state:
        raise InputError(
            f"{uri}: changes while it is read; wait until it is written, then start the command "
            "again"
        )
