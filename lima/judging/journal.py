"""Finished judgments that no shard holds yet, in small objects.

STORAGE/journal/run_id=R/<name>.json, an object is {judgment_key: [attempt, …], …}

A judgment is written here as soon as it is finished, so that a killed run has nothing to pay
for twice. An object is deleted when the shards that exist hold all its judgments.
"""

import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import msgspec

from lima.codec import sha256_key
from lima.errors import DataError
from lima.judging.attempt import Attempt
from lima.storage import Storage

READERS = 16
"""Objects that are read at the same time."""


class Journal:
    """The finished judgments of one run that are not in its table yet. Threads may share it."""

    def __init__(self, storage: Storage, run: str) -> None:
        """Open the journal of `run`."""
        self.storage, self.folder = storage, f"journal/run_id={run}"
        self._kept: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def load(self) -> dict[str, list[Attempt]]:
        """Return the attempts of all finished judgments by key.

        Raises:
            DataError: an object is not a part of a journal.

        """
        paths = [entry.path for entry in self.storage.entries(self.folder)]
        with ThreadPoolExecutor(READERS) as readers:
            parts = list(readers.map(self._read, paths))
        with self._lock:
            self._kept = {path: set(part) for path, part in zip(paths, parts, strict=True)}
        return {key: attempts for part in parts for key, attempts in part.items()}

    def save(self, finished: dict[str, list[Attempt]]) -> None:
        """Write finished judgments as one object."""
        path = f"{self.folder}/{sha256_key(sorted(finished))[:16]}.json"
        self.storage.write(path, msgspec.json.encode(finished))
        with self._lock:
            self._kept[path] = set(finished)

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
        except msgspec.DecodeError as error:
            raise DataError(
                f"{self.storage.uri}/{path}: not a part of a journal ({error}); delete it, and "
                "the responses in it are judged again"
            ) from None
