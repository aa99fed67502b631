"""Examples in LIMA's layout: reading, checking and sampling them.

A line of JSONL is `{"conversations": ["user", "assistant", …], "source": "name"}`.
"""

import fnmatch
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lima.common.encoding import not_utf8, unpacked
from lima.common.paths import expanded
from lima.data.layouts import refuse_unread
from lima.errors import DataError
from lima.inputs.check import check_bytes
from lima.inputs.shipped import AUTHORED, PYDOC, authored_file, language_reference, shipped_bytes
from lima.spec import DataSpec
from lima.spec.codec import is_unicode, sha256_key, shortened

HOME = "LIMA_DATA"
"""Environment variable of a pod: the storage that holds relative files which its machine lacks."""


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


def parse_examples(lines: Iterable[str], where: str) -> Iterator[Example]:
    """Yield the examples of JSONL lines; blank lines are passed over.

    Raises:
        DataError: a line is not an example; the message names `where` and the line.

    """
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield _parse(line, f"{where}:{number}")


def _parse(line: str, where: str) -> Example:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: not JSON ({error.msg}); mend or drop the line") from None
    except (ValueError, RecursionError):
        raise DataError(
            f"{where}: holds a number of thousands of digits, or lists within lists without end; "
            "mend or drop the line"
        ) from None
    turns = record.get("conversations") if isinstance(record, dict) else None
    if not isinstance(turns, list) or not turns or not all(isinstance(t, str) for t in turns):
        raise DataError(f'{where}: "conversations" must be a list of strings, the user\'s first')
    for index, turn in enumerate(turns):
        if not turn.strip():
            role = "response" if index % 2 else "prompt"
            raise DataError(f"{where}: utterance {index + 1} is an empty {role}; fill or drop it")
    try:
        refuse_unread(record, ("conversations",), turns)
    except ValueError as error:
        raise DataError(f"{where}: {error}; curation reads other layouts") from None
    source = record.get("source", "")
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
    return parse_examples(_lines(_checked(spec), path), path)


def _checked(spec: DataSpec) -> bytes:
    data = read_bytes(spec.path)
    check_bytes(data, spec.fingerprint, spec.path)
    return data


def _authored(names: str) -> Iterator[Example]:
    for name in names.split("+"):
        lines = authored_file(name).read_text("utf-8").split("\n")
        yield from parse_examples(lines, f"{AUTHORED}{name}")


def _lines(data: bytes, path: str) -> list[str]:
    try:
        data = unpacked(data)
    except ValueError as error:
        raise DataError(f"{shortened(path)}: {error}") from None
    if problem := not_utf8(data):
        raise DataError(f"{shortened(path)}: {problem}")
    # Not splitlines(): a JSON string may hold U+2028 and the like.
    return data.decode("utf-8-sig").split("\n")


def read_bytes(path: str) -> bytes:
    """Return the bytes of a file of examples.

    Raises:
        DataError: it is not there, or cannot be read.

    """
    uri = _uri(path)
    if uri:
        from lima.store.storage import Storage  # its library takes longer than all of lint

        folder, _, name = uri.rpartition("/")
        storage = Storage(folder)
        if uri != path and not storage.exists(name):
            raise DataError(
                f"{shortened(path)}: neither on this machine nor at {uri}; copy it there"
            )
        return storage.read(name)
    try:
        return expanded(path).read_bytes()
    except OSError as error:
        raise DataError(f"{shortened(path)}: cannot be read ({error.strerror})") from None


def _uri(path: str) -> str | None:
    """Return where a file lies on an object store; None: on this machine."""
    if "://" in path:
        return path
    home, local = os.environ.get(HOME), expanded(path)
    return f"{home.rstrip('/')}/{path}" if home and not local.exists() else None
