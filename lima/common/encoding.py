"""Bytes that should be text in UTF-8, and files that are packed."""

import bz2
import codecs
import gzip
import lzma
import zlib

GZIP, ZSTD, BZIP2, XZ = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"\xfd7zXZ\x00"
"""First bytes of such files."""

_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # before that of UTF-16, with which it begins
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
_ZEROS: dict[tuple[bool, ...], str] = {
    (False, True, True, True): "UTF-32LE",
    (True, True, True, False): "UTF-32BE",
    (False, True, False, True): "UTF-16LE",
    (True, False, True, False): "UTF-16BE",
}
"""Which of the first four bytes are zero where a text begins with two of ASCII (RFC 4627)."""


def not_utf8(data: bytes) -> str | None:
    """Return what is wrong with the encoding of a text, and what to do; None: it is UTF-8."""
    if wide := not_bytewise(data):
        return wide
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return (
            f"not UTF-8 (byte {error.start} is 0x{data[error.start]:02x}; an older encoding like "
            "Latin-1?); convert it: iconv -f LATIN1 -t UTF-8"
        )
    return None


def not_bytewise(data: bytes) -> str | None:
    """Return what to do with a text that begins in UTF-16 or UTF-32; None: it does not.

    Without a mark at its beginning, such a text of ASCII is UTF-8 too, full of zero bytes.
    """
    name = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None)
    # A mark tells the order of the bytes, and iconv takes it away only where none is named.
    name = name or _ZEROS.get(tuple(byte == 0 for byte in data[:4]))
    if name is None:
        return None
    return (
        f"not UTF-8 but {name}, in which some Windows programs save text; convert it: "
        f"iconv -f {name} -t UTF-8"
    )


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
