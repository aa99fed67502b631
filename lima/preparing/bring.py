"""Brings inputs into a study's storage, and names them there.

A file is written once, whoever writes it: its folder is the fingerprint of its content. Two who
bring it at once write the same bytes, and an object appears whole or not at all.
"""

import hashlib
import io
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

from lima.common.paths import expanded
from lima.errors import InputError, StorageError
from lima.inputs.content import Content, File, Watch
from lima.inputs.copies import copy_path, folder_of
from lima.inputs.fingerprint import SHA256, digits, of_stream
from lima.inputs.places import Kind, Place, map_places
from lima.inputs.shipped import PYDOC, shipped_bytes
from lima.inputs.upload import Sender
from lima.preparing.prepare import Prepared
from lima.spec import CellSpec
from lima.store.s3 import Bucket
from lima.store.storage import CHUNK, Storage

TEXTS: tuple[Kind, ...] = ("data", "responses", "picks", "file", "extension")
"""Kinds of inputs that people write: single files, and folders of examples."""
FILES: tuple[Kind, ...] = (*TEXTS, "source", "tokenizer")
"""Kinds that are brought without being asked for."""


@dataclass(frozen=True)
class Parcel:
    """A file of this machine, and where its copy lies below the storage."""

    file: File
    path: str

    @property
    def is_shipped(self) -> bool:
        """Whether it ships with Python, in other words elsewhere."""
        return self.file.where == PYDOC


def parcels(prepared: Prepared, kinds: Collection[Kind]) -> list[Parcel]:
    """Return the files of a study that only this machine has, each once."""
    found = {
        parcel.path: parcel
        for seen in prepared.inputs
        if seen.place.kind in kinds and isinstance(seen.content, Content)
        for parcel in _parcels(seen.place, seen.content)
    }
    return list(found.values())


def _parcels(place: Place, content: Content) -> Iterator[Parcel]:
    is_tree = content.fingerprint.startswith("tree:")
    for name, file in content.files.items():
        if "://" in file.where:
            continue
        if is_tree and place.kind != "responses":
            if place.kind == "source" and "#" in name:
                raise InputError(
                    f"{place.role}: two files are called {name.partition('#')[0]}; give them names "
                    "of their own, or bring them to the storage yourself"
                )
            yield Parcel(file, f"{folder_of(content.fingerprint)}/{name}")
        else:
            yield Parcel(file, copy_path(file.fingerprint, file.where))


def missing(storage: Storage, wanted: Sequence[Parcel]) -> list[Parcel]:
    """Return the parcels that storage does not hold yet."""

    def is_there(parcel: Parcel) -> bool:
        entry = storage.entry(parcel.path)
        return entry is not None and entry.size == parcel.file.size

    return [parcel for parcel in wanted if not is_there(parcel)]


def bring(storage: Storage, parcel: Parcel, watch: Watch | None = None) -> int:
    """Copy a file into storage and see that the copy is the file.

    To S3, an upload that was cut goes on. The copy is read once, unless the store tells a checksum
    of it that is the file's.

    Args:
        storage: Of the study.
        parcel: The file.
        watch: Told how far the copying is.

    Returns:
        Bytes that were there already, of an upload that was cut.

    Raises:
        InputError: the file changed meanwhile.
        StorageError: storage cannot be written, or holds something else afterwards.

    """
    if storage.bucket:
        return _send(storage, storage.bucket, parcel, watch)
    sent = hashlib.sha256()
    if storage.is_local:
        shipped = shipped_bytes(parcel.file.where)
        if shipped is None:
            storage.upload(expanded(parcel.file.where), parcel.path)
        else:
            storage.write(parcel.path, shipped, replace=True)
    else:
        storage.write_pieces(parcel.path, _pieces(parcel.file, storage.uri, sent, watch))
    found = _read_back(storage, parcel)
    if found == parcel.file.fingerprint:
        return 0
    storage.delete(parcel.path)
    if storage.is_local or SHA256 + sent.hexdigest() == found:
        raise _changed(parcel)
    raise _other_copy(storage, parcel)


