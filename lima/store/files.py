"""The files of paths, local or on a storage, by their names."""

from collections.abc import Sequence
from pathlib import Path

from lima.common.paths import base_name
from lima.errors import DataError
from lima.store.storage import Storage


class NoFilesError(DataError):
    """A folder holds no file of a kind."""


def files(paths: Sequence[str], suffixes: Sequence[str]) -> list[str]:
    """Return the files of `paths`, by name: of a folder those below it with a known suffix.

    Args:
        paths: Files and folders, local or storage URIs.
        suffixes: What names end with, without the compression (`.jsonl`).

    Raises:
        DataError: a path does not exist, or a folder holds no such file.

    """
    found = {file for path in paths for file in _files_of(path, suffixes)}
    return sorted(found, key=lambda file: (base_name(file), file))


def _files_of(path: str, suffixes: Sequence[str]) -> list[str]:
    wanted = tuple(suffixes)
    if "://" in path:
        below = [f"{path.rstrip('/')}/{entry.path}" for entry in Storage(path).entries("")]
        if not below:  # not a folder; that it exists is seen when it is opened
            return [path]
    elif Path(path).expanduser().is_dir():
        below = [str(p) for p in sorted(Path(path).expanduser().rglob("*")) if p.is_file()]
    elif Path(path).expanduser().exists():
        return [path]
    else:
        raise DataError(f"{path}: no such file or folder")
    found = [file for file in below if base_name(file).endswith(wanted)]
    if not found:
        raise NoFilesError(f"{path}: no file in it ends with {' or '.join(wanted)}")
    return found
