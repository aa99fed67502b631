"""Disk as memory: rows put aside by partition, and the names of users, found by their id.

All files lie in a folder of one site, on the machine that reads the site, and go when it is done.
"""

import struct
from array import array
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from lima.errors import LimaError

BUFFER = 16 << 20
"""Bytes that wait in memory, over all partitions, while as many are written."""
_BLOCK = struct.Struct("<II")


class Spill:
    """Bytes appended to numbered partitions, compressed, in the order they were added.

    A thread compresses and writes while the next bytes are found.
    """

    def __init__(self, folder: Path, buffer: int = BUFFER) -> None:
        """Write below `folder`, made when it is needed, whenever `buffer` bytes wait in memory."""
        self.folder, self.buffer = folder, buffer
        self._codec = pa.Codec("lz4_raw")
        self._waiting: defaultdict[int, list[bytes]] = defaultdict(list)
        self._size = 0
        self._writer = ThreadPoolExecutor(1, "spill")
        self._written: Future[None] | None = None

    def add(self, partition: int, data: bytes) -> None:
        """Append bytes to a partition.

        Raises:
            LimaError: bytes that were added before could not be written.

        """
        self._waiting[partition].append(data)
        self._size += len(data)
        if self._size >= self.buffer:
            self._flush()

    def close(self) -> None:
        """Write what still waits in memory.

        Raises:
            LimaError: the disk is full, or cannot be written to.

        """
        self._flush()
        self._wait()
        self._writer.shutdown()

    def _flush(self) -> None:
        """Hand over what waits in memory, once what was handed over before is written."""
        self._wait()
        waiting, self._waiting, self._size = self._waiting, defaultdict(list), 0
        self._written = self._writer.submit(self._write, waiting)

    def _wait(self) -> None:
        if self._written:
            self._written.result()

    def _write(self, waiting: Mapping[int, Sequence[bytes]]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for partition, parts in waiting.items():
                data = b"".join(parts)
                packed = self._codec.compress(data, asbytes=True)
                with self._path(partition).open("ab") as stream:
                    stream.write(_BLOCK.pack(len(data), len(packed)))
                    stream.write(packed)
        except OSError as error:
            raise LimaError(
                f"{self.folder}: rows of a site cannot be put aside ({error}); it takes about a "
                "third of its unpacked posts: set TMPDIR to a folder with more room"
            ) from error

    def partitions(self) -> list[int]:
        """Return the partitions that hold something, in order."""
        return sorted(int(path.stem) for path in self.folder.glob("*.rows"))

    def read(self, partition: int) -> Iterator[bytes]:
        """Yield the blocks of a partition."""
        path = self._path(partition)
        if not path.exists():
            return
        with path.open("rb") as stream:
            while header := stream.read(_BLOCK.size):
                size, packed = _BLOCK.unpack(header)
                yield self._codec.decompress(stream.read(packed), size, asbytes=True)

    def _path(self, partition: int) -> Path:
        return self.folder / f"{partition}.rows"


class NameWriter:
    """Writes ids and names, which may come in any order."""

    def __init__(self, folder: Path) -> None:
        """Write below `folder`, which is made."""
        folder.mkdir(parents=True, exist_ok=True)
        self._ids, self._ends = _open(folder, "ids"), _open(folder, "ends")
        self._names = _open(folder, "names")
        self._end = 0

    def add(self, ids: "array[int]", names: list[bytes]) -> None:
        """Add users, a name each."""
        ends = array("q", np.cumsum([len(n) for n in names], dtype=np.int64) + self._end)
        self._end = ends[-1] if ends else self._end
        self._ids.write(ids.tobytes())
        self._ends.write(ends.tobytes())
        self._names.write(b"".join(names))

    def close(self) -> None:
        """Finish the files."""
        for stream in (self._ids, self._ends, self._names):
            stream.close()


class Names:
    """Names by id, mapped from disk: memory holds no more than what is asked for."""

    def __init__(self, folder: Path) -> None:
        """Read what a `NameWriter` wrote; nothing if there is nothing."""
        self._ids, self._ends = _map(folder, "ids", np.int64), _map(folder, "ends", np.int64)
        self._names = _map(folder, "names", np.uint8)
        self._order = None
        if len(self._ids) and not bool(np.all(self._ids[:-1] <= self._ids[1:])):
            self._order = np.argsort(self._ids, kind="stable")

    def get(self, user: int) -> str:
        """Return a user's name; empty if it is not known."""
        at = int(np.searchsorted(self._ids, user, sorter=self._order))
        if at == len(self._ids):
            return ""
        at = at if self._order is None else int(self._order[at])
        if self._ids[at] != user:
            return ""
        start = int(self._ends[at - 1]) if at else 0
        return bytes(self._names[start : int(self._ends[at])]).decode("utf-8", "replace")


def _open(folder: Path, name: str) -> BinaryIO:
    return (folder / name).open("wb")


def _map(folder: Path, name: str, kind: type) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    path = folder / name
    if not path.exists() or not path.stat().st_size:
        return np.empty(0, kind)
    return np.asarray(np.memmap(path, kind, mode="r"))  # plain arrays are read far faster
