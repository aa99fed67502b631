"""Data sets of a hub: `hub:OWNER/NAME[@REVISION][#[CONFIG/]SPLIT]`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.errors import DataError, InputError
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
    assert "HubError: hub:team/data#few: the hub does not answer" in missing.stderr
    assert load("hub:team/data@main#few", tmp_path, hub.url).stdout == "['c']\n"
    assert load("hub:team/data#other/train", tmp_path, hub.url).stdout == "['d']\n"
    assert load("hub:team/data#few", tmp_path, "http://127.0.0.1:1").stdout == "['c']\n"
    part = next(tmp_path.rglob("train-00001-of-00002.parquet"))
    part.unlink()  # as if the fetching had been killed before it
    cut = load("hub:team/data", tmp_path, "http://127.0.0.1:1")
    assert "HubError: hub:team/data: the hub does not answer" in cut.stderr
    assert load("hub:team/data", tmp_path, hub.url).stdout == found.stdout


def test_another_commit_is_read_whole(hub: FakeHub, tmp_path: Path) -> None:
    before = hub.commit
    assert load("hub:team/data", tmp_path, hub.url).stdout == "['a', 'b']\n"
    hub.files["team/data"]["data/train-00001-of-00002.parquet"] = parquet("new")
    assert hub.commit != before
    assert load("hub:team/data", tmp_path, hub.url).stdout == "['a', 'new']\n"


def test_what_cannot_be_had(hub: FakeHub, tmp_path: Path) -> None:
    for path in ("hub:team/none", "hub:team/data@gone"):
        assert f"DataError: {path}: the hub has no such" in load(path, tmp_path, hub.url).stderr
    away = load("hub:team/data", tmp_path, "http://127.0.0.1:1")
    assert "HubError: hub:team/data: the hub does not answer" in away.stderr
    split = load("hub:team/data#test", tmp_path, hub.url).stderr
    assert split == "DataError: hub:team/data#test: no split 'test'; it has few, train\n"
    hub.files["team/data"] = {"rows.csv": b"", "extra.json": b"[]"}
    split = load("hub:team/data#test", tmp_path, hub.url).stderr
    assert "no files of a split 'test' among those that are read" in split
    assert "of such files it has extra.json" in split


@pytest.mark.parametrize("path", ["hub:data", "hub:a/b/c", "hub:a/b@", "hub:a/b#x@y", "hub:"])
def test_a_path_of_another_form(path: str) -> None:
    with pytest.raises(InputError, match=r"write hub:OWNER/NAME, with @REVISION or #SPLIT"):
        parsed_path(path)


def of(
    split: str, names: Sequence[str], configs: Sequence[Any] = (), config: str | None = None
) -> list[str]:
    return chosen(names, configs, HubData("a/b", split=split, config=config), "hub:a/b")


def test_splits_by_the_names_of_files() -> None:
    names = ["train.jsonl", "test.jsonl", "dev/rows.json", "extra.json", "a/valid-0.json"]
    assert of("train", names) == ["train.jsonl"]
    assert of("validation", names) == ["a/valid-0.json", "dev/rows.json"]
    assert of("test", names) == ["test.jsonl"]
    assert of("extra", names) == ["extra.json"]
    assert of("train", ["rows.json", "test.json"]) == ["rows.json"]
    assert of("validation", names, config="a") == ["a/valid-0.json"]


def test_the_card_alone_says_which_splits_there_are() -> None:
    """As of HuggingFaceH4/ultrachat_200k, whose names hold the word of a split that is none."""
    splits = ("train_sft", "train_gen", "test_sft")
    names = [f"data/{split}-00000-of-00001.parquet" for split in splits]
    files = [{"split": split, "path": f"data/{split}-*"} for split in splits]
    configs = [{"config_name": "default", "data_files": files}]
    assert of("train_sft", names, configs) == names[:1]
    with pytest.raises(DataError, match="no split 'train'; it has test_sft, train_gen, train_sft"):
        of("train", names, configs)


def test_several_configs() -> None:
    names = ["en/train.jsonl", "fr/train.jsonl", "en/old/train.jsonl"]
    configs = [{"config_name": name, "data_dir": name} for name in ("en", "fr")]
    assert of("train", names, configs, "fr") == ["fr/train.jsonl"]
    with pytest.raises(DataError, match="several configs, en, fr; say which: hub:a/b#CONFIG/train"):
        of("train", names, configs)
    with pytest.raises(DataError, match="no config 'de'; it has en, fr"):
        of("train", names, configs, "de")
    marked = [configs[0], {**configs[1], "default": True}]
    assert of("train", names, marked) == ["fr/train.jsonl"]


@pytest.mark.parametrize(
    ("pattern", "files"),
    [
        ("*.jsonl", ["a.jsonl"]),
        ("**/a.jsonl", ["a.jsonl", "old/a.jsonl"]),
        ("./old/*", ["old/a.jsonl"]),
        (["a.jsonl", "old/*.jsonl"], ["a.jsonl", "old/a.jsonl"]),
    ],
)
def test_patterns_are_those_of_the_hub(pattern: Any, files: list[str]) -> None:
    configs = [{"config_name": "default", "data_files": pattern}]
    assert of("train", ["a.jsonl", "old/a.jsonl"], configs) == files


def test_a_card_that_says_nothing() -> None:
    for card in ("", "# x", "---\n: [\n---\n", "---\n- 1\n---", "---\nconfigs: 3\n---\n"):
        assert configs_of(card) == []
