"""A run that goes on with another number of workers is the run that it was."""

import os
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lima.errors import Interrupted
from lima.spec import CellSpec, OptimizerSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from lima.training.aside import KINDS, Aside, slice_of
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.state import StateStore
from lima.training.statefiles import StateReader
from lima.training.step_rows import StepRecord
from lima.training.world import World
from tests.helpers.models import PARTITIONED, make_base, small_cell
from tests.helpers.training import train, weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
STOP = 3
LENGTHS = {"long": 103, "short": 2, "one": 1, "even": 60}


@pytest.mark.parametrize(("before", "after"), list(product((1, 2, 3, 5), (1, 2, 4, 5))))
def test_slices_of_any_workers_are_read_by_any(tmp_path: Path, before: int, after: int) -> None:
    storage, device = Storage(str(tmp_path)), torch.device("cpu")
    whole = {(name, kind): torch.rand(length) for name, length in LENGTHS.items() for kind in KINDS}

    def part(rank: int, workers: int) -> Aside:
        return Aside({name: slice_of(n, rank, workers) for name, n in LENGTHS.items()})

    files: dict[str, tuple[int, str]] = {}
    for rank in range(before):
        aside = part(rank, before)
        for (name, kind), tensor in aside.tensors.items():
            own = aside.slices[name]
            tensor.copy_(whole[name, kind][own.start : own.stop])
        store = StateStore(storage, "run", World(rank, before, device), keep=1)
        files |= store._write(aside, "state", lambda: None)
    read: dict[tuple[str, str], list[torch.Tensor]] = {key: [] for key in whole}
    for rank in range(after):
        aside = part(rank, after)
        assert StateReader(storage, "state", before, files).read(aside)
        for key, tensor in aside.tensors.items():
            read[key].append(tensor)
    assert all(torch.equal(torch.cat(read[key]), value) for key, value in whole.items())


def test_a_state_lies_in_an_object_store(s3_storage: str) -> None:
    states = StateStore(Storage(s3_storage), "run", World(0, 1, torch.device("cpu")), keep=1)
    slices = {"weight": slice_of(5_000_000, 0, 1)}  # a file of several parts
    saved, read, used = Aside(slices), Aside(slices), list[int]()
    for tensor in saved.tensors.values():
        tensor.uniform_()
    for step in (1, 2):
        assert states.save(saved, step) > 60_000_000
    assert states.restore(lambda: read, used.append) == 2
    assert used == [2]
    assert all(torch.equal(read.tensors[key], value) for key, value in saved.tensors.items())
    assert [state.step for state in states.states()] == [2]


def be_worker(rank: int, world: int, work: list[tuple[CellSpec, int]], folder: str) -> None:
    """Train runs in a folder, one after another, each until it ends or is stopped after a step."""
    from lima.training.engine import prepare_environment

    os.environ.update(LOCAL_RANK=str(rank), RANK=str(rank), WORLD_SIZE=str(world))
    torch.set_num_threads(1)
    prepare_environment("cpu")
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/group-of-{world}", rank=rank, world_size=world
    )
    group = World(rank, world, torch.device("cpu"))
    for cell, stop_after in work:
        asked: list[int] = []
        seen: list[StepRecord] = []

        def stop(asked: list[int] = asked, stop_after: int = stop_after) -> bool:
            asked.append(1)
            return len(asked) == stop_after

        hooks = Hooks(lambda record, _, seen=seen: seen.append(record), stop)  # type: ignore[misc]
        assert cell.train is not None
        trainer = Trainer(cell, cell.train, Storage(folder), group, hooks)
        try:
            trainer.train()
            assert not stop_after
        except Interrupted:
            assert stop_after
    dist.destroy_process_group()


def work_together(world: int, work: list[tuple[CellSpec, int]], folder: Path) -> None:
    """Train with several workers, each a process."""
    spawn = torch.multiprocessing.get_context("spawn").Process
    processes = [
        spawn(target=be_worker, args=(rank, world, work, str(folder))) for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * world


def with_workers(cell: CellSpec, named: int, on: int | None = None) -> CellSpec:
    assert cell.train is not None
    compute = replace(cell.train.compute, workers=named)
    return replace(cell, train=replace(cell.train, compute=compute, on_workers=on))


def rows(folder: Path, cell: CellSpec) -> list[dict[str, Any]]:
    return RunTable(Storage(str(folder)), STEPS, cell).read().to_pylist()


def test_a_run_goes_on_with_more_workers_and_with_fewer(tmp_path: Path) -> None:
    optimizer = OptimizerSpec(lr_start=1e-4, lr_end=1e-5)
    base = make_base(tmp_path / "base", **PARTITIONED)
    cell = small_cell(base, heldout=None, optimizer=optimizer, batch_size=5)
    alone, pair = with_workers(cell, 1), with_workers(cell, 2)
    undisturbed, moving = tmp_path / "undisturbed", tmp_path / "moving"
    train(alone, Storage(str(undisturbed)))
    with pytest.raises(Interrupted):
        train(alone, Storage(str(moving)), stop_after=STOP)
    more, fewer, most = (with_workers(cell, n, on=on) for n, on in ((1, 2), (2, 1), (2, 4)))
    assert (run_id(more), run_id(fewer), run_id(most)) == (run_id(alone), *[run_id(pair)] * 2)
    work_together(2, [(more, 0), (pair, STOP)], moving)
    shutil.copytree(moving, tmp_path / "wider")
    work_together(4, [(most, 0)], tmp_path / "wider")
    train(fewer, Storage(str(moving)))
    expected = rows(undisturbed, alone)
    assert len(expected) == 6
    for folder, run, workers in (
        (moving, more, [1] * STOP + [2] * 3),
        (moving, fewer, [2] * STOP + [1] * 3),
        (tmp_path / "wider", most, [2] * STOP + [4] * 3),
    ):
        found = rows(folder, run)
        assert [row["step"] for row in found] == list(range(1, 7))
        assert [row["workers"] for row in found] == workers
        for ours, theirs in zip(found, expected, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-6)
            assert ours["target_tokens"] == theirs["target_tokens"]
        ended = weights(Storage(str(undisturbed)), alone, 3)
        for name, value in weights(Storage(str(folder)), run, 3).items():
            torch.testing.assert_close(value, ended[name], rtol=1e-4, atol=1e-6)
