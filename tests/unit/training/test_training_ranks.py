"""Two workers of unequal load against one that pads: the same batches, the same weights."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from lima.model.checkpoint_manifest import weights_path
from lima.spec import CellSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.world import World
from tests.helpers.models import make_base, small_cell

pytestmark = pytest.mark.slow


def be_worker(rank: int, world: int, cell: CellSpec, folder: str) -> None:
    """Train as one worker of `world`, in a process of its own."""
    from lima.training.engine import prepare_environment

    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    prepare_environment("cpu")
    rendezvous = f"file://{folder}-group"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=world)
    assert cell.train is not None
    hooks = Hooks(on_step=lambda record, total: None, should_stop=lambda: False)
    Trainer(
        cell, cell.train, Storage(folder), World(rank, world, torch.device("cpu")), hooks
    ).train()
    dist.destroy_process_group()


def test_unequal_loads_do_not_hang_and_change_nothing(tmp_path: Path) -> None:
    cell = small_cell(make_base(tmp_path / "base"), batch_size=5, max_length=64)
    assert cell.train is not None
    # Four bins of a batch at most, some of them empty: a worker reads less than the other.
    compute = replace(cell.train.compute, micro_batch_size=1)
    packed = replace(cell, train=replace(cell.train, compute=replace(compute, workers=2)))
    padded = replace(cell, train=replace(cell.train, compute=replace(compute, batching="padded")))
    spawn = torch.multiprocessing.get_context("spawn").Process
    processes = [
        spawn(target=be_worker, args=(rank, world, work, str(tmp_path / name)))
        for work, world, name in ((packed, 2, "packed"), (padded, 1, "padded"))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    rows = {}
    weights = {}
    for work, name in ((packed, "packed"), (padded, "padded")):
        storage = Storage(str(tmp_path / name))
        rows[name] = RunTable(storage, STEPS, work).read().to_pylist()
        path = storage.local_path(f"{weights_path(run_id(work), 3)}/model.safetensors")
        assert path is not None
        weights[name] = load_file(path)
    for ours, theirs in zip(rows["packed"], rows["padded"], strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["target_tokens"] == theirs["target_tokens"]
    for key, value in weights["padded"].items():
        torch.testing.assert_close(weights["packed"][key], value, rtol=1e-3, atol=1e-4)