def _send(storage: Storage, bucket: Bucket, parcel: Parcel, watch: Watch | None) -> int:
    file = parcel.file

    def tell(done: int) -> None:
        if watch:
            watch(f"{file.where} to {storage.uri}", done, file.size)

    with _opened(file) as stream:
        sent = Sender(bucket, parcel.path, file.size, tell).send(stream, digits(file.fingerprint))
    if sent and SHA256 + sent.sha256 != file.fingerprint:
        raise _changed(parcel)
    kept = bucket.kept(parcel.path)
    is_told = sent is not None and kept is not None and kept.checksum == sent.checksum
    if not is_told and _read_back(storage, parcel) != file.fingerprint:
        storage.delete(parcel.path)
        raise _other_copy(storage, parcel)
    return sent.taken_up if sent else 0


def _read_back(storage: Storage, parcel: Parcel) -> str:
    """Return the fingerprint of a copy."""
    with storage.opened(parcel.path) as copy:
        return of_stream(copy, lambda _: None)


def _changed(parcel: Parcel) -> InputError:
    return InputError(
        f"{parcel.file.where}: changed while it was brought to the storage; start the command "
        "again when it is written"
    )


def _other_copy(storage: Storage, parcel: Parcel) -> StorageError:
    return StorageError(f"{storage.uri}/{parcel.path}: the copy is not the file; try again")


def _opened(file: File) -> BinaryIO:
    shipped = shipped_bytes(file.where)
    return expanded(file.where).open("rb") if shipped is None else io.BytesIO(shipped)


def _pieces(file: File, uri: str, sent: "hashlib._Hash", watch: Watch | None) -> Iterator[bytes]:
    """Yield the bytes of a file, and add them to the digest of what was sent."""
    done = 0
    with _opened(file) as stream:
        while piece := stream.read(CHUNK):
            sent.update(piece)
            yield piece
            done += len(piece)
            if watch:
                watch(f"{file.where} to {uri}", done, file.size)


def relocated(
    cells: Sequence[CellSpec], prepared: Prepared, storage: Storage, kinds: Collection[Kind]
) -> tuple[CellSpec, ...]:
    """Return the cells, which read the copies in storage in the place of files of this machine."""
    contents = {
        (seen.place.role, seen.place.paths): seen.content
        for seen in prepared.inputs
        if seen.place.kind in kinds and isinstance(seen.content, Content)
    }

    def to_copy(place: Place) -> Place:
        content = contents.get((place.role, place.paths)) if place.fingerprint else None
        if content is None or all("://" in file.where for file in content.files.values()):
            return place
        return replace(place, paths=_copies(place, content, storage))

    return tuple(map_places(cell, to_copy) for cell in cells)


def _copies(place: Place, content: Content, storage: Storage) -> tuple[str, ...]:
    root = storage.uri.rstrip("/")
    if content.fingerprint.startswith("tree:") and place.kind != "responses":
        return (f"{root}/{folder_of(content.fingerprint)}",)
    return tuple(
        f"{root}/{copy_path(file.fingerprint, file.where)}" for file in content.files.values()
    )


def with_images_own(cells: Sequence[CellSpec]) -> tuple[CellSpec, ...]:
    """Return the cells, which read of what ships with Python whatever they find in their image."""

    def unnamed(place: Place) -> Place:
        return replace(place, fingerprint=None) if place.paths == (PYDOC,) else place

    return tuple(map_places(cell, unnamed) for cell in cells)


def total(wanted: Sequence[Parcel]) -> int:
    """Return the bytes of parcels."""
    return sum(parcel.file.size for parcel in wanted)


def copied(cells: Sequence[CellSpec], storage: Storage) -> tuple[CellSpec, ...]:
    """Return the cells of a storage, reading the copies that it keeps where it keeps some.

    Raises:
        StorageError: storage cannot be reached.

    """
    root = storage.uri.rstrip("/")

    def to_copy(place: Place) -> Place:
        if not place.fingerprint or (place.kind == "responses" and len(place.paths) > 1):
            return place
        folder = folder_of(place.fingerprint)
        path = copy_path(place.fingerprint, place.paths[0])
        if place.fingerprint.startswith("tree:"):
            return replace(place, paths=(f"{root}/{folder}",)) if storage.entries(folder) else place
        return replace(place, paths=(f"{root}/{path}",)) if storage.exists(path) else place

    return tuple(map_places(cell, to_copy) for cell in cells)
