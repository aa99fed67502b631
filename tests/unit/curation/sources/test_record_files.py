"""Files of records: every compression, and every way in which they break."""

import bz2
import gzip
import json
import lzma
import random
from pathlib import Path

import pytest
import zstandard

from lima.common.paths import stem
from lima.curation.reading import record_files as module
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import document, records, rows
from lima.data.plain_text import one_line, tidy, without_links
from lima.errors import DataError
from lima.store.files import files

LINES = b'{"n": 1}\n\n{"n": 2}\r\n{"n": "\xe2\x80\xa8"}'
VALUES = [{"n": 1}, {"n": 2}, {"n": "\u2028"}]


def _read(path: Path, damage: Damage | None = None) -> list[dict[str, object]]:
    return [record for _, record in records(str(path), damage or Damage(strict=True))]


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zst", zstandard.compress),
    ],
)
def test_reads_every_compression(tmp_path: Path, suffix: str, pack: object) -> None:
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(pack(LINES))  # type: ignore[operator]
    assert _read(path) == VALUES
    assert stem(str(path)) == "a"


def test_reads_the_long_windows_and_many_frames_of_pushshift(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=31, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters)
    path = tmp_path / "RS_2018-02.zst"
    path.write_bytes(packer.compress(b'{"n": 1}\n') + packer.compress(b'{"n": 2}\n'))
    assert _read(path) == [{"n": 1}, {"n": 2}]


def test_takes_a_list_a_byte_order_mark_and_pythons_nan(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps([{"n": 1}, {"n": 2}]).encode())
    assert _read(path) == [{"n": 1}, {"n": 2}]
    path = tmp_path / "b.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"n": NaN, "t": "x"}\n')
    assert _read(path)[0]["t"] == "x"


def test_counts_what_is_damaged_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": \n[1]\n{"n": "\xff"}\n{"n": "\\ud800"}\n{"n": 2}\n{"n": 3')
    damage = Damage()
    assert _read(path, damage) == [{"n": 1}, {"n": 2}]
    assert damage.counts == {"not JSON": 3, "not UTF-8": 1, "not a JSON object": 1}
    assert "cut off" in damage.examples["not JSON"][-1]
    assert f"{path}:2" in damage.examples["not JSON"][0]
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        _read(path)


@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".xz", lzma.compress), (".zst", zstandard.compress)],
)
def test_reads_a_truncated_archive_up_to_the_cut(tmp_path: Path, suffix: str, pack: object) -> None:
    noise = random.Random(0)
    data = b"".join(b'{"n": %d, "x": %d}\n' % (i, noise.getrandbits(62)) for i in range(50_000))
    packed: bytes = pack(data)  # type: ignore[operator]
    path = tmp_path / f"a.jsonl{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    damage = Damage()
    found = _read(path, damage)
    assert [record["n"] for record in found] == list(range(len(found)))
    assert 0 < len(found) < 50_000
    assert damage.counts["cannot be read on"] == 1


@pytest.mark.parametrize("frames", [1, 3])
def test_a_zstd_file_that_breaks_off_between_lines_is_told(tmp_path: Path, frames: int) -> None:
    """Wherever it does, but between frames, which are files of their own."""
    lines = [b'{"n": %d}\n' % n for n in range(9)]
    parts = [zstandard.compress(b"".join(lines[n::frames])) for n in range(frames)]
    whole, ends = b"".join(parts), {len(b"".join(parts[:n])) for n in range(frames + 1)}
    path = tmp_path / "a.jsonl.zst"
    for size in range(1, len(whole) + 1):
        path.write_bytes(whole[:size])
        damage = Damage()
        found = _read(path, damage)
        told = damage.counts["cannot be read on"] + damage.counts["cannot be read"]
        assert told == (size not in ends), size
        assert len(found) == len(lines) or size < len(whole)


