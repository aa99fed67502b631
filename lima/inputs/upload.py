"""Uploads to S3 that go on where they were cut, by whoever starts them again.

A store keeps the parts of an upload until it is finished or given up. Whoever brings the same file
to the same place takes up those that are there, as far as their checksums are those of the file.
Two who do so at once send the same parts, and the first to finish makes the object.
"""

import base64
import contextlib
import hashlib
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import BinaryIO

from lima.errors import StorageError
from lima.store.s3 import SHA256, Bucket, GoneError, Part

log = logging.getLogger(__name__)
MIB = 1 << 20
SMALLEST_PART = 8 * MIB
MOST_PARTS = 10_000
"""Of an upload, as S3 has it."""
AT_ONCE = 4
"""Parts that are sent at the same time: so many are in memory."""
TRIES = 3
"""How often an upload is begun that others give up meanwhile."""
PATIENCE_S, PAUSE_S = 10.0, 0.2

Watch = Callable[[int], None]
"""Told how many bytes of the file the store has."""


@dataclass(frozen=True)
class Sent:
    """What was sent.

    Args:
        sha256: Of all bytes of the file, in hex.
        checksum: As the store keeps it of the object, in base64: of parts, that of their digests.
        taken_up: Bytes that the store had already, of an upload that was cut.

    """

    sha256: str
    checksum: str
    taken_up: int = 0


def part_size(size: int) -> int:
    """Return the bytes of a part of a file: alike at every start, so that parts fit."""
    return max(SMALLEST_PART, -(-size // (MOST_PARTS * MIB)) * MIB)


class Sender:
    """Sends a file to a path of a bucket."""

    def __init__(self, bucket: Bucket, path: str, size: int, watch: Watch) -> None:
        """Prepare to send `size` bytes to `path`."""
        self.bucket, self.path, self.size, self.watch = bucket, path, size, watch
        self.part_size = part_size(size)

    def send(self, stream: BinaryIO, promised: str) -> Sent | None:
        """Send a file; if it is another one than was promised, no object appears.

        Args:
            stream: The file, from its start.
            promised: sha256 of its bytes, in hex.

        Returns:
            What was sent; None if another made the object meanwhile.

        Raises:
            StorageError: the store does not take it.

        """
        if self.size <= self.part_size:
            return self._whole(stream.read(self.part_size + 1), promised)
        for attempt in count(1):
            stream.seek(0)
            # What an upload that was begun otherwise does not take, a new one does.
            there = self._begun() if attempt == 1 else None
            try:
                return self._in_parts(stream, promised, *(there or (self._begin(), {})))
            except GoneError as error:
                if self._appears():
                    return None
                if attempt == TRIES:
                    raise
                log.info("%s: sent anew: %s", self.path, error)
        return None

    def _whole(self, data: bytes, promised: str) -> Sent:
        digest = hashlib.sha256(data)
        if digest.hexdigest() == promised:
            self.bucket.put(self.path, data, _told(digest))
            self.watch(len(data))
        return Sent(digest.hexdigest(), _told(digest))

    def _begin(self) -> str:
        return self.bucket.begin(self.path)

    def _begun(self) -> tuple[str, dict[int, Part]] | None:
        """Return the upload of this file of which the store has most, and its parts."""
        found = [(upload, self._parts(upload)) for upload in self._uploads()]
        return max(found, key=lambda f: sum(part.size for part in f[1].values()), default=None)

    def _uploads(self) -> list[str]:
        try:
            begun = self.bucket.uploads(self.path)
        except StorageError as error:  # not every key may ask, nor does every server know
            log.info("%s: uploads that were cut are not known: %s", self.path, error)
            return []
        ours = (u for u in begun if u.path == self.path)
        return [u.id for u in ours if u.algorithm in (None, "", SHA256)]

    def _parts(self, upload: str) -> dict[int, Part]:
        with contextlib.suppress(StorageError):
            return self.bucket.parts(self.path, upload)
        return {}

    def _in_parts(
        self, stream: BinaryIO, promised: str, upload: str, there: dict[int, Part]
    ) -> Sent:
        parts = _Parts(self, upload, there)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while data := stream.read(self.part_size):
                parts.add(data, pool)
            parts.finish()
        sent = parts.sent()
        if sent.sha256 == promised:
            self.bucket.complete(self.path, upload, parts.named)
            if not self._appears():
                raise GoneError(f"{self.path}: is not there, although its upload was completed")
            self._give_up_others()
        return sent

    def _give_up_others(self) -> None:
        """Remove uploads of this file that nobody needs any more; who is at one sees the object."""
        for upload in self._uploads():
            with contextlib.suppress(StorageError):
                self.bucket.give_up(self.path, upload)

    def _appears(self) -> bool:
        """Say whether the object is there, or will be in moments: another may be completing it."""
        give_up = time.monotonic() + PATIENCE_S
        while not (kept := self.bucket.kept(self.path)) or kept.size != self.size:
            if time.monotonic() > give_up:
                return False
            time.sleep(PAUSE_S)
        return True


class _Parts:
    """The parts of one upload, in their order."""

    def __init__(self, sender: Sender, upload: str, there: dict[int, Part]) -> None:
        self.sender, self.upload, self.there = sender, upload, there
        self.named: list[tuple[str, str]] = []
        """ETag and checksum of each, once the store has it."""
        self._whole, self._digests = hashlib.sha256(), hashlib.sha256()
        self._number = self._done = self._taken_up = 0
        self._under_way: deque[tuple[Future[str] | str, str, int]] = deque()

    def add(self, data: bytes, pool: ThreadPoolExecutor) -> None:
        """Send the next part, unless the store has it."""
        self._number += 1
        digest = hashlib.sha256(data)
        self._whole.update(data)
        self._digests.update(digest.digest())
        told, kept = _told(digest), self.there.get(self._number)
        etag: Future[str] | str
        if kept and _is_same(kept, data, told):
            etag, self._taken_up = kept.etag, self._taken_up + len(data)
        else:
            sender = self.sender
            etag = pool.submit(
                sender.bucket.send, sender.path, self.upload, self._number, data, told
            )
        self._under_way.append((etag, told, len(data)))
        if len(self._under_way) >= AT_ONCE:
            self._await_one()

    def finish(self) -> None:
        """Wait until the store has all parts."""
        while self._under_way:
            self._await_one()

    def _await_one(self) -> None:
        etag, told, size = self._under_way.popleft()
        self.named.append((etag if isinstance(etag, str) else etag.result(), told))
        self._done += size
        self.sender.watch(self._done)

    def sent(self) -> Sent:
        """Return what was sent."""
        checksum = f"{_told(self._digests)}-{self._number}"
        return Sent(self._whole.hexdigest(), checksum, self._taken_up)


def _is_same(kept: Part, data: bytes, checksum: str) -> bool:
    """Say whether a part that a store has is this one."""
    if kept.size != len(data):
        return False
    if kept.checksum:
        return kept.checksum == checksum
    return kept.etag.strip('"') == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _told(digest: "hashlib._Hash") -> str:
    """Return a digest as S3 writes it."""
    return base64.b64encode(digest.digest()).decode()
