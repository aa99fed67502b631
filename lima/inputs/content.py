"""What inputs contain: of files, folders, objects, repositories of a hub, and what ships here."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lima.common.paths import PACKAGE, expanded, file_name
from lima.errors import InputError, LimaError, StorageError
from lima.inputs.fingerprint import COMMIT, of_bytes, of_objects, of_stream, of_tree
from lima.inputs.hub import commit_of
from lima.inputs.memory import Memory, State, Unknown
from lima.inputs.places import Place
from lima.model.gguf import is_gguf
from lima.store.reachable import require_answer

if TYPE_CHECKING:
    from lima.store.storage import Entry, Storage

LARGEST_READ = 4 << 30
"""Bytes of a folder of a bucket up to which it is read for its fingerprint: of 65B, 130 GB would
travel to whoever submits."""
THREADS = 4
"""Files of a folder that are read at the same time."""
NOT_HERE = Unknown("not on this machine")

Watch = Callable[[str, int, int], None]
"""Told how far the reading of a file is: where it lies, bytes read, bytes in all."""


@dataclass(frozen=True)
class File:
    """A file of an input: where it lies, its size in bytes and its fingerprint."""

    where: str
    size: int
    fingerprint: str


@dataclass(frozen=True)
class Content:
    """What an input contains.

    Args:
        fingerprint: Names it.
        size: Bytes; None: they were not looked at.
        files: Its files, by their names in it; none where it is no file.

    """

    fingerprint: str
    size: int | None = None
    files: Mapping[str, File] = field(default_factory=dict)


class Contents:
    """Finds out what inputs contain, each once."""

    def __init__(
        self,
        *,
        home: str | None = None,
        memory: Memory | None = None,
        watch: Watch | None = None,
        offline: bool = False,
    ) -> None:
        """Look at this machine first.

        Args:
            home: URI of the storage where relative files lie that this machine lacks.
            memory: Of what was found out before.
            watch: Told how far the reading of files is.
            offline: Whether to ask neither object stores nor a hub.

        """
        self.home, self.offline, self.watch = home, offline, watch
        self.memory = memory or Memory()
        self._known: dict[object, Content | Unknown] = {}
        self._silent: StorageError | None = None

    def of(self, place: Place) -> Content | Unknown:
        """Return what an input contains, or why that is not known.

        Raises:
            InputError: a file changes while it is read.
            StorageError: an object store does not answer.

        """
        key = (place.kind, place.paths, place.revision, place.source)
        if key not in self._known:
            self._known[key] = self._of(place)
        return self._known[key]

    def _of(self, place: Place) -> Content | Unknown:
        if place.kind == "data":
            return shipped(place.paths[0]) or self._one(place.paths[0])
        if place.kind == "responses":
            return self._responses(place.paths)
        if place.kind == "source":
            return self._source(place)
        if place.kind == "picks":
            found = self._one(place.paths[0])
            return Content(of_bytes(b""), 0) if found == NOT_HERE else found
        if place.kind == "file":
            return self._one(place.paths[0])
        return self._model(place.paths[0], place.revision)

    def _one(self, path: str) -> Content | Unknown:
        """Return the content of one file."""
        where = self._place(path)
        found = self._files({file_name(where): where})
        if isinstance(found, Unknown):
            return found
        (file,) = found.values()
        return Content(file.fingerprint, file.size, found)

    def _responses(self, paths: tuple[str, ...]) -> Content | Unknown:
        if len(paths) == 1:
            return self._one(paths[0])
        roles = dict(zip(("answers", "questions"), map(self._place, paths), strict=True))
        return self._tree(roles)

    def _source(self, place: Place) -> Content | Unknown:
        from lima.inputs.listing import source_files

        if self.offline and any("://" in path for path in place.paths):
            return _not_asked()
        try:
            files = source_files(place.source, place.paths)
        except InputError as error:
            return Unknown(str(error))
        return self._tree(files)

    def _model(self, path: str, revision: str | None) -> Content | Unknown:
        """Return the content of a folder, or of a single file; else a name is one of a hub."""
        here = expanded(path)
        if here.is_file():
            return self._one(path)
        if "://" in path and is_gguf(path):
            return self._one(path)
        if "://" in path or here.is_dir():
            return self._folder(path)
        if path.startswith((".", "/", "~", PACKAGE)):
            return NOT_HERE
        if self.offline:
            return Unknown("a hub is not asked here")
        commit = commit_of(path, revision)
        return commit if isinstance(commit, Unknown) else Content(COMMIT + commit)

    def _folder(self, path: str) -> Content | Unknown:
        from lima.inputs.listing import folder_files

        if "://" in path and self.offline:
            return _not_asked()
        if "://" in path and (large := large_objects(path)):
            return large
        files = folder_files(path)
        return self._tree(files) if files else Unknown("nothing there")

    def _tree(self, files: Mapping[str, str]) -> Content | Unknown:
        found = self._files(files)
        if isinstance(found, Unknown):
            return found
        tree = of_tree({name: file.fingerprint for name, file in found.items()})
        return Content(tree, sum(file.size for file in found.values()), found)

    def _files(self, files: Mapping[str, str]) -> Mapping[str, File] | Unknown:
        if self.offline and any("://" in where for where in files.values()):
            return _not_asked()
        with ThreadPoolExecutor(THREADS) as pool:
            read = dict(zip(files, pool.map(self.file, files.values()), strict=True))
        problems = [found for found in read.values() if isinstance(found, Unknown)]
        if problems:
            return problems[0]
        return {name: file for name, file in read.items() if isinstance(file, File)}

    def file(self, where: str) -> File | Unknown:
        """Return one file or object with its fingerprint."""
        return self._object(where) if "://" in where else self._local(expanded(where))

    def _local(self, path: Path) -> File | Unknown:
        try:
            before, size = State.of_file(path), path.stat().st_size
            known = self.memory.get(str(path.absolute()), before)
            if known:
                return File(str(path), size, known)
            with path.open("rb", buffering=0) as stream:
                found = of_stream(stream, self._watch(str(path), size))
            after = State.of_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return NOT_HERE
        except OSError as error:
            return Unknown(f"{path}: cannot be read ({error.strerror})")
        if after != before:
            raise InputError(
                f"{path}: changes while it is read; wait until it is written, then start the "
                "command again"
            )
        self.memory.put(str(path.absolute()), before, found)
        return File(str(path), size, found)

    def _object(self, uri: str) -> File | Unknown:
        from lima.store.storage import Storage

        if self.home:
            self._require_answer(uri)
        folder, _, name = uri.rpartition("/")
        storage = Storage(folder)
        entry = storage.entry(name)
        if entry is None:
            return Unknown(f"{uri}: no such object")
        state = _state_of(storage, entry)
        known = self.memory.get(uri, state)
        if known is None:
            with storage.opened(name) as stream:
                known = of_stream(stream, self._watch(uri, entry.size))
            self.memory.put(uri, state, known)
        return File(uri, entry.size, known)

    def _require_answer(self, uri: str) -> None:
        """Find out in seconds, and once, that this machine cannot reach what a cluster may."""
        if self._silent is None:
            try:
                require_answer(uri)
            except StorageError as error:
                self._silent = error
        if self._silent is not None:
            raise self._silent

    def _place(self, path: str) -> str:
        """Return where a file lies: on this machine, or below the storage."""
        if "://" in path or not self.home or expanded(path).exists() or path.startswith("/"):
            return path
        return f"{self.home.rstrip('/')}/{path}"

    def _watch(self, where: str, size: int) -> Callable[[int], None]:
        done = 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            if self.watch:
                self.watch(where, done, size)

        return more


def large_objects(uri: str) -> Content | None:
    """Return the content of a folder of a bucket that is too large to be read for it.

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
        etags = list(pool.map(lambda entry: storage.etag(entry.path), entries))
    told = zip(entries, etags, strict=True)
    return Content(of_objects((e.path, e.size, t) for e, t in told), size) if all(etags) else None


def shipped(path: str) -> Content | None:
    """Return the content of examples that ship with this package or with Python."""
    from lima.data.examples import PYDOC, shipped_bytes

    try:
        data = shipped_bytes(path)
    except LimaError:
        return None  # no such examples: lint tells
    if data is None:
        return None
    found = of_bytes(data)
    # What ships with Python differs between machines: it can be brought like a file.
    files = {path: File(path, len(data), found)} if path == PYDOC else {}
    return Content(found, len(data), files)


def _state_of(storage: "Storage", entry: "Entry") -> State:
    """Return the state of an object: an ETag changes with every content, a time may not."""
    if etag := storage.etag(entry.path):
        return State(f"{entry.size} {etag}", 0.0)
    return State(f"{entry.size} {entry.modified}", entry.modified / 1e9)


def _not_asked() -> Unknown:
    return Unknown("on object storage, which is not asked here")