def test_what_only_looks_packed_is_damage(tmp_path: Path) -> None:
    for suffix in (".gz", ".zst", ".xz", ".bz2"):
        path = tmp_path / f"a.jsonl{suffix}"
        path.write_bytes(b'{"n": 1}\n')
        damage = Damage()
        assert _read(path, damage) == []
        assert damage.counts == {"cannot be read": 1}


def test_a_bomb_is_one_damaged_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LINE", 1 << 16)
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"n": 1}\n' + b" " * (1 << 24) + b'\n{"n": 2}\n'))
    damage = Damage()
    assert _read(path, damage) == [{"n": 1}, {"n": 2}]
    assert damage.counts == {f"a line of more than {1 << 16} bytes": 1}
    monkeypatch.setattr(module, "MAX_DOCUMENT", 1 << 16)
    assert document(str(path), damage) is None
    assert damage.counts[f"a JSON document of more than {1 << 16} bytes"] == 1


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-32"])
def test_wide_encodings_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes('{"n": 1}\n{"n": 2}\n'.encode(name))
    damage = Damage()
    assert _read(path, damage) == []
    assert list(rows(str(path), damage)) == []
    assert damage.counts == {"not UTF-8": 2}
    assert f"but {name.upper().replace('-LE', 'LE')}, in" in damage.examples["not UTF-8"][0]


def test_csv_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbftitle,text\nA,"one\n\ntwo"\nB,\xff\nC,1,2\nD\nE,"last ""quoted"""\n'
    )
    damage = Damage()
    found = [row for _, row in rows(str(path), damage)]
    assert found == [
        {"title": "A", "text": "one\n\ntwo"},
        {"title": "E", "text": 'last "quoted"'},
    ]
    assert damage.counts == {"not a row of the header's columns in UTF-8": 3}


def test_files_come_by_name_whatever_the_order(tmp_path: Path) -> None:
    for name in ("x/b.json", "a.json.gz", "x/c.txt", "d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    found = files([str(tmp_path)], (".json", ".jsonl"))
    assert [Path(path).name for path in found] == ["a.json.gz", "b.json", "d.jsonl"]
    given = [str(tmp_path / "d.jsonl"), str(tmp_path / "a.json.gz"), str(tmp_path)]
    assert files(given, (".json", ".jsonl")) == files(given[::-1], (".json", ".jsonl")) == found
    with pytest.raises(DataError, match="no such file"):
        files([str(tmp_path / "none")], (".json",))
    with pytest.raises(DataError, match="ends with"):
        files([str(tmp_path / "x")], (".md",))


def test_reads_from_object_storage(s3_storage: str, tmp_path: Path) -> None:
    from lima.store.storage import Storage

    storage = Storage(s3_storage)
    storage.write("in/a.jsonl.gz", gzip.compress(LINES))
    storage.write("in/notes.txt", b"")
    (found,) = files([f"{s3_storage}/in"], (".jsonl",))
    assert [record for _, record in records(found, Damage(strict=True))] == VALUES
    assert files([found], (".jsonl",)) == [found]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("see [the docs](https://x.org/a_(b)) now", "see the docs now"),
        ('see [the docs](https://x.org/a "t") now', "see the docs now"),
        ("![alt](https://x.org/i.png)after", "after"),
        ("at https://x.org/a?b=c. Next", "at. Next"),
        ("at (https://x.org/a) Next", "at Next"),
        ("<a href='x'>word</a> a < b > c", "word a < b > c"),
        ("[[Main Page|the page]] and [[Cats]] [[Image:x.jpg|thumb]].", "the page and Cats."),
        ("array[0](x) stays", "array[0](x) stays"),
    ],
)
def test_links_leave_their_words(text: str, plain: str) -> None:
    assert without_links(text) == plain


def test_tidy_keeps_lines_and_indentation() -> None:
    assert tidy("a &amp; b\u200b \r\n\r\n\r\n\r\n    code\u00a0x  \n") == "a & b\n\n    code x"
    assert one_line(" a\n b\t c ") == "a b c"
