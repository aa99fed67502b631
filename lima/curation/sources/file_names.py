"""What files of rows are called in the ids of their examples: no two of a study the same.

The name of a file is enough where no other has it. Those that share one are told apart by as many
of the folders above them as it takes, below `curate.root`: so ids do not say where that lies.
"""

import contextlib
import os.path
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from lima.common.paths import base_name, below, expanded, file_name, stem
from lima.curation.reading.damage import Damage
from lima.spec.curate import CurateSpec
from lima.store.files import NoFilesError, files

MARKDOWN = (".md", ".markdown")
RECORDS = (".jsonl", ".json", ".ndjson")
SUFFIXES = {
    "alpaca": RECORDS,
    "examples": RECORDS,
    "authored": (*RECORDS, *MARKDOWN),
}
"""By kind of source: of its files, whose examples are named by file and row."""
TABLES = (".parquet", ".arrow", ".feather")
"""Files of examples that training reads (Parquet), and curation does not."""
IN_FOLDERS = "authored"
"""The kind whose names hold the folders below the path that was given."""


@dataclass(frozen=True)
class NamedFile:
    """A file, and what it is called as long as no other is called the same."""

    file: str
    """As it is opened."""
    name: str
    """Without its suffix and, of most kinds, without folders."""


Names = Mapping[NamedFile, str]
"""What files are called in ids."""


def named_files(kind: str, paths: Sequence[str]) -> list[NamedFile]:
    """Return the files of a source, in the order in which they are read.

    Raises:
        DataError: a path does not exist.

    """
    if kind != IN_FOLDERS:
        return [NamedFile(file, stem(file)) for file in files(paths, SUFFIXES[kind])]
    found = {}
    for path in paths:
        for file in files([path], SUFFIXES[kind]):
            folder = file.removeprefix(path.rstrip("/")).lstrip("/").rpartition("/")[0]
            found[file] = f"{folder}/{stem(file)}" if folder else stem(file)
    ordered = sorted(found.items(), key=lambda item: (item[1], item[0]))
    return [NamedFile(file, name) for file, name in ordered]


def files_to_read(kind: str, paths: Sequence[str], damage: Damage) -> list[NamedFile]:
    """Return the files of a source as `named_files` does; note those of tables beside them.

    Raises:
        DataError: a path does not exist, or there are some and `damage` is strict.

    """
    for path in paths:
        with contextlib.suppress(NoFilesError):
            for file in files([path], TABLES):
                if base_name(file).endswith(TABLES):
                    damage.note(file, "a table, which curation does not read", "write it as JSONL")
    return named_files(kind, paths)


def names_in(spec: CurateSpec) -> Names:
    """Return what the files of all sources of rows are called.

    Raises:
        DataError: a path does not exist.

    """
    found = [
        file
        for source in spec.sources
        if source.kind in SUFFIXES
        for file in named_files(source.kind, [below(spec.root, path) for path in source.paths])
    ]
    return distinct_names(found, spec.root)


def distinct_names(found: Iterable[NamedFile], root: str = "") -> Names:
    """Return a name for each file that no other has, the shortest there is.

    Args:
        found: Files, in any order; one may be there under several names.
        root: A folder that names do not reach above, for files in it.

    """
    groups: defaultdict[tuple[str, bool], set[NamedFile]] = defaultdict(set)
    for named in found:  # a file of Markdown is one example, whose id has no row
        groups[named.name, named.file.endswith(MARKDOWN)].add(named)
    names: dict[NamedFile, str] = {}
    for (name, _), group in sorted(groups.items()):
        if len({_normal(named.file) for named in group}) == 1:
            names.update(dict.fromkeys(group, name))
    taken = set(names.values())
    for _, group in sorted(groups.items()):
        if not group <= names.keys():
            names.update(_told_apart(group, root, taken))
            taken.update(names[named] for named in group)
    return names


def _told_apart(
    group: Collection[NamedFile], root: str, taken: Collection[str]
) -> dict[NamedFile, str]:
    folders = {named: _below(root, named.file).split("/")[:-1] for named in group}
    names = {}
    for named in group:
        depth = named.name.count("/")
        ends = [_ended(folders[named], d) for d in range(depth, len(folders[named]) + 1)]
        last = _last_part(named, [o for o in group if folders[o] == folders[named]])
        for end in ends:
            alike = [o for o in group if _ended(folders[o], len(end)) == end]
            names[named] = "/".join([*end, last])
            if all(folders[o] == folders[named] for o in alike) and names[named] not in taken:
                break
        if names[named] in taken:  # another file lies where this one's name says
            names[named] = "/".join([*folders[named], file_name(named.file)])
    return names


def _ended(folders: Sequence[str], depth: int) -> tuple[str, ...]:
    """Return the last folders, as many as `depth` says."""
    return tuple(folders[len(folders) - depth :] if depth < len(folders) else folders)


def _last_part(named: NamedFile, beside: Sequence[NamedFile]) -> str:
    """Return the name of a file among those in its folder: with what it takes of its suffixes."""
    others = {_normal(o.file) for o in beside} - {_normal(named.file)}
    for part in (stem, base_name):
        if part(named.file) not in map(part, others):
            return part(named.file)
    return file_name(named.file)


def _below(root: str, file: str) -> str:
    path = _normal(file)
    return path.removeprefix(f"{_normal(root)}/") if root else path


def _normal(path: str) -> str:
    """Return the one spelling of a path."""
    return path.rstrip("/") if "://" in path else os.path.normpath(expanded(path))
