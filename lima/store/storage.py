"""A study's storage: a local folder or an object store, behind one small interface.

Objects appear whole or not at all, and are not changed afterwards. Credentials come from the
environment only (for S3: the usual AWS_* variables; AWS_ENDPOINT_URL for other S3 servers,
AWS_MAX_ATTEMPTS for how often a request is tried).
"""

import contextlib
import uuid
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from lima.errors import BucketError, StorageError
from lima.spec.credentials import refuse_credentials
from lima.store.errors import storage_error
from lima.store.local_files import PARTIAL, copy_whole, write_whole, written_beside
from lima.store.opening import open_filesystem
from lima.store.s3 import Bucket

TRANSFERS = 8
"""Objects that are copied at the same time."""
CHUNK = 8 << 20


@dataclass(frozen=True)
class Entry:
    """An object: its path below the storage root, its size in bytes, when it was written.

    `modified` is in nanoseconds since 1970; 0: the file system does not say.
    """

    path: str
    size: int
    modified: int = 0


class Storage:
    """Objects below one root. All paths are relative to it, with forward slashes."""

    def __init__(self, uri: str) -> None:
        """Open `uri`: a folder (made when first written), `s3://`, `gs://`, `abfs://` or fsspec's.

        Raises:
            InputError: the URI holds a password, or names no place.
            StorageError: the URI names no file system that can be used here.

        """
        refuse_credentials(uri, "the storage")
        self.filesystem, self.root = open_filesystem(uri)
        self.is_local = isinstance(self.filesystem, pafs.LocalFileSystem)
        is_s3 = isinstance(self.filesystem, pafs.S3FileSystem)
        self.bucket = Bucket(self.root) if is_s3 else None
        self._has_bucket = False
        # Absolute: other processes open the same storage from other folders.
        self.uri = self.root if self.is_local else uri.rstrip("/")

    def full_path(self, path: str) -> str:
        """Return `path` as the file system below names it."""
        return f"{self.root}/{path}" if path else self.root

    def local_path(self, path: str) -> Path | None:
        """Return where an object lies on this machine; None for an object store."""
        return Path(self.full_path(path)) if self.is_local else None

    def exists(self, path: str) -> bool:
        """Say whether an object exists."""
        with self._explained("look up", path):
            info = self.filesystem.get_file_info(self.full_path(path))
        return bool(info.type == pafs.FileType.File)

    def entry(self, path: str) -> Entry | None:
        """Return an object without reading it; None: there is none."""
        with self._explained("look up", path):
            info = self.filesystem.get_file_info(self.full_path(path))
        is_file = info.type == pafs.FileType.File
        return Entry(path, info.size or 0, info.mtime_ns or 0) if is_file else None

    def etag(self, path: str) -> str:
        """Return what an object store names the content of an object by; empty: it tells none."""
        if self.is_local:
            return ""
        with (
            self._explained("look up", path),
            self.filesystem.open_input_file(self.full_path(path)) as stream,
        ):
            told = dict(stream.metadata() or {})
        return bytes(told.get("ETag", b"")).decode()

    def checksum(self, path: str, etag: str) -> str | None:
        """Return the sha256 (hex) that a store keeps of all bytes of an object with this ETag.

        None: it keeps none, or one of other checksums, those of the parts that were sent.
        """
        with contextlib.suppress(StorageError):  # whoever reads it next is told
            kept = self.bucket.kept(path) if self.bucket else None
            if kept and kept.etag.strip('"') == etag.strip('"'):
                return kept.sha256
        return None

    def require_bucket(self) -> None:
        """Refuse a bucket that is not there: looking up and listing objects say only that none is.

        Raises:
            BucketError: there is no such bucket, as far as the credentials may know.

        """
        if self.bucket is None:
            return
        bucket = self.bucket.name
        try:
            info = self.filesystem.get_file_info(bucket)
        except (OSError, pa.ArrowException):
            return  # rights to objects alone are enough for a study
        if info.type == pafs.FileType.NotFound:
            missing = f"{self.uri}: there is no bucket {bucket!r}"
            raise BucketError(f"{missing}; create it, or name another")

    @contextlib.contextmanager
    def opened(self, path: str) -> Iterator["pa.NativeFile"]:
        """Open an object to be read in pieces, as it is stored."""
        with (
            self._explained("read", path),
            self.filesystem.open_input_stream(
                self.full_path(path), compression=None, buffer_size=CHUNK
            ) as stream,
        ):
            yield stream

    def read(self, path: str) -> bytes:
        """Return the bytes of an object."""
        return self.read_buffer(path).to_pybytes()

    def read_buffer(self, path: str) -> pa.Buffer:
        """Return the bytes of an object in memory of Arrow's, not of Python's.

        What Arrow's threads still hold of Python's memory at the end of a process aborts it: so
        readers of Parquet take this, and no threads: a file system may be written in Python.
        """
        with (
            self._explained("read", path),
            self.filesystem.open_input_file(self.full_path(path)) as stream,
        ):
            return stream.read_buffer()

    def open_file(self, path: str) -> pa.NativeFile:
        """Open an object to read parts of it; of a file system written in Python, read it whole.

        Raises:
            OSError: it is not there, or cannot be read; of the file system itself.

        """
        if isinstance(self.filesystem, pafs.PyFileSystem):
            return pa.BufferReader(self.read_buffer(path))
        return self.filesystem.open_input_file(self.full_path(path))

    def write(self, path: str, data: bytes, *, replace: bool = False) -> bool:
        """Write an object whole. Without `replace` the first writer wins; False says it existed."""
        if self.is_local:
            with self._explained("write", path):
                return write_whole(Path(self.full_path(path)), data, replace=replace)
        if not replace and self.exists(path):
            return False
        # The object appears when the stream closes, and nothing can fail before that: the data
        # is complete in memory.
        with (
            self._explained("write", path),
            self.filesystem.open_output_stream(self.full_path(path), compression=None) as stream,
        ):
            stream.write(data)
        return True

    def entries(self, path: str) -> list[Entry]:
        """Return the objects below `path`, sorted, without unfinished ones; none if absent.

        Raises:
            BucketError: not even the bucket exists.
            StorageError: storage cannot be reached.

        """
        return [entry for entry in self._entries(path) if not _is_hidden(entry)]

    def unfinished(self) -> list[Entry]:
        """Return what is being written to a folder, or was by a writer that was killed."""
        if not self.is_local:
            return []
        return [entry for entry in self._entries("") if PARTIAL.search(entry.path)]

    def _entries(self, path: str) -> list[Entry]:
        selector = pafs.FileSelector(self.full_path(path), recursive=True, allow_not_found=True)
        with self._explained("list", path):
            infos = self.filesystem.get_file_info(selector)
        if not infos and not self.is_local and not self._has_bucket:
            self.require_bucket()
        self._has_bucket = True
        strip = len(self.root) + 1
        found = (
            Entry(i.path[strip:], i.size or 0, i.mtime_ns or 0)
            for i in infos
            if i.type == pafs.FileType.File
        )
        return sorted(found, key=lambda entry: entry.path)

    def delete(self, path: str) -> None:
        """Delete an object; one that is gone already is fine."""
        with self._explained("delete", path), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_file(self.full_path(path))

    def delete_tree(self, path: str) -> None:
        """Delete everything below `path`."""
        with self._explained("delete", path), contextlib.suppress(FileNotFoundError):
            self.filesystem.delete_dir(self.full_path(path))

    def upload(self, source: Path, path: str) -> None:
        """Copy a local file into storage, as a stream; the last writer wins."""
        if self.is_local:
            with self._explained("write", path):
                copy_whole(source, Path(self.full_path(path)))
            return
        with self._explained("write", path):
            pafs.copy_files(
                str(source),
                self.full_path(path),
                source_filesystem=pafs.LocalFileSystem(),
                destination_filesystem=self.filesystem,
                chunk_size=CHUNK,
            )

    def write_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        """Write an object piece by piece, to an object store in parts; the last writer wins.

        What goes wrong on the way, a request to stop too, leaves no object. (A process that is
        killed leaves none either: parts are no object before the last one.)
        """
        if self.is_local:
            with self._explained("write", path), written_beside(Path(self.full_path(path))) as file:
                for piece in pieces:
                    file.write(piece)
            return
        with self._explained("write", path):
            stream = self.filesystem.open_output_stream(self.full_path(path), compression=None)
        try:
            with self._explained("write", path):
                for piece in pieces:
                    stream.write(piece)
        except BaseException:
            # The library has no way to give up but to close, which makes an object of the rest.
            with contextlib.suppress(OSError, pa.ArrowException):
                stream.close()
            self.delete(path)
            raise
        with self._explained("write", path):
            stream.close()

    def download(self, path: str, target: Path) -> None:
        """Copy an object to a local file, whole or not at all."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        try:
            with self._explained("read", path):
                pafs.copy_files(
                    self.full_path(path),
                    str(partial),
                    source_filesystem=self.filesystem,
                    destination_filesystem=pafs.LocalFileSystem(),
                    chunk_size=CHUNK,
                )
                partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def upload_folder(self, source: Path, path: str) -> list[Entry]:
        """Copy all files of a local folder to below `path`; return what was written."""
        files = sorted(p for p in source.rglob("*") if p.is_file())
        entries = [
            Entry(f"{path}/{f.relative_to(source).as_posix()}", f.stat().st_size) for f in files
        ]

        with ThreadPoolExecutor(TRANSFERS) as pool:
            list(pool.map(self.upload, files, [entry.path for entry in entries]))
        return entries

    def download_folder(
        self, path: str, target: Path, wanted: Collection[str] | None = None
    ) -> Path:
        """Copy everything below `path`, or what is `wanted` of it, into a local folder; return it.

        `wanted` are paths below the storage root.

        Raises:
            StorageError: a copy failed, or an object's name leads out of the folder.

        """
        with ThreadPoolExecutor(TRANSFERS) as pool:
            for future in [
                pool.submit(self.download, e.path, target / self._below(path, e.path))
                for e in self.entries(path)
                if wanted is None or e.path in wanted
            ]:
                future.result()
        return target

    def _below(self, folder: str, path: str) -> str:
        """Return `path` as its folder names it; an object store takes any name, also `../x`."""
        name = path.removeprefix(f"{folder}/")
        if ".." in name.split("/") or name.startswith("/"):
            raise StorageError(f"{self.uri}/{path}: its name leads out of {folder}; delete it")
        return name

    @contextlib.contextmanager
    def _explained(self, what: str, path: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            where = f"{self.uri.rstrip('/')}/{path}"
            raise storage_error(error, what, where) from error


def _is_hidden(entry: Entry) -> bool:
    return entry.path.rsplit("/", 1)[-1].startswith(".")
