"""Examples: reading, checking and sampling them.

A line of JSONL in LIMA's layout is `{"conversations": ["user", "assistant", …], "source": "name"}`;
the other layouts are in `lima.data.layouts`.
"""

import fnmatch
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from lima.common.paths import expanded, is_here
from lima.common.variables import DATA
from lima.data.layouts import conversation
from lima.data.records import records
from lima.errors import DataError
from lima.inputs.check import check, check_bytes
from lima.inputs.example_names import HUB
from lima.inputs.fingerprint import of_bytes, of_tree
from lima.inputs.listing import example_files
from lima.inputs.shipped import AUTHORED, PYDOC, authored_file, language_reference, shipped_bytes
from lima.spec import DataSpec
from lima.spec.codec import is_unicode, sha256_key, shortened

LAYOUTS_TOLD = "docs/reference/layouts.md has the layouts that are read"


@dataclass(frozen=True)
class Example:
    """A conversation: utterances in turn, the user's first. One utterance is only a prompt."""

    conversation: tuple[str, ...]
    source: str

    @property
    def turns(self) -> int:
        """How often the user speaks."""
        return (len(self.conversation) + 1) // 2

    @property
    def prompt(self) -> tuple[str, ...]:
        """The utterances up to the last of the user."""
        return self.conversation[: len(self.conversation) - (len(self.conversation) + 1) % 2]

    @property
    def key(self) -> str:
        """sha256 of the utterances."""
        return sha256_key(list(self.conversation))

    @property
    def prompt_key(self) -> str:
        """sha256 of the prompt's utterances."""
        return sha256_key(list(self.prompt))


Loader = Callable[[DataSpec], list[Example]]


def load_examples(spec: DataSpec) -> list[Example]:
    """Return the selection that `spec` names, in the order of its sample.

    A sample is the first `count` of one seeded order, so that smaller samples are subsets of
    larger ones, and neither depends on the order of the lines.

    Raises:
        DataError: nothing is left, or fewer than `count`, or a line is not an example.

    """
    found = [e for e in _read(spec) if _is_wanted(e, spec)]
    if not found:
        source = f" with a source like {', '.join(spec.sources)}" if spec.sources else ""
        turns = f" of at most {spec.max_turns} turns" if spec.max_turns else ""
        raise DataError(f"{spec.path}: no examples{turns}{source}")
    if spec.count is None:
        return found
    if len(found) < spec.count:
        raise DataError(f"{spec.path}: {spec.count} examples are asked for, {len(found)} match")
    return sorted(found, key=lambda e: sha256_key([spec.seed, e.key]))[: spec.count]


def training_examples(spec: DataSpec) -> list[Example]:
    """Return the selection, with a response to every prompt.

    Raises:
        DataError: as `load_examples`, or an example ends with the user's utterance.

    """
    examples = load_examples(spec)
    for example in examples:
        if len(example.conversation) % 2:
            raise DataError(
                f"{spec.path}: the example beginning {example.conversation[0][:40]!r} ends with "
                "the user's utterance; training needs a response to every prompt"
            )
    return examples


def documents(spec: DataSpec) -> list[Example]:
    """Return the selection, as plain documents of one text each.

    Raises:
        DataError: as `load_examples`, or an example is a dialogue.

    """
    examples = load_examples(spec)
    for example in examples:
        if len(example.conversation) > 1:
            raise DataError(
                f"{spec.path}: the example beginning {example.conversation[0][:40]!r} is a "
                f"dialogue of {len(example.conversation)} utterances; text_format=text takes "
                "plain documents, one utterance each"
            )
    return examples


def loader(text_format: str) -> Loader:
    """Return what loads the examples of a training stage, its held-out ones too."""
    return documents if text_format == "text" else training_examples


