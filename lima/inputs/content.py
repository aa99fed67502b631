"""What inputs contain: of files, folders, objects, repositories of a hub, and what ships here."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from lima.common.paths import PACKAGE, expanded, file_name
from lima.errors import HubError, InputError, LimaError, StorageError
from lima.inputs.fingerprint import COMMIT, digits, of_bytes, of_stream, of_tree
from lima.inputs.hub import Hub
from lima.inputs.memory import Memory, State, Unknown
from lima.inputs.model_files import is_gguf
from lima.inputs.objects import THREADS, Objects, large_objects
from lima.inputs.places import Place
from lima.store.reachable import require_answer

NOT_HERE = Unknown("not on this machine", is_absent=True)

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
        brief: bool = False,
    ) -> None:
        """Look at this machine first.

        Args:
            home: URI of the storage where relative files lie that this machine lacks.
            memory: Of what was found out before.
            watch: Told how far the reading of files is.
            brief: Whether to ask buckets only for what they tell in seconds, and to read none.

        """
        self.home, self.brief, self.watch = home, brief, watch
        self.memory, self.hub = memory or Memory(), Hub()
        self.objects = Objects(self.memory, brief=brief)
        self._known: dict[object, Content | Unknown] = {}
        self._silent: StorageError | None = None

    def of(self, place: Place) -> Content | Unknown:
        """Return what an input contains, or why that is not known.

        Raises:
            InputError: a file changes while it is read.
            StorageError: an object store does not answer.

        """
        key = (place.kind, place.paths, _revision(place), place.source)
        if key not in self._known:
            self._known[key] = self._in_brief(place) if self.brief else self._of(place)
        return self._known[key]

    def _in_brief(self, place: Place) -> Content | Unknown:
        """Look at an input; a bucket that cannot be asked is no error."""
        for uri in (path for path in place.paths if "://" in path):
            if (refusal := self.objects.refusal(uri)) is not None:
                return refusal
        try:
            return self._of(place)
        except StorageError as error:
            return Unknown(f"could not ask: {error}")

    def _of(self, place: Place) -> Content | Unknown:
        if place.kind == "data":
            return shipped(place.paths[0]) or self._examples(place.paths[0])
        if place.kind == "responses":
            return self._responses(place.paths)
        if place.kind == "source":
            return self._source(place)
        if place.kind == "picks":
            found = self._one(place.paths[0])
            is_absent = isinstance(found, Unknown) and found.is_absent
            return Content(of_bytes(b""), 0) if is_absent else found
        if place.kind in ("file", "extension"):
            return self._one(place.paths[0])
        return self._model(place.paths[0], _revision(place))

    def _one(self, path: str) -> Content | Unknown:
        """Return the content of one file."""
        where = self._place(path)
        found = self._files({file_name(where): where})
        if isinstance(found, Unknown):
            return found
        (file,) = found.values()
        return Content(file.fingerprint, file.size, found)

    def _examples(self, path: str) -> Content | Unknown:
        """Return the content of a file of examples, of a folder of them or of one of a hub."""
        from lima.inputs.example_names import HUB
        from lima.inputs.listing import example_files

        try:
            files = example_files(path if path.startswith(HUB) else self._place(path))
        except (InputError, HubError) as error:
            return Unknown(str(error), is_absent=isinstance(error, InputError))
        return self._one(path) if "" in files else self._tree(files)

    def _responses(self, paths: tuple[str, ...]) -> Content | Unknown:
        if len(paths) == 1:
            return self._one(paths[0])
        roles = dict(zip(("answers", "questions"), map(self._place, paths), strict=True))
        return self._tree(roles)

    def _source(self, place: Place) -> Content | Unknown:
        from lima.inputs.listing import source_files

        for path in place.paths:
            self._require_answer(path)
        try:
            files = source_files(place.source, place.paths)
        except InputError as error:
            return Unknown(str(error), is_absent=True)
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
        commit = self.hub.commit_of(path, revision)
        return commit if isinstance(commit, Unknown) else Content(COMMIT + commit)

    def _folder(self, path: str) -> Content | Unknown:
        from lima.inputs.listing import folder_files

        self._require_answer(path)
        if "://" in path and (large := large_objects(path)):
            return Content(large.fingerprint, large.size)
        files = folder_files(path)
        if files:
            return self._tree(files)
        return self._one(path) if "://" in path else Unknown("nothing there", is_absent=True)

    def _tree(self, files: Mapping[str, str]) -> Content | Unknown:
        found = self._files(files)
        if isinstance(found, Unknown):
            return found
        tree = of_tree({name: file.fingerprint for name, file in found.items()})
        return Content(tree, sum(file.size for file in found.values()), found)

    def _files(self, files: Mapping[str, str]) -> Mapping[str, File] | Unknown:
        with ThreadPoolExecutor(THREADS) as pool:
            read = dict(zip(files, pool.map(self.file, files.values()), strict=True))
        problems = [found for found in read.values() if isinstance(found, Unknown)]
        if problems:
            sizes = [found.size for found in read.values()]
            known = [size for size in sizes if size is not None]
            return replace(problems[0], size=sum(known) if len(known) == len(sizes) else None)
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
        found = self.objects.look(uri, lambda size: self._watch(uri, size))
        return found if isinstance(found, Unknown) else File(uri, found.size, found.fingerprint)

    def _require_answer(self, uri: str) -> None:
        """Find out in seconds, and once, that this machine cannot reach what a cluster may.

        Before anything else is asked there: the store's own library would try for a minute.
        """
        if not self.home or "://" not in uri:
            return
        if self._silent is None:
            try:
                require_answer(uri)
            except StorageError as error:
                self._silent = error
        if self._silent is not None:
            raise self._silent

    def _place(self, path: str) -> str:
        """Return where a file lies: on this machine, or below the storage, which answers."""
        where = path
        if not ("://" in path or not self.home or expanded(path).exists() or path.startswith("/")):
            where = f"{self.home.rstrip('/')}/{path}"
        self._require_answer(where)
        return where

    def _watch(self, where: str, size: int) -> Callable[[int], None]:
        done = 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            if self.watch:
                self.watch(where, done, size)

        return more


def _revision(place: Place) -> str | None:
    """Return which revision of a hub's model is meant: a commit that was promised, or a branch."""
    promised = place.fingerprint or ""
    return digits(promised) if promised.startswith(COMMIT) else place.revision


def shipped(path: str) -> Content | None:
    """Return the content of examples that ship with this package or with Python."""
    from lima.inputs.shipped import PYDOC, shipped_bytes

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
