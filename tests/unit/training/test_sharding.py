"""Weights leave from two workers at once: the old export's bits, and nobody holds the model."""

import ctypes
import gc
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file

from lima.model.checkpoint_manifest import check_weights, weights_epochs, weights_path
from lima.spec import CellSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.sharding import INDEX, gather_shards
from lima.training.world import World
from tests.helpers.models import make_base, small_cell

pytestmark = pytest.mark.slow
WORKERS = 2
FILE_BYTES = 4 << 20
M_MMAP_THRESHOLD = -3
SHAPE: dict[str, Any] = {"hidden_size": 1024, "intermediate_size": 1024, "vocab_size": 4096}
"""150 MB with four layers, of weights that are all partitioned."""


def grown(status: str = "/proc/self/status") -> dict[str, int]:
    """Return the bytes of memory that this process holds, and has held at the most."""
    lines = dict(line.split(":", 1) for line in Path(status).read_text().splitlines())
    return {name: 1024 * int(lines[name].split()[0]) for name in ("VmRSS", "VmHWM")}


class Measured:
    """The most that was added to the memory of this process within a block."""

    def __enter__(self) -> "Measured":
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # else what is freed already would be used again
        Path("/proc/self/clear_refs").write_text("5")  # the most, from now on
        self.before = grown()["VmRSS"]
        return self

    def __exit__(self, *_: object) -> None:
        self.bytes = grown()["VmHWM"] - self.before


def be_worker(rank: int, cell: CellSpec, folder: str) -> None:
    """Export both ways without a step of training, and say what memory that took."""
    from lima.training.engine import prepare_environment

    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(WORKERS))
    torch.set_num_threads(1)
    # Weights of this size would share a heap with holes; larger ones have pages of their own.
    ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    prepare_environment("cpu")
    rendezvous = f"file://{folder}/group"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORKERS)
    world, hooks = World(rank, WORKERS, torch.device("cpu")), Hooks(lambda *_: None, lambda: False)
    assert cell.train is not None
    trainer = Trainer(cell, cell.train, Storage(f"{folder}/study"), world, hooks)
    trainer.saver.file_bytes = FILE_BYTES
    with Measured() as ours:
        shards = gather_shards(trainer.engine, world, FILE_BYTES)
    held = sum(t.nbytes for file in shards.files.values() for t in file.values())
    del shards
    trainer.saver.save(0, [1], due=False, must=False, busy=False)
    trainer.saver.finish()
    with Measured() as formerly:
        whole = trainer.engine._zero3_consolidated_16bit_state_dict()
    if rank == 0:
        trainer.trained.model.save_pretrained(f"{folder}/formerly", state_dict=whole)
    told = {"ours": ours.bytes, "formerly": formerly.bytes, "held": held}
    Path(f"{folder}/{rank}.json").write_text(json.dumps(told))
    trainer.saver.close()
    dist.destroy_process_group()


def test_both_workers_export_and_none_holds_the_model(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    base = make_base(tmp_path / "base", layers=4, **SHAPE)
    cell = small_cell(base, heldout=None)
    spawn = torch.multiprocessing.get_context("spawn").Process
    processes = [spawn(target=be_worker, args=(r, cell, str(tmp_path))) for r in range(WORKERS)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    storage = Storage(str(tmp_path / "study"))
    assert weights_epochs(storage, run_id(cell)) == [1]
    check_weights(storage, run_id(cell), 1)
    folder = storage.local_path(weights_path(run_id(cell), 1))
    assert folder is not None
    expected = load_file(tmp_path / "formerly" / "model.safetensors")
    places = json.loads((folder / INDEX).read_text())
    size = sum(t.nbytes for t in expected.values())
    assert places["metadata"]["total_size"] == size
    files = sorted(folder.glob("*.safetensors"))
    assert {f.name for f in files} == set(places["weight_map"].values())
    assert len(files) > 10
    for file in files:
        for name, value in load_file(file).items():
            assert places["weight_map"].pop(name) == file.name
            assert value.dtype == expected[name].dtype
            assert torch.equal(value, expected.pop(name)), name
    assert not expected
    assert not places["weight_map"]
    ours = AutoModelForCausalLM.from_pretrained(folder)
    formerly = AutoModelForCausalLM.from_pretrained(tmp_path / "formerly")
    ids = torch.arange(5, 45)[None]
    assert torch.equal(ours(input_ids=ids).logits, formerly(input_ids=ids).logits)
    told = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(WORKERS)]
    assert told[0]["formerly"] > 0.9 * size, "what is measured shows it"
    for worker in told:
        assert worker["held"] < 0.6 * size
        assert worker["ours"] < 0.75 * size
    assert sum(worker["held"] for worker in told) == size
