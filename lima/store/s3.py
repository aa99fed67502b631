"""What S3 can do and Arrow's file system cannot: uploads that go on, and checksums that it keeps.

Credentials come from where Arrow takes them too: the environment, a web identity (IRSA), profiles.
"""

import base64
import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from lima.errors import BucketError, InputError, StorageError
from lima.store.errors import reason

ATTEMPTS = "8"
"""Of each request, with growing pauses: a minute in all."""
CONNECT_S, READ_S = 10, 60
HASTY_CONNECT_S, HASTY_READ_S = 3, 5
SHA256 = "SHA256"
FULL_OBJECT = "FULL_OBJECT"
"""Type of a checksum that is one of an object's bytes, and not of the checksums of its parts."""
GONE = ("NoSuchUpload", "InvalidPart", "InvalidRequest", "404", "NoSuchKey")
"""What a store says of an upload that another has finished or given up, or began otherwise."""
REFUSED = ("403", "AccessDenied", "NotImplemented", "MethodNotAllowed")
"""What a store says to those who may not ask it, or of what it does not know."""


class GoneError(StorageError):
    """An upload is not there any more, or not as it was."""


class RefusedError(StorageError):
    """The credentials have no right to what was asked."""


def endpoint() -> str | None:
    """Return the URL of the S3 server that the environment names; None: AWS's own."""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None


def region() -> str | None:
    """Return the region that the environment names."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None


@dataclass(frozen=True)
class Server:
    """An S3 server, as the environment names it: None is what the library takes by itself."""

    endpoint: str | None
    region: str | None
    ca_bundle: str | None
    attempts: int

    @classmethod
    def of_environment(cls) -> "Server":
        """Return the server that the usual AWS_* variables name.

        Raises:
            InputError: AWS_MAX_ATTEMPTS is no number.

        """
        attempts = os.environ.get("AWS_MAX_ATTEMPTS") or ATTEMPTS
        if not attempts.isdecimal() or int(attempts) == 0:
            raise InputError(f"AWS_MAX_ATTEMPTS={attempts}: not a number of attempts from 1")
        return cls(endpoint(), region(), os.environ.get("AWS_CA_BUNDLE"), int(attempts))


@dataclass(frozen=True)
class Kept:
    """What a store keeps of an object: its size in bytes, and its checksum by SHA-256, if any.

    `checksum` is base64 as the store writes it; `is_full`: it is one of the object's bytes.
    """

    size: int
    etag: str
    checksum: str | None
    is_full: bool

    @property
    def sha256(self) -> str | None:
        """Hex digits of the sha256 of the object's bytes; None: the store does not keep it."""
        if not self.is_full or self.checksum is None:
            return None
        return base64.b64decode(self.checksum).hex()


@dataclass(frozen=True)
class Part:
    """A part of an upload that the store has: its size in bytes, ETag and SHA-256 in base64."""

    size: int
    etag: str
    checksum: str | None
    written: datetime


@dataclass(frozen=True)
class Upload:
    """An upload that is not finished: of which object below the root, and since when.

    `algorithm`: of the checksums of its parts; None: the store keeps none, or does not say.
    """

    path: str
    id: str
    begun: datetime
    algorithm: str | None = None


