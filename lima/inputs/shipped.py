"""Examples that ship here or with Python."""

from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

from lima.errors import DataError
from lima.spec.codec import canonical_json

AUTHORED = "authored:"
PYDOC = "pydoc:topics"
DOCUMENT_CHARACTERS = 1200
"""Length at which the language reference is cut into documents."""


def shipped_bytes(path: str) -> bytes | None:
    """Return examples that ship here or with Python as a JSONL file; None: they lie elsewhere.

    Raises:
        DataError: no examples of that name ship here.

    """
    if path == PYDOC:
        return b"".join(
            canonical_json({"conversations": [text], "source": PYDOC}).encode() + b"\n"
            for text in language_reference()
        )
    if path.startswith(AUTHORED):
        files = [authored_file(name) for name in path.removeprefix(AUTHORED).split("+")]
        return b"".join(file.read_bytes() for file in files)
    return None


def authored_file(name: str) -> Traversable:
    """Return a file of the examples that were written for this project.

    Raises:
        DataError: no examples of that name ship here.

    """
    folder = resources.files("lima") / "authored"
    file = folder / f"{name}.jsonl"
    if not file.is_file():
        known = sorted(f.name.removesuffix(".jsonl") for f in folder.iterdir())
        raise DataError(f"{AUTHORED}{name}: no such examples; there are {', '.join(known)}")
    return file


def language_reference() -> Iterator[str]:
    """Yield Python's language reference, which every Python ships, as short documents."""
    from pydoc_data.topics import topics

    for name in sorted(topics):
        document = ""
        for paragraph in topics[name].split("\n\n"):
            document += ("\n\n" if document else "") + paragraph.strip("\n")
            if len(document) >= DOCUMENT_CHARACTERS:
                yield document
                document = ""
        if document.strip():
            yield document
