"""Proves that a storage does what runs need: `python -m lima_jobs.storagecheck URI`.

Writes an object, finds it, lists it, reads it, sees that a second writer does not replace it,
replaces it on purpose and deletes it. Exit codes: 0 all of it worked, 2 bad usage, 3 storage.
"""

import argparse
import sys
import uuid

from lima.errors import LimaError, StorageError
from lima.store.reachable import POD_PATIENCE_S, require_answer
from lima.store.storage import Storage

FIRST, SECOND = b"written first", b"written second"


def check_storage(storage: Storage) -> list[str]:
    """Return what was proven, a line each; leaves nothing behind.

    Raises:
        StorageError: storage cannot be reached, or does not do what runs rely on.

    """
    folder = f"checks/{uuid.uuid4().hex}"
    path = f"{folder}/object"
    _demand(storage.write(path, FIRST), "a new object was taken for an existing one")
    try:
        return _check(storage, folder, path)
    finally:
        storage.delete(path)


def _check(storage: Storage, folder: str, path: str) -> list[str]:
    _demand(storage.exists(path), "an object that was written is not found")
    listed = [(entry.path, entry.size) for entry in storage.entries(folder)]
    _demand(listed == [(path, len(FIRST))], f"the listing is {listed}, not the one object")
    _demand(storage.read(path) == FIRST, "an object reads back changed")
    kept = not storage.write(path, SECOND) and storage.read(path) == FIRST
    _demand(kept, "a second writer replaced what the first one wrote")
    storage.write(path, SECOND, replace=True)
    _demand(storage.read(path) == SECOND, "an object that is replaced on purpose stays as it was")
    storage.delete(path)
    _demand(not storage.exists(path), "an object that was deleted is still there")
    return [
        "write: ok",
        "list: ok",
        "read: ok",
        "overwrite: the first writer wins",
        "replace and delete: ok",
    ]


def _demand(holds: bool, problem: str) -> None:
    if not holds:
        raise StorageError(f"this storage cannot hold a study: {problem}")


def main() -> None:
    """Check the storage of the command line; say what was proven."""
    parser = argparse.ArgumentParser(description="Prove that a storage can hold a study.")
    parser.add_argument("storage", help="folder or URI of the study")
    uri = parser.parse_args().storage
    try:
        require_answer(uri, POD_PATIENCE_S)
        proven = check_storage(Storage(uri))
    except LimaError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(error.exit_code)
    sys.stdout.write("\n".join([f"storage {uri}", *proven, ""]))


if __name__ == "__main__":
    main()
