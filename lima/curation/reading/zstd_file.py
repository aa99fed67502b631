"""Files packed with zstd, of which one that breaks off is told from one that ends.

The package's own `stream_reader` ends quietly in the middle of a frame.
"""

import io
from typing import Protocol

import zstandard

WINDOW = 1 << 31
"""Pushshift's dumps are packed with windows of 2 GiB (`zstd --long=31`)."""
READ = 1 << 20
"""Bytes that are read at once: an object store charges for each time."""
AT_ONCE = 1 << 12
"""Bytes of these that are unpacked at once: a block of 128 KiB may be packed in four."""


class Packed(Protocol):
    """An open file."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes; none at the end."""


class ZstdFile(io.RawIOBase):
    """What a file of frames, one after another, holds."""

    def __init__(self, packed: Packed) -> None:
        """Unpack `packed` as it is read."""
        self._packed = packed
        self._left = self._ready = memoryview(b"")
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._unpacker = zstandard.ZstdDecompressor(max_window_size=WINDOW)

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; return how many bytes of it, 0 at the end.

        Raises:
            EOFError: the file ends within a frame.
            zstandard.ZstdError: it is damaged.

        """
        while not self._ready:
            if not self._left:
                self._left = memoryview(self._packed.read(READ))
            if not self._left:
                if self._frame is not None:
                    raise EOFError("the file ended before the end of its last frame")
                return 0
            self._unpack()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _unpack(self) -> None:
        """Unpack some of what was read, at most to the end of a frame."""
        frame = self._frame or self._unpacker.decompressobj()
        part = self._left[:AT_ONCE]
        self._ready = memoryview(frame.decompress(part))
        self._left = self._left[len(part) - len(frame.unused_data) :]
        self._frame = None if frame.eof else frame