class Bucket:
    """Objects below a prefix of a bucket."""

    def __init__(self, root: str) -> None:
        """Look at `root`: BUCKET or BUCKET/PREFIX."""
        self.name, _, prefix = root.partition("/")
        self.prefix = f"{prefix}/" if prefix else ""

    def kept(self, path: str) -> Kept | None:
        """Return what the store keeps of an object; None: there is none.

        Raises:
            StorageError: the store does not answer, or refuses.

        """
        try:
            told = self._ask("head_object", path, ChecksumMode="ENABLED")
        except GoneError:
            return None
        is_full = told.get("ChecksumType") == FULL_OBJECT
        return Kept(
            told["ContentLength"], told.get("ETag", ""), told.get("ChecksumSHA256"), is_full
        )

    def put(self, path: str, data: bytes, checksum: str) -> None:
        """Write a small object; the store checks it by its SHA-256 (base64), and keeps that."""
        self._ask("put_object", path, Body=data, ChecksumSHA256=checksum)

    def uploads(self, path: str = "") -> list[Upload]:
        """Return the uploads that are not finished, of all objects whose path begins so."""
        pages = self._pages("list_multipart_uploads", "Uploads", Prefix=self.prefix + path)
        strip = len(self.prefix)
        return [
            Upload(u["Key"][strip:], u["UploadId"], u["Initiated"], u.get("ChecksumAlgorithm"))
            for u in pages
        ]

    def parts(self, path: str, upload: str) -> dict[int, Part]:
        """Return the parts of an upload that the store has, by number from 1.

        Raises:
            GoneError: the upload was finished or given up.

        """
        named = {"Key": self.prefix + path, "UploadId": upload}
        return {
            p["PartNumber"]: Part(p["Size"], p["ETag"], p.get("ChecksumSHA256"), p["LastModified"])
            for p in self._pages("list_parts", "Parts", **named)
        }

    def weight(self, upload: Upload) -> tuple[int, datetime]:
        """Return the bytes of an upload that the store has, and when it got the last of them."""
        parts: Iterable[Part] = ()
        with contextlib.suppress(GoneError):  # it is finished now
            parts = self.parts(upload.path, upload.id).values()
        last = max([upload.begun, *(part.written for part in parts)])
        return sum(part.size for part in parts), last

    def begin(self, path: str) -> str:
        """Begin an upload, of whose parts the store keeps the SHA-256; return its id."""
        told = self._ask("create_multipart_upload", path, ChecksumAlgorithm=SHA256)
        return str(told["UploadId"])

    def send(self, path: str, upload: str, number: int, data: bytes, checksum: str) -> str:
        """Send a part, with its SHA-256 (base64); return its ETag.

        Raises:
            GoneError: the upload was finished or given up.

        """
        told = self._ask(
            "upload_part",
            path,
            UploadId=upload,
            PartNumber=number,
            Body=data,
            ChecksumSHA256=checksum,
        )
        return str(told["ETag"])

    def complete(self, path: str, upload: str, parts: list[tuple[str, str]]) -> None:
        """Make an object of the parts of an upload, named by ETag and SHA-256 (base64), in order.

        Raises:
            GoneError: the upload was finished or given up, or a part is another one.

        """
        named = [
            {"PartNumber": number, "ETag": etag, "ChecksumSHA256": checksum}
            for number, (etag, checksum) in enumerate(parts, start=1)
        ]
        self._ask(
            "complete_multipart_upload", path, UploadId=upload, MultipartUpload={"Parts": named}
        )

    def give_up(self, path: str, upload: str) -> None:
        """Remove an upload and its parts; one that is gone already is fine."""
        with contextlib.suppress(GoneError):
            self._ask("abort_multipart_upload", path, UploadId=upload)

    def _ask(self, operation: str, path: str, **named: Any) -> dict[str, Any]:
        with self._explained(path):
            ask = getattr(_client(Server.of_environment(), _variables()), operation)
            told: dict[str, Any] = ask(Bucket=self.name, Key=self.prefix + path, **named)
            return told

    def _pages(self, operation: str, what: str, **named: Any) -> list[dict[str, Any]]:
        with self._explained(""):
            client = _client(Server.of_environment(), _variables())
            pages = client.get_paginator(operation).paginate(Bucket=self.name, **named)
            return [entry for page in pages for entry in page.get(what, ())]

    @contextlib.contextmanager
    def _explained(self, path: str) -> Iterator[None]:
        with _as_ours(f"s3://{self.name}/{self.prefix}{path}"):
            yield


def try_bucket(uri: str) -> None:
    """Find out in seconds whether a bucket can be asked at all.

    Raises:
        BucketError: there is no such bucket.
        StorageError: nobody answers, or not as a store does, or there are no credentials.

    """
    name = uri.removeprefix("s3://").partition("/")[0]
    client = _client(Server.of_environment(), _variables(), hasty=True)
    with contextlib.suppress(RefusedError), _as_ours(f"s3://{name}"):  # rights to objects may do
        client.list_objects_v2(Bucket=name, MaxKeys=1)


@contextlib.contextmanager
def _as_ours(where: str) -> Iterator[None]:
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code"))
        kind = GoneError if code in GONE else RefusedError if code in REFUSED else StorageError
        kind = BucketError if code == "NoSuchBucket" else kind
        raise kind(f"{where}: {reason(error)}") from error
    except ResponseParserError as error:  # a portal of a network, or another server
        raise StorageError(f"{where}: what answers is no S3 server") from error
    except BotoCoreError as error:
        raise StorageError(f"{where}: {reason(error)}") from error


def _variables() -> tuple[tuple[str, str], ...]:
    """Return the variables that a client is made from: others make another client."""
    return tuple(sorted((k, v) for k, v in os.environ.items() if k.startswith("AWS_")))


@lru_cache(maxsize=4)
def _client(server: Server, _made_from: object, *, hasty: bool = False) -> Any:
    # It takes longer than most commands.
    from botocore.config import Config
    from botocore.session import Session

    config = Config(
        connect_timeout=HASTY_CONNECT_S if hasty else CONNECT_S,
        read_timeout=HASTY_READ_S if hasty else READ_S,
        retries={"mode": "standard", "total_max_attempts": 1 if hasty else server.attempts},
        # Other checksums than those that are asked for, older servers do not know.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # As Arrow's file system does, which heeds no proxies of the environment either.
        s3={"addressing_style": "path"} if server.endpoint else {},
        proxies={},
    )
    return Session().create_client(
        "s3",
        endpoint_url=server.endpoint,
        region_name=server.region,
        verify=server.ca_bundle,
        config=config,
    )
