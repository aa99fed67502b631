"""Damaged dumps: said and counted, the rest goes on; strict mode stops."""

import gzip
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.curation.stackexchange.dump import find_dumps
from lima.curation.stackexchange.on_disk import Spill
from lima.curation.stackexchange.posts_by_question import split
from lima.curation.stackexchange.threads import read_partition
from lima.curation.stackexchange.xml_rows import frames, parse_rows
from lima.errors import DataError, LimaError
from lima.spec.curate import LimitSpec
from tests.helpers.curation import dumps

MEGABYTE = 1 << 20


def _read(folder: Path, spill: Path, **more: object) -> tuple[list[str], Damage]:
    """Return what was found whole, and what was damaged."""
    spec = dumps.spec(folder, **more)
    whole: list[Candidate] = []
    damage = Damage()
    for dump in find_dumps([str(folder)]):
        site = split(dump, spill / dump.site, spec, dialogues=False)
        for partition in site.partitions:
            whole += read_partition(site, partition, spec)
        damage.merge([site.damage])
    lost = {"damaged", "orphan"}
    return [c.source_id for c in whole if not lost.intersection(c.reasons)], damage


def _write(tmp_path: Path, data: bytes, name: str = "Posts.xml") -> Path:
    folder = tmp_path / "in" / dumps.SITE
    folder.mkdir(parents=True)
    (folder / name).write_bytes(data)
    return tmp_path / "in"


POSTS = [text for n in range(1, 21) for text in (dumps.question(n), dumps.answer(n + 100, n))]
ALL = [f"{n}/{n + 100}" for n in range(1, 21)]


def _mangled(change: Callable[[str], str], number: int = 10) -> bytes:
    """Return a dump with one question changed."""
    rows = [change(r) if f'Id="{number}"' in r and "Title" in r else r for r in POSTS]
    return dumps.document(rows)


