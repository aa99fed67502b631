"""Finished judgments that no shard holds yet, one small object each.

STORAGE/journal/run_id=R/<judgment_key>.json

A judgment is written here as soon as it is finished, so that a killed run has nothing to pay
for twice; when the shard that holds it exists, it is deleted here.
"""

from collections.abc import Iterable

import msgspec

from lima.errors import DataError
from lima.judging.attempt import Attempt
from lima.storage import Storage


class Journal:
    """The finished judgments of one run that are not in its table yet."""

    def __init__(self, storage: Storage, run: str) -> None:
        """Open the journal of `run`."""
        self.storage, self.folder = storage, f"journal/run_id={run}"

    def keys(self) -> list[str]:
        """Return the keys of the judgments in the journal."""
        paths = [entry.path for entry in self.storage.entries(self.folder)]
        return [path.rsplit("/", 1)[-1].removesuffix(".json") for path in paths]

    def load(self, key: str) -> list[Attempt]:
        """Return the attempts of a finished judgment.

        Raises:
            DataError: the object is not an entry of a journal.

        """
        path = self._path(key)
        try:
            return msgspec.json.decode(self.storage.read(path), type=list[Attempt])
        except msgspec.DecodeError as error:
            raise DataError(
                f"{self.storage.uri}/{path}: not a journal entry ({error}); delete it, and this "
                "response is judged again"
            ) from None

    def save(self, key: str, attempts: list[Attempt]) -> None:
        """Write the attempts of a finished judgment."""
        self.storage.write(self._path(key), msgspec.json.encode(attempts))

    def drop(self, keys: Iterable[str]) -> None:
        """Delete judgments that a shard holds."""
        for key in keys:
            self.storage.delete(self._path(key))

    def _path(self, key: str) -> str:
        return f"{self.folder}/{key}.json"
