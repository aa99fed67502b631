"""Reads a worker's slices of a saved state, by however many workers it was saved."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from lima.common.typed_json import DamagedJsonError, decoded
from lima.store.storage import Storage
from lima.training.aside import KINDS, Aside, Slice, slice_of

Saved = dict[str, Any]
"""A tensor of a file: `dtype`, `shape` and `data`, as safetensors names them."""


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


class StateReader:
    """The files of one state."""

    def __init__(
        self, storage: Storage, path: str, workers: int, files: Mapping[str, tuple[int, str]]
    ) -> None:
        """Name a state.

        Args:
            storage: Holds it.
            path: Of its folder.
            workers: That saved it.
            files: Size in bytes and sha256 of each file, by name.

        """
        self.storage, self.path, self.workers, self.files = storage, path, workers, files

    def read(self, aside: Aside) -> bool:
        """Fill the slices of `aside`; False if what they need is missing, damaged or does not fit.

        Raises:
            StorageError: a file cannot be fetched. That does not mean that it is damaged.

        """
        there = {
            e.path.removeprefix(f"{self.path}/"): e.size for e in self.storage.entries(self.path)
        }
        if any(there.get(name) != size for name, (size, _) in self.files.items()):
            return False
        # Every worker saves an index, so that more than are there never saved.
        if self.workers < 1 or any(_index(r) not in self.files for r in range(self.workers)):
            return False
        read = Counter[tuple[str, str]]()
        try:
            for rank in self._ranks(aside):
                read.update(self._read_of(rank, aside))
        except _DamagedError:
            return False
        return all(read[key] == len(tensor) for key, tensor in aside.tensors.items())

    def _ranks(self, aside: Aside) -> list[int]:
        """Return the workers that saved a part of what `aside` holds."""
        found: set[int] = set()
        for part in aside.slices.values():
            size = -(-part.length // self.workers)
            if part.stop > part.start:
                found.update(range(part.start // size, (part.stop - 1) // size + 1))
        return sorted(found)

    def _read_of(self, rank: int, aside: Aside) -> Counter[tuple[str, str]]:
        """Copy what worker `rank` saved of the slices of `aside`, a file at a time.

        Returns:
            How many numbers of each tensor were copied.

        """
        read = Counter[tuple[str, str]]()
        wanted: dict[str, list[str]] = {}
        places = self._index(rank)
        for name, part in aside.slices.items():
            theirs = slice_of(part.length, rank, self.workers)
            if max(part.start, theirs.start) < min(part.stop, theirs.stop):
                wanted.setdefault(_known(places, f"{name}/{KINDS[0]}"), []).append(name)
        for file, names in wanted.items():
            tensors = self._tensors(file)
            for name in names:
                for kind in KINDS:
                    saved = _known(tensors, f"{name}/{kind}")
                    part = aside.slices[name]
                    theirs = slice_of(part.length, rank, self.workers)
                    read[name, kind] += _lay(aside.tensors[name, kind], part, saved, theirs)
        return read

    def _index(self, rank: int) -> dict[str, str]:
        try:
            return decoded(self._checked(_index(rank)), _Index).weight_map
        except DamagedJsonError as error:
            raise _DamagedError from error

    def _tensors(self, file: str) -> dict[str, Saved]:
        from safetensors import SafetensorError, deserialize

        # Not `load` of safetensors.torch: it fails in many ways at types that torch has not.
        parse: Callable[[bytes], list[tuple[str, Saved]]] = deserialize
        try:
            return dict(parse(self._checked(file)))
        except SafetensorError as error:
            raise _DamagedError from error

    def _checked(self, name: str) -> bytes:
        """Return a file's bytes, if they are those that were saved."""
        _, checksum = _known(self.files, name)
        content = self.storage.read(f"{self.path}/{name}")
        if hashlib.sha256(content).hexdigest() != checksum:
            raise _DamagedError
        return content


class _DamagedError(Exception):
    """What was saved is not there, or not what it was."""


def _index(rank: int) -> str:
    return f"rank-{rank:05d}.index.json"


def _known(found: Mapping[str, Any], name: str) -> Any:
    if name not in found:
        raise _DamagedError
    return found[name]


def _lay(target: Any, part: Slice, saved: Saved, theirs: Slice) -> int:
    """Copy where the slice `theirs`, which `saved` holds, and the slice `part` overlap.

    Returns:
        How many numbers that were.

    """
    import torch

    if saved["dtype"] != "F32" or saved["shape"] != [theirs.stop - theirs.start]:
        raise _DamagedError
    numbers = torch.frombuffer(saved["data"], dtype=torch.float32)
    start, stop = max(part.start, theirs.start), min(part.stop, theirs.stop)
    target[start - part.start : stop - part.start] = numbers[
        start - theirs.start : stop - theirs.start
    ]
    return stop - start
