"""Workers that wait for each other's storage wait in no collective, which has a time limit."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from lima.errors import ModelError, StorageError
from lima.store.storage import Storage
from lima.training.aside import KINDS, Aside, slice_of
from lima.training.state import StateStore
from lima.training.world import World, _store

pytestmark = pytest.mark.slow
WORKERS = 2
SLOW_S = 1.0
"""Enough for the other worker to come to where it waits."""
COLLECTIVES = ("all_reduce", "all_gather_object", "barrier", "broadcast_object_list")


def crawl() -> None:
    """Be slow, while the other worker must not be in a collective."""
    time.sleep(SLOW_S)
    assert _store().get("inside/1") == b"no"


def watch_collectives(rank: int) -> None:
    """Let others see whether this worker is in a collective."""

    def watched(collective: Any) -> Any:
        def call(*arguments: Any, **settings: Any) -> Any:
            _store().set(f"inside/{rank}", b"yes")
            result = collective(*arguments, **settings)
            _store().set(f"inside/{rank}", b"no")
            return result

        return call

    _store().set(f"inside/{rank}", b"no")
    for name in COLLECTIVES:
        setattr(dist, name, watched(getattr(dist, name)))


class SlowStorage(Storage):
    """Slow with the files of worker 0."""

    def write_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        self._crawl(path)
        super().write_pieces(path, pieces)

    def read(self, path: str) -> bytes:
        self._crawl(path)
        return super().read(path)

    def _crawl(self, path: str) -> None:
        if "rank-00000" in path:
            crawl()


def slow_work(world: World, folder: Path) -> None:
    """Have one worker be slow, in both ways of waiting."""

    def work() -> str:
        if world.leads:
            crawl()
        return f"worker {world.rank}"

    assert world.each(work) == f"worker {world.rank}"
    assert world.led(lambda: [work(), 1]) == ["worker 0", 1]
    assert world.any(world.rank == 1, False) == (True, False)


def slow_storage(world: World, folder: Path) -> None:
    states = StateStore(SlowStorage(str(folder / "study")), "run", world, keep=1)
    aside, used = Aside({"w": slice_of(5, world.rank, WORKERS)}), list[int]()
    for kind in KINDS:
        aside.tensors["w", kind].fill_(world.rank + 1)
    states.save(aside, 1)
    world.each(lambda: None)  # worker 0 has written the manifest
    empty = Aside(aside.slices)
    assert states.restore(lambda: empty, used.append) == 1
    assert used == [1]
    assert all((tensor == world.rank + 1).all() for tensor in empty.tensors.values())
    assert world.sum(1.0) == [WORKERS]


def errors(world: World, folder: Path) -> None:
    """Have one worker fail: the error is everyone's, by its kind."""

    def fails() -> None:
        raise ModelError("cannot be saved")

    def fails_on_one() -> None:
        if world.rank == 1:
            raise StorageError("disk full")

    for _ in range(2):
        with pytest.raises(ModelError, match="cannot be saved"):
            world.led(fails)
        with pytest.raises(StorageError, match="disk full"):
            world.each(fails_on_one)
    assert world.each(lambda: 5) == 5


SCENES = (slow_work, slow_storage, errors)


def _work(rank: int, folder: str) -> None:
    rendezvous = f"file://{folder}/rendezvous"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=WORKERS)
    watch_collectives(rank)
    world = World(rank, WORKERS, torch.device("cpu"))
    for scene in SCENES:
        scene(world, Path(folder))
    dist.destroy_process_group()


def test_workers_wait_for_storage(tmp_path: Path) -> None:
    spawn(_work, args=(str(tmp_path),), nprocs=WORKERS)  # type: ignore[no-untyped-call]