def parse_examples(data: bytes, where: str) -> Iterator[Example]:
    """Yield the examples of a file, in any of the layouts of `lima.data.layouts`.

    Args:
        data: Of the file: see `records`.
        where: What errors call it.

    Raises:
        DataError: a record is not an example; the message names `where` and the line.

    """
    for place, record in records(data, where):
        yield _example(record, place)


def _example(record: Any, where: str) -> Example:
    if not isinstance(record, dict):
        raise DataError(f"{where}: not a record with keys; {LAYOUTS_TOLD}")
    try:
        turns = conversation(record)
    except ValueError as error:
        raise DataError(f"{where}: {error}; {LAYOUTS_TOLD}") from None
    source = record.get("source") or ""
    if isinstance(source, list | dict):
        raise DataError(f'{where}: "source" must be a text; write the name of the source')
    for name, text in (
        *((f"utterance {i}", t) for i, t in enumerate(turns, 1)),
        ("source", source),
    ):
        if not is_unicode(str(text)):
            raise DataError(
                f"{where}: {name} holds half of a surrogate pair (an escape like \\ud83d alone), "
                "which is no Unicode text: a character was cut in two; mend or drop the line"
            )
    return Example(tuple(turns), str(source))


def _is_wanted(example: Example, spec: DataSpec) -> bool:
    if spec.max_turns is not None and example.turns > spec.max_turns:
        return False
    return not spec.sources or any(fnmatch.fnmatchcase(example.source, g) for g in spec.sources)


def count_examples(spec: DataSpec) -> int:
    """Return how many examples there are to select from; raises as `load_examples`."""
    return sum(1 for _ in _read(spec))


def _read(spec: DataSpec) -> Iterator[Example]:
    """Yield all examples, if they are those that the spec names by their fingerprint."""
    path = spec.path
    if (data := shipped_bytes(path)) is not None:
        check_bytes(data, spec.fingerprint, path)
        names = path.removeprefix(AUTHORED)
        if path == PYDOC:
            return (Example((text,), PYDOC) for text in language_reference())
        return _authored(names)
    files = read_files(path)
    check(of_files(files), spec.fingerprint, path)
    return (e for name, data in files.items() for e in parse_examples(data, _named(path, name)))


def _authored(names: str) -> Iterator[Example]:
    for name in names.split("+"):
        yield from parse_examples(authored_file(name).read_bytes(), f"{AUTHORED}{name}")


def _named(path: str, name: str) -> str:
    """Return what errors call a file; that of a path which is one has no name."""
    return f"{shortened(path)}/{name}" if name else shortened(path)


def of_files(files: Mapping[str, bytes]) -> str:
    """Return the fingerprint of the files of examples that `read_files` returned."""
    hashes = {name: of_bytes(data) for name, data in files.items()}
    return hashes[""] if "" in hashes else of_tree(hashes)


def read_files(path: str) -> dict[str, bytes]:
    """Return the bytes of the files of examples of a path, by their names below it.

    The name of a path that is a file itself is "".

    Raises:
        DataError: there is none, or it cannot be read.
        StorageError: an object store does not answer.

    """
    where = _where(path)
    return {name: _read_bytes(file, path) for name, file in example_files(where).items()}


def _read_bytes(file: str, path: str) -> bytes:
    if "://" in file:
        from lima.store.storage import Storage  # its library takes longer than all of lint

        folder, _, name = file.rpartition("/")
        storage = Storage(folder)
        if "://" not in path and not storage.exists(name):
            raise DataError(
                f"{shortened(path)}: neither on this machine nor at {file}; copy it there"
            )
        return storage.read(name)
    try:
        return expanded(file).read_bytes()
    except OSError as error:
        raise DataError(f"{shortened(file)}: cannot be read ({error.strerror})") from None


def _where(path: str) -> str:
    """Return where a path lies: on this machine, or below the storage of the pod's examples."""
    home = os.environ.get(DATA)
    if "://" in path or not home or path.startswith(HUB) or is_here(path):
        return path
    return f"{home.rstrip('/')}/{path}"
