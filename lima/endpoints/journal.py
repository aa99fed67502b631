"""Judgments that no shard holds yet, in small objects.

STORAGE/journal/run_id=R/<name>.json, an object is {judgment_key: [attempt, …], …}

Every answer is written here as it arrives, with the attempts before it, so that a killed run has
nothing to pay for twice. An object is deleted when the shards that exist hold all its judgments.
Until storage has taken it, an answer lies on the disk of this machine, where storage is elsewhere.
"""

import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import msgspec

from lima.endpoints.aside import Aside
from lima.endpoints.attempt import Attempt
from lima.errors import DataError
from lima.spec.codec import sha256_key
from lima.store.storage import Storage

READERS = 16
"""Objects that are read at the same time."""


class Journal:
    """The judgments of one run that are not in its table yet. Threads may share it."""

    def __init__(self, storage: Storage, run: str) -> None:
        """Open the journal of `run`."""
        self.storage, self.folder = storage, f"journal/run_id={run}"
        self.aside = Aside(storage, self.folder)
        self.waiting: set[str] = set()
        """Names of objects that this machine holds."""
        self._kept: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def load(self) -> dict[str, list[Attempt]]:
        """Return all attempts of each judgment by its key, finished or not.

        Raises:
            DataError: an object is not a part of a journal.

        """
        for name in self.aside.names():
            self.storage.write(f"{self.folder}/{name}", self.aside.read(name))
            self.aside.drop(name)
        paths = [entry.path for entry in self.storage.entries(self.folder)]
        with ThreadPoolExecutor(READERS) as readers:
            parts = list(readers.map(self._read, paths))
        with self._lock:
            self._kept = {path: set(part) for path, part in zip(paths, parts, strict=True)}
        return _longest(parts)

    def save(self, attempts: Mapping[str, Sequence[Attempt]]) -> None:
        """Write the attempts of some judgments, all so far, as one object."""
        path = f"{self.folder}/{_name(attempts)}"
        self.storage.write(path, msgspec.json.encode(attempts))
        if self.waiting:
            self._take_back(attempts)
        with self._lock:
            self._kept[path] = set(attempts)

    def set_aside(self, attempts: Mapping[str, Sequence[Attempt]]) -> None:
        """Write them on this machine, until they are saved.

        Raises:
            StorageError: there is no place for them.

        """
        for key, tries in attempts.items():
            name = _name({key: tries})
            self.aside.keep(name, msgspec.json.encode({key: tries}))
            self.waiting.add(name)

    def _take_back(self, attempts: Mapping[str, Sequence[Attempt]]) -> None:
        for name in self.waiting & {_name({key: tries}) for key, tries in attempts.items()}:
            self.aside.drop(name)
            self.waiting.discard(name)

    def drop(self, written: Iterable[str]) -> None:
        """Delete the objects that hold nothing but judgments which shards hold."""
        with self._lock:
            for keys in self._kept.values():
                keys.difference_update(written)
            done = [path for path, keys in self._kept.items() if not keys]
            for path in done:
                del self._kept[path]
        for path in done:
            self.storage.delete(path)

    def _read(self, path: str) -> dict[str, list[Attempt]]:
        try:
            return msgspec.json.decode(self.storage.read(path), type=dict[str, list[Attempt]])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise DataError(
                f"{self.storage.uri}/{path}: not a part of a journal ({error}); delete it, and "
                "the responses in it are judged again"
            ) from None


def _name(attempts: Mapping[str, Sequence[Attempt]]) -> str:
    """Return the name of an object: of which judgments it is, and how far they are."""
    return f"{sha256_key(sorted([key, len(tries)] for key, tries in attempts.items()))[:16]}.json"


def _longest(parts: Iterable[Mapping[str, list[Attempt]]]) -> dict[str, list[Attempt]]:
    """Return the attempts of each judgment; what was written later begins with the earlier."""
    found: dict[str, list[Attempt]] = {}
    for part in parts:
        for key, attempts in part.items():
            if len(attempts) > len(found.get(key, ())):
                found[key] = attempts
    return found
