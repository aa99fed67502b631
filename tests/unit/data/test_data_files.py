"""Examples as people have them: layouts, formats, packed, in folders, in a bucket."""

import bz2
import gzip
import json
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from lima.data.examples import load_examples, of_files, read_files
from lima.data.layouts import LAYOUTS, Layout
from lima.errors import ChangedInputError, DataError
from lima.inputs.content import Content, Contents
from lima.inputs.places import Place
from lima.spec import DataSpec
from lima.store.storage import Storage

READ = [layout for layout in LAYOUTS if not layout.chosen]
PAIR = ("How are you?", "Well.\u2028Thanks.")
RECORD = {
    "messages": [
        {"role": "user", "content": PAIR[0]},
        {"role": "assistant", "content": PAIR[1]},
    ]
}


def jsonl(*records: Any) -> bytes:
    return b"".join(json.dumps(r, ensure_ascii=False).encode() + b"\n" for r in records)


def parquet(*records: Any) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(list(records)), sink)
    return sink.getvalue().to_pybytes()


def fingerprint(path: str) -> str:
    found = Contents().of(Place("train", "train.data", "data", (path,), None))
    assert isinstance(found, Content)
    return found.fingerprint


@pytest.mark.parametrize("layout", READ, ids=[layout.name for layout in READ])
@pytest.mark.parametrize("write", [jsonl, parquet])
def test_each_layout(tmp_path: Path, layout: Layout, write: Callable[..., bytes]) -> None:
    file = tmp_path / "examples"
    file.write_bytes(write({**layout.record, "source": "mine", "id": 3}))
    (example,) = load_examples(DataSpec(str(file)))
    assert (example.conversation, example.source) == (layout.conversation, "mine")


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        bz2.compress,
        lzma.compress,
        zstandard.compress,
        lambda data: b"\xef\xbb\xbf" + data,
        lambda data: b"[" + data.strip().replace(b"\n", b",") + b"]",
    ],
    ids=["gzip", "bzip2", "xz", "zstd", "byte order mark", "list"],
)
def test_each_packing(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / "examples"
    file.write_bytes(pack(jsonl(RECORD, RECORD)))
    assert [e.conversation for e in load_examples(DataSpec(str(file)))] == [PAIR, PAIR]
    spec = DataSpec(str(file), fingerprint=fingerprint(str(file)))
    assert len(load_examples(spec)) == 2
    if file.read_bytes()[:1] not in b"\xef[":
        file.write_bytes(file.read_bytes()[:-9])
        with pytest.raises(DataError, match=r"examples: damaged \w+ \(.*fetch it again"):
            load_examples(DataSpec(str(file)))


def a_folder(write: Callable[[str, bytes], object]) -> None:
    write("b/two.parquet", parquet({"prompt": "b", "response": "2"}))
    write("a.jsonl.gz", gzip.compress(jsonl({"instruction": "a", "output": "1"}), mtime=0))
    write("c.JSON", b"[" + jsonl({"conversations": ["c", "3"]}).strip() + b"]")
    write("README.md", b"# Data")
    write("dataset_infos.json", b"{}")
    write(".hidden.jsonl", b"?")


def test_a_folder_and_the_same_in_a_bucket(tmp_path: Path, s3_storage: str) -> None:
    def local(name: str, data: bytes) -> None:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)

    a_folder(local)
    a_folder(Storage(f"{s3_storage}/data").write)
    for path in (str(tmp_path), f"{s3_storage}/data", f"{s3_storage}/data/"):
        named = fingerprint(path)
        assert named == of_files(read_files(path)) == fingerprint(str(tmp_path))
        spec = DataSpec(path, fingerprint=named)
        assert [e.conversation for e in load_examples(spec)] == [("a", "1"), ("b", "2"), ("c", "3")]
    (tmp_path / "b/two.parquet").write_bytes(parquet({"prompt": "b", "response": "4"}))
    assert fingerprint(str(tmp_path)) != named
    with pytest.raises(ChangedInputError):
        load_examples(DataSpec(str(tmp_path), fingerprint=named))
    local("a.jsonl.gz", b'{"conversations": ["c", ""]}')
    with pytest.raises(DataError, match=r"a\.jsonl\.gz:1: utterance 2 is an empty response"):
        load_examples(DataSpec(str(tmp_path)))


def test_what_holds_no_examples(tmp_path: Path) -> None:
    (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"ARROW1")
    with pytest.raises(DataError, match=r"no file of examples in it.*to_parquet"):
        load_examples(DataSpec(str(tmp_path)))
    (tmp_path / "rows.csv").write_text("prompt,response\na,b\n")
    with pytest.raises(DataError, match=r"rows\.csv: a table of texts"):
        load_examples(DataSpec(str(tmp_path / "rows.csv")))
    (tmp_path / "rows.tsv.zst").write_bytes(zstandard.compress(b"prompt\tresponse\n"))
    with pytest.raises(DataError, match=r"rows\.tsv\.zst: a table of texts"):
        load_examples(DataSpec(str(tmp_path / "rows.tsv.zst")))
    with tarfile.open(tmp_path / "rows.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "rows.csv", "rows.csv")
    with pytest.raises(DataError, match=r"rows\.tar\.gz: a tar archive; unpack it"):
        load_examples(DataSpec(str(tmp_path / "rows.tar.gz")))
    (tmp_path / "cut.parquet").write_bytes(parquet(RECORD)[:-20])
    with pytest.raises(DataError, match=r"cut\.parquet: damaged Parquet"):
        load_examples(DataSpec(str(tmp_path / "cut.parquet")))
    (tmp_path / "list.json").write_text('[{"prompt": "a", "response": "b"},\n {"prompt": }]')
    with pytest.raises(DataError, match=r"list\.json:2: not JSON"):
        load_examples(DataSpec(str(tmp_path / "list.json")))


@pytest.mark.parametrize(
    ("type_", "value"), [(pa.timestamp("us"), 2**62), (pa.duration("s"), 2**60)], ids=str
)
def test_a_value_that_nobody_reads_and_python_cannot_hold(
    tmp_path: Path, type_: pa.DataType, value: int
) -> None:
    odd = pa.array([value], pa.int64()).view(type_)
    file = tmp_path / "odd.parquet"
    pq.write_table(pa.table({"prompt": ["a"], "response": ["b"], "at": odd}), file)
    with pytest.raises(DataError, match=r"odd\.parquet: at: a value of .*; write the file again"):
        load_examples(DataSpec(str(file)))
