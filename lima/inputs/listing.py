"""Which files belong to a folder that is read, and what they are called in it."""

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

from lima.common.paths import expanded, file_name, is_here, is_hidden
from lima.errors import DataError
from lima.inputs.example_names import EXAMPLES, HUB, is_example_file
from lima.inputs.model_files import needed_files
from lima.spec import names

SUFFIXES = (
    *(".7z", ".xml", ".csv", ".md", ".markdown", ".jsonl", ".json", ".ndjson"),
    *("_submissions", "_comments", *(f"-{month:02d}" for month in range(1, 13))),
)
"""Of files of curation, whatever the kind of their source: fingerprints of folders stand on them,
and with these the ids of runs."""
_OWN_SUFFIXES: dict[str, tuple[str, ...]] = {}
"""By the kind of a source: those that not all folders are searched for."""
XML = ".xml"
"""Tables of a dump; the folder that they lie in is the name of the site."""


def folder_files(path: str) -> dict[str, str]:
    """Return the files of a saved model that are read: name below the folder to path or URI.

    Raises:
        StorageError: an object store does not answer.

    """
    if "://" in path:
        from lima.store.storage import Storage

        root = path.rstrip("/")
        found = {e.path: f"{root}/{e.path}" for e in Storage(path).entries("")}
    else:
        folder = expanded(path)
        files = [file for file in folder.rglob("*") if file.is_file()]
        found = {file.relative_to(folder).as_posix(): str(file) for file in files}
    return {name: found[name] for name in read_of_model(found)}


def read_of_model(names: Collection[str]) -> list[str]:
    """Return the names of files of a saved model that are read, sorted: no hidden ones, nor the
    same weights in another format."""
    return sorted(needed_files([name for name in names if not is_hidden(name)]))


def example_files(path: str) -> dict[str, str]:
    """Return the files of examples of a path: name below it to path or URI, in their order.

    A path that is a file, or nothing, is the file "".

    Raises:
        DataError: a folder, or a data set of a hub, holds no file of examples.
        StorageError: an object store does not answer.
        HubError: a hub does not answer.

    """
    if path.startswith(HUB):
        from lima.inputs.hub_data import hub_files

        return hub_files(path)
    if "://" in path:
        found = _objects(path)
    elif is_here(path) and expanded(path).is_dir():
        folder = expanded(path)
        files = (file for file in folder.rglob("*") if file.is_file())
        found = {file.relative_to(folder).as_posix(): str(file) for file in files}
    else:
        return {"": path}
    if not found and "://" in path:  # not a folder; that it exists is seen when it is opened
        return {"": path}
    wanted = [name for name in found if is_example_file(name)]
    if not wanted:
        raise DataError(
            f"{path}: no file of examples in it: {', '.join(EXAMPLES)}, packed or not; an Arrow "
            "data set is written as Parquet with to_parquet"
        )
    return {name: found[name] for name in sorted(wanted)}


def _objects(path: str) -> dict[str, str]:
    """Return what lies below the URI of a folder, by its names there; nothing below an object."""
    from lima.store.storage import Storage

    root = path.rstrip("/")
    folder, _, name = root.rpartition("/")
    if not folder.endswith("/") and Storage(folder).exists(name):
        return {}
    return {entry.path: f"{root}/{entry.path}" for entry in Storage(path).entries("")}


def add_suffixes(kind: str, suffixes: Sequence[str]) -> None:
    """Let the files of a kind of source have these suffixes too."""
    _OWN_SUFFIXES[kind] = tuple(s for s in suffixes if s not in SUFFIXES)


def source_files(kind: str, paths: Sequence[str]) -> dict[str, str]:
    """Return the files of a source of curation: what they are called there, to path or URI.

    Names below the paths are part of what a source is: of sites, tasks and articles.

    Raises:
        DataError: a path does not exist, or holds no file that is read.
        StorageError: an object store does not answer.

    """
    from lima.store.files import files

    known = kind in names.SOURCES  # imports the package of others that has it
    own = _OWN_SUFFIXES.get(kind, ()) if known else ()
    found: dict[str, str] = {}
    seen: Counter[str] = Counter()
    for path in paths:
        for file in files([path], (*SUFFIXES, *own)):
            name = _name_below(path, file, kind)
            seen[name] += 1
            found[f"{name}#{seen[name]}" if seen[name] > 1 else name] = file
    return found


def _name_below(path: str, file: str, kind: str) -> str:
    """Return the name of a file below a path that was given; the path may be the file."""
    folder = str(expanded(path)) if "://" not in path else path
    below = file.removeprefix(folder.rstrip("/")).lstrip("/") or file_name(file)
    is_table = kind == "stackexchange" and XML in below and "/" not in below
    return f"{Path(file).parent.name}/{below}" if is_table else below
