"""Bytes that should be text in UTF-8, and files that are packed."""

import gzip
import zlib

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""First bytes of such files."""


def not_utf8(data: bytes) -> str | None:
    """Return what is wrong with the encoding of a text, and what to do; None: it is UTF-8."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return (
            f"not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}; an older encoding like "
            "Latin-1?); convert it: iconv -f LATIN1 -t UTF-8"
        )
    return None


def unpacked(data: bytes) -> bytes:
    """Return the content of a file; of one that is packed with gzip, what it holds.

    Raises:
        ValueError: it is damaged or cut off, or packed by another program.

    """
    if data.startswith(ZSTD):
        raise ValueError("packed with zstd; unpack it: zstd -d")
    if not data.startswith(GZIP):
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"damaged gzip ({error}); fetch it again") from None
