"""Which file system a storage lies on, by its URI: a folder, s3://, gs://, abfs:// or fsspec's."""

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs

from lima.common.paths import expanded
from lima.errors import InputError
from lima.store.errors import kind_of, reason, refuse_slips
from lima.store.s3 import CONNECT_S, READ_S, Server


def open_filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """Return the file system of a storage, and its root there.

    Raises:
        InputError: the URI names no place.
        StorageError: the URI names no file system that can be used here.

    """
    scheme, separator, rest = uri.partition("://")
    refuse_slips(uri)
    if not separator:
        folder = expanded(uri)
        if uri.startswith("~") and folder == Path(uri):
            raise InputError(f"{uri}: there is no user {folder.parts[0]}; name another folder")
        return pafs.LocalFileSystem(), str(folder.absolute())
    if not rest.strip("/"):
        raise InputError(f"{uri}: no bucket is named; write {scheme}://BUCKET/PREFIX")
    try:
        if scheme == "file":
            return pafs.LocalFileSystem(), str(Path(rest).absolute())
        if scheme == "s3":
            return _s3(), rest.strip("/")
        return _other(uri)
    except (ValueError, ImportError) as error:
        raise InputError(_not_opened(uri, error)) from error
    except (OSError, pa.ArrowException) as error:
        raise kind_of(error)(_not_opened(uri, error)) from error


def _not_opened(uri: str, error: Exception) -> str:
    return (
        f"{uri}: cannot open this kind of storage ({reason(error)}); use a folder, s3://, gs:// "
        "or abfs://, or install the fsspec package for this scheme"
    )


def _s3() -> pafs.FileSystem:
    server = Server.of_environment()
    return pafs.S3FileSystem(
        endpoint_override=server.endpoint,
        region=server.region,
        tls_ca_file_path=server.ca_bundle,  # type: ignore[call-arg]  # old stubs
        connect_timeout=CONNECT_S,
        request_timeout=READ_S,
        retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=server.attempts),
    )


def _other(uri: str) -> tuple[pafs.FileSystem, str]:
    try:
        filesystem, root = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        import fsspec

        opened, root = fsspec.url_to_fs(uri)
        filesystem = pafs.PyFileSystem(pafs.FSSpecHandler(opened))  # type: ignore[abstract]
    return filesystem, str(root).rstrip("/")
