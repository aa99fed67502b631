"""Bytes that should be text in UTF-8, and files that are packed."""

import bz2
import gzip
import lzma
import zlib

GZIP, ZSTD, BZIP2, XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00"
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
    """Return the content of a file; of one that is packed, what it holds.

    Known by their first bytes are gzip, zstd, bzip2 and xz.

    Raises:
        ValueError: it is damaged or cut off.

    """
    for start, name, unpack in _PACKERS:
        if data.startswith(start):
            try:
                return unpack(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                raise ValueError(f"damaged {name} ({error}); fetch it again") from None
    return data


def _of_zstd(data: bytes) -> bytes:
    import pyarrow as pa  # the command line alone has no other that unpacks it

    with pa.CompressedInputStream(pa.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


_PACKERS = (
    (GZIP, "gzip", gzip.decompress),
    (ZSTD, "zstd", _of_zstd),
    (BZIP2, "bzip2", bz2.decompress),
    (XZ, "xz", lzma.decompress),
)
