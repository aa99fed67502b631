"""Fingerprints of content: what names an input, wherever it lies and whatever it is called.

sha256:…   of a file's bytes
tree:…     sha256 of the sorted list of names and hashes of files that belong together
objects:…  the same of names, sizes and ETags of objects that are too large to be read for it
commit:…   the commit of a repository of a hub
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from lima.spec.codec import sha256_key

SHA256, TREE, OBJECTS, COMMIT = "sha256:", "tree:", "objects:", "commit:"
BLOCK = 1 << 20
"""Bytes that are read at once: memory does not grow with the file."""
SHOWN = 12
"""Hex digits of a fingerprint that people are shown."""

Watch = Callable[[int], None]
"""Told how many bytes more have been read."""


class Readable(Protocol):
    """An open file."""

    def readinto(self, buffer: bytearray | memoryview, /) -> int | None:
        """Fill the buffer; return how many bytes of it."""


def of_bytes(data: bytes) -> str:
    """Return the fingerprint of a file that holds `data`."""
    return SHA256 + hashlib.sha256(data).hexdigest()


def of_stream(stream: Readable, watch: Watch) -> str:
    """Return the fingerprint of what is left in an open file."""
    digest, buffer = hashlib.sha256(), bytearray(BLOCK)
    view = memoryview(buffer)
    while count := stream.readinto(buffer):
        digest.update(view[:count])
        watch(count)
    return SHA256 + digest.hexdigest()


def of_tree(files: Mapping[str, str]) -> str:
    """Return the fingerprint of files that belong together.

    Args:
        files: The fingerprint of each, by its name below the folder.

    """
    return TREE + sha256_key(sorted(files.items()))


def of_objects(objects: Iterable[tuple[str, int, str]]) -> str:
    """Return the fingerprint of objects that belong together: of their names, sizes and ETags.

    A store makes an ETag from the content: another content has another one. So has the same
    content that was written in other parts.
    """
    return OBJECTS + sha256_key(sorted(objects))


def digits(fingerprint: str) -> str:
    """Return the hex digits of a fingerprint, as names of folders hold them."""
    return fingerprint.partition(":")[2]


def short(fingerprint: str | None) -> str:
    """Return a fingerprint as people are shown it."""
    if fingerprint is None:
        return "fingerprint unknown"
    kind, _, value = fingerprint.partition(":")
    return f"{kind}:{value[:SHOWN]}"