DAMAGES = {
    "garbage in a row": (lambda r: r.replace("Score=", "Score=<<&"), "not well-formed"),
    "half a row": (lambda r: r[: len(r) // 2], "not well-formed"),
    "garbage after a row": (lambda r: f"{r} <broken & />", "not well-formed"),
    "no Id": (lambda r: r.replace(' Id="10"', ""), "row has no Id"),
    "no type": (lambda r: r.replace(' PostTypeId="1"', ""), "row has no PostTypeId"),
    "impossible Id": (lambda r: r.replace(' Id="10"', ' Id="99999999999999"'), "impossible Id"),
    "zero Id": (lambda r: r.replace(' Id="10"', ' Id="0"'), "impossible Id"),
    "an entity": (lambda r: r.replace("What", "&bomb; What"), "not well-formed"),
    "a bare ampersand": (lambda r: r.replace("What", "A & B"), "not well-formed"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_one_damaged_row_costs_one_question(name: str, tmp_path: Path) -> None:
    change, said = DAMAGES[name]
    whole, damage = _read(_write(tmp_path, _mangled(change)), tmp_path / "spill")
    assert whole == [source for source in ALL if source != "10/110"]
    assert [kind for kind in damage.counts if said in kind], damage.counts
    assert sum(damage.counts.values()) == 1
    (examples,) = damage.examples.values()
    assert "Posts.xml: byte" in examples[0] or "post 10" in examples[0]


@pytest.mark.parametrize("name", DAMAGES)
def test_strict_stops_at_the_first(name: str, tmp_path: Path) -> None:
    change, said = DAMAGES[name]
    folder = _write(tmp_path, _mangled(change))
    with pytest.raises(DataError, match=rf"{said}.*curate\.strict=false"):
        _read(folder, tmp_path / "spill", strict=True)


def test_bytes_of_another_encoding_cost_their_rows(tmp_path: Path) -> None:
    data = _mangled(lambda r: r.replace("What", "Caf\u00e9")).replace("é".encode(), b"\xe9")
    whole, damage = _read(_write(tmp_path, data), tmp_path / "spill")
    assert whole == [s for s in ALL if s != "10/110"]
    assert damage.counts == {"row is not in UTF-8, and the file does not say in what": 1}


def test_a_declared_encoding_is_recoded(tmp_path: Path) -> None:
    text = dumps.document([dumps.question(1, "What is a café, in one word?")]).decode("utf-8-sig")
    data = text.replace("utf-8", "iso-8859-1").encode("iso-8859-1")
    spec = dumps.spec(_write(tmp_path, data))
    (dump,) = find_dumps([spec.root])
    site = split(dump, tmp_path / "spill", spec, dialogues=False)
    (found,) = read_partition(site, 0, spec)
    assert found.measures["description"] or "café" in found.conversation[0]
    assert list(site.damage.counts) == ["not in UTF-8, recoded"]


def test_an_unknown_encoding_costs_the_file(tmp_path: Path) -> None:
    data = dumps.document(POSTS).removeprefix(b"\xef\xbb\xbf").replace(b"utf-8", b"klingon")
    whole, damage = _read(_write(tmp_path, data), tmp_path / "spill")
    assert whole == []
    assert damage.examples["unknown encoding"][0].endswith("Posts.xml: klingon")


def test_a_post_of_30_megabytes_is_passed_over(tmp_path: Path) -> None:
    data = _mangled(lambda r: r.replace("What", "long " * (6 * MEGABYTE)))
    assert len(data) > 30 * MEGABYTE
    whole, damage = _read(_write(tmp_path, data), tmp_path / "spill")
    assert whole == [s for s in ALL if s != "10/110"]
    assert damage.counts == {"row is too long": 1}
    assert "bytes" in damage.examples["row is too long"][0]


def test_html_that_never_closes_is_a_filter_of_its_own(tmp_path: Path) -> None:
    bodies = ["<p>a <b>b", "<b>" * 1000 + dumps.SENTENCE, "</p>" * 50, "<pre><code>x"]
    rows = [
        text
        for n, body in enumerate(bodies, start=1)
        for text in (dumps.question(n), dumps.answer(n + 100, n, Body=body))
    ]
    spec = dumps.spec(_write(tmp_path, dumps.document(rows)))
    (dump,) = find_dumps([spec.root])
    site = split(dump, tmp_path / "spill", spec, dialogues=False)
    found = list(read_partition(site, 0, spec))
    assert len(found) == 4
    assert all("broken_html" in candidate.reasons for candidate in found)


def test_the_same_id_again_is_left_out(tmp_path: Path) -> None:
    whole, damage = _read(
        _write(tmp_path, dumps.document([*POSTS, dumps.question(3), dumps.answer(104, 4)])),
        tmp_path / "spill",
    )
    assert whole == ALL
    assert damage.counts == {"Id is there twice": 2}


@pytest.mark.parametrize("kept", [0.3, 0.7, 0.99])
def test_a_truncated_gzip_gives_what_is_before_its_end(tmp_path: Path, kept: float) -> None:
    packed = gzip.compress(dumps.document(POSTS), compresslevel=0)
    whole, damage = _read(
        _write(tmp_path, packed[: int(len(packed) * kept)], "Posts.xml.gz"), tmp_path / "spill"
    )
    assert whole == [s for s in ALL if s in whole], "what is there is right"
    assert (kept * 20 - 3) < len(whole) < 20 or kept == 0.99
    assert damage.counts["file breaks off or is damaged"] == 1


def test_a_truncated_7z_costs_that_site_only(tmp_path: Path) -> None:
    whole_one = dumps.write_7z(
        tmp_path / "in" / f"{dumps.SITE}.7z", {"Posts": dumps.document(POSTS)}
    )
    broken = whole_one.read_bytes()
    (tmp_path / "in" / "cs.stackexchange.com.7z").write_bytes(broken[: len(broken) // 2])
    found, damage = _read(tmp_path / "in", tmp_path / "spill")
    assert found == ALL
    assert damage.counts == {"file breaks off or is damaged": 1}
    [told] = damage.examples["file breaks off or is damaged"]
    assert "cs.stackexchange.com.7z" in told
    assert "archive_p" not in told, "an address in memory, another one in each run"
    with pytest.raises(DataError, match="breaks off"):
        _read(tmp_path / "in", tmp_path / "again", strict=True)


def test_a_7z_with_flipped_bytes_is_told(tmp_path: Path) -> None:
    noise = random.Random(0).randbytes(200_000).hex()
    rows = [*POSTS, dumps.question(50, Body=noise)]
    path = dumps.write_7z(tmp_path / "in" / f"{dumps.SITE}.7z", {"Posts": dumps.document(rows)})
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    _, damage = _read(tmp_path / "in", tmp_path / "spill")
    assert damage.counts
    assert "archive_p" not in str(damage.examples)


@pytest.mark.parametrize("form", ["gz", "7z"])
def test_a_zip_bomb_stops_at_the_limit(tmp_path: Path, form: str) -> None:
    bomb = dumps.document(POSTS) + b" " * (200 * MEGABYTE)
    folder = tmp_path / "in"
    if form == "gz":
        dumps.write_folder(folder / "cs.stackexchange.com", {"Posts": bomb}, packed=True)
    else:
        dumps.write_7z(folder / "cs.stackexchange.com.7z", {"Posts": bomb})
    dumps.write_folder(folder / dumps.SITE, {"Posts": dumps.document(POSTS)})
    whole, damage = _read(folder, tmp_path / "spill", limits=LimitSpec(max_expansion=2))
    assert whole[:20] == ALL, "the other site is whole"
    assert damage.counts["unpacks to more than the limits"] == 1
    spilled = sum(f.stat().st_size for f in (tmp_path / "spill").rglob("*") if f.is_file())
    assert spilled < MEGABYTE


def test_a_disk_that_takes_no_more_is_told(tmp_path: Path) -> None:
    folder = _write(tmp_path, dumps.document(POSTS))
    spill = tmp_path / "spill" / dumps.SITE
    (spill / "posts" / "0.rows").mkdir(parents=True)  # cannot be written to
    with pytest.raises(LimaError, match=r"cannot be put aside.*set TMPDIR"):
        _read(folder, tmp_path / "spill")


@pytest.mark.parametrize("buffer", [1, 100, 10**9])
def test_what_is_put_aside_is_read_in_its_order(tmp_path: Path, buffer: int) -> None:
    spill = Spill(tmp_path, buffer)
    for number in range(1000):
        spill.add(number % 3, b"%d," % number)
    spill.close()
    again = Spill(tmp_path)
    assert again.partitions() == [0, 1, 2]
    for partition in range(3):
        read = b"".join(again.read(partition))
        assert read == b"".join(b"%d," % n for n in range(partition, 1000, 3))


def test_an_empty_file_is_told(tmp_path: Path) -> None:
    whole, damage = _read(_write(tmp_path, b""), tmp_path / "spill")
    assert (whole, damage.counts) == ([], {"holds no rows": 1})


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000, 10**9])
def test_rows_are_the_same_in_chunks_of_any_size(size: int) -> None:
    data = dumps.document([*POSTS, "<row", "<rows>", "<rowdy/>"])
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    damage = Damage()
    found = list(frames(chunks, "x", 1 << 16, damage))
    assert len(found) == len(POSTS) + 1
    assert all(data[at:].startswith(row[4:14]) for at, row in found), "positions are right"
    assert [r and r["Id"] for r in parse_rows([row for _, row in found])] == [
        *(a.partition(' Id="')[2].partition('"')[0] for a in POSTS),
        None,
    ]


def test_rows_parsed_together_stay_apart() -> None:
    """What one row holds never counts for another, though the number of elements is right."""
    rows = [
        b'<row Id="1"/><!--',  # would swallow the next one
        b'<row Id="2"/>-->',
        b'<row Id="3"/><row2 Id="4"/>',  # and this would make up for it
        b'<row Id="5" Body="&amp;lt;p&gt;&#65;&#xA;"/> </posts>',
        b'<row Id="6"></row>',
        b'<row Id="7"><b Id="8"/></row>',
        b'<row Id="9" Body="&made;"/>',
    ]
    ended = {"Id": "5", "Body": "&lt;p>A\n"}
    expected = [None, {"Id": "2"}, None, ended, {"Id": "6"}, {"Id": "7"}, None]
    assert parse_rows(rows) == expected
    assert [parse_rows([row])[0] for row in rows] == expected
    assert parse_rows([rows[3], rows[3]]) == [ended, ended]
    assert parse_rows([b'<row Id="1"/>', b'<row Id="2"/>']) == [{"Id": "1"}, {"Id": "2"}]


def test_a_file_that_breaks_off_between_rows_is_told() -> None:
    row = b'  <row Id="1" PostTypeId="1" Body="x" />\n'
    for end, counts in ((b"</posts>\n", {}), (b"", {"file breaks off after a row": 1})):
        damage = Damage()
        found = list(frames([b"<posts>\n" + row + row + end], "Posts.xml", 1 << 20, damage))
        assert (len(found), damage.counts) == (2, counts)
