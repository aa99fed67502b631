"""Workers whose machines hold different files under one path: all refuse, and none waits."""

import json
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from lima.errors import ChangedInputError
from lima.spec import CellSpec, DataSpec, ModelSpec, TrainSpec
from lima.store.storage import Storage
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.world import World
from tests.helpers.promised import promised

pytestmark = pytest.mark.slow


def _write(path: Path, word: str) -> None:
    path.write_text(json.dumps({"conversations": [f"{word}?", f"{word}."], "source": "x"}))


def _work(rank: int, size: int, folder: str, cell: CellSpec, said: "mp.SimpleQueue[str]") -> None:
    import os

    os.chdir(Path(folder) / str(rank))
    store = f"file://{folder}/store-{size}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    world = World(rank, size, torch.device("cpu"))
    try:
        assert cell.train
        hooks = Hooks(on_step=lambda record, total: None, should_stop=lambda: False)
        Trainer(cell, cell.train, Storage(folder), world, hooks)
        said.put("agreed")
    except ChangedInputError as error:
        said.put(str(error))
    finally:
        dist.destroy_process_group()


def test_what_one_worker_finds_changed_all_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rank, word in enumerate(("first", "other")):
        (tmp_path / str(rank)).mkdir()
        _write(tmp_path / str(rank) / "d.jsonl", word)
    monkeypatch.chdir(tmp_path / "0")
    train = TrainSpec(ModelSpec("run:0123456789abcdef"), DataSpec("d.jsonl"))
    (cell,) = promised([CellSpec("e", "a", train=train)])
    said = mp.get_context("spawn").SimpleQueue()
    mp.spawn(_work, (2, str(tmp_path), cell, said), nprocs=2)  # type: ignore[attr-defined,no-untyped-call]
    told = {said.get(), said.get()}
    assert len(told) == 1
    assert "d.jsonl: has changed since this run was submitted" in told.pop()
