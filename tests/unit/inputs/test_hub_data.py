"""Data sets of a hub: `hub:OWNER/NAME[@REVISION][#[CONFIG/]SPLIT]`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.errors import InputError
from lima.inputs.hub_splits import HubData, chosen, configs_of, parsed_path
from tests.helpers.hub_server import TOKEN, FakeHub, fake_hub

CARD = """---
license: cc0-1.0
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
  - split: few
    path: ["data/few.jsonl"]
- config_name: other
  data_files: other.json
---
# Data
"""


def row(prompt: str) -> dict[str, str]:
    return {"prompt": prompt, "response": f"{prompt}!"}


def parquet(prompt: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([row(prompt)]), sink)
    return sink.getvalue().to_pybytes()


def load(path: str, folder: Path, endpoint: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Read examples in a process of its own: the library reads its environment once."""
    code = (
        "import sys; from lima.data.examples import load_examples; from lima.spec import DataSpec\n"
        "from lima.errors import LimaError\n"
        "try: print([e.conversation[0] for e in load_examples(DataSpec(sys.argv[1]))])\n"
        "except LimaError as error: sys.exit(f'{type(error).__name__}: {error}')"
    )
    own = {"HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "HF_HUB_OFFLINE": "0"}
    env = {**os.environ, **own, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", **more}
    return subprocess.run(
        [sys.executable, "-c", code, path], check=False, env=env, capture_output=True, text=True
    )


@pytest.fixture
def hub() -> Iterator[FakeHub]:
    with fake_hub() as server:
        server.files["team/data"] = {
            "README.md": CARD.encode(),
            "data/train-00000-of-00002.parquet": parquet("a"),
            "data/train-00001-of-00002.parquet": parquet("b"),
            "data/few.jsonl": json.dumps(row("c")).encode(),
            "other.json": json.dumps([row("d")]).encode(),
            "pictures.zip": b"",
        }
        yield server


def test_a_split_is_fetched_once_and_kept(hub: FakeHub, tmp_path: Path) -> None:
    found = load("hub:team/data", tmp_path, hub.url)
    assert (found.returncode, found.stdout) == (0, "['a', 'b']\n"), found.stderr
    parts = {f"data/train-0000{i}-of-00002.parquet" for i in range(2)}
    assert set(hub.read) == {"README.md", *parts}
    read = len(hub.read)
    away = load("hub:team/data", tmp_path, "http://127.0.0.1:1")
    offline = load("hub:team/data", tmp_path, hub.url, HF_HUB_OFFLINE="1")
    assert away.stdout == offline.stdout == found.stdout, away.stderr + offline.stderr
    assert len(hub.read) == read
    missing = load("hub:team/data#few", tmp_path, "http://127.0.0.1:1")
    assert "DataError: hub:team/data#few: no files of a split 'few'" in missing.stderr
    assert load("hub:team/data@main#few", tmp_path, hub.url).stdout == "['c']\n"
    assert load("hub:team/data#other/train", tmp_path, hub.url).stdout == "['d']\n"
    part = next(tmp_path.rglob("train-00001-of-00002.parquet"))
    part.unlink()
    cut = load("hub:team/data", tmp_path, "http://127.0.0.1:1")
    assert "DataError: hub:team/data: 1 of 2 files of data/train" in cut.stderr
    assert load("hub:team/data", tmp_path, hub.url).stdout == found.stdout


def test_what_cannot_be_had(hub: FakeHub, tmp_path: Path) -> None:
    for path in ("hub:team/none", "hub:team/data@gone"):
        assert f"DataError: {path}: the hub has no such" in load(path, tmp_path, hub.url).stderr
    away = load("hub:team/data", tmp_path, "http://127.0.0.1:1")
    assert "HubError: hub:team/data: the hub does not answer" in away.stderr
    split = load("hub:team/data#test", tmp_path, hub.url).stderr
    assert "no files of a split 'test'" in split
    assert "data/few.jsonl" in split


@pytest.mark.parametrize("path", ["hub:data", "hub:a/b/c", "hub:a/b@", "hub:a/b#x@y", "hub:"])
def test_a_path_of_another_form(path: str) -> None:
    with pytest.raises(InputError, match=r"write hub:OWNER/NAME, with @REVISION or #SPLIT"):
        parsed_path(path)


def test_splits_by_the_names_of_files() -> None:
    names = ["train.jsonl", "test.jsonl", "dev/rows.json", "extra.json", "a/valid-0.json"]

    def of(split: str, names: list[str] = names) -> list[str]:
        return chosen(names, [], HubData("a/b", split=split))

    assert of("train") == ["train.jsonl"]
    assert of("validation") == ["a/valid-0.json", "dev/rows.json"]
    assert of("test") == ["test.jsonl"]
    assert of("extra") == ["extra.json"]
    assert of("train", ["rows.json", "test.json"]) == ["rows.json"]
    assert chosen(names, [], HubData("a/b", split="validation", config="a")) == ["a/valid-0.json"]


def test_a_card_that_says_nothing() -> None:
    for card in ("", "# x", "---\n: [\n---\n", "---\n- 1\n---", "---\nconfigs: 3\n---\n"):
        assert configs_of(card) == []
