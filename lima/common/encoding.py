"""Bytes that should be text in UTF-8, and files that are packed."""

import codecs
import gzip
import zlib

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
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
