"""Workers that wait for each other's storage wait in no collective, which has a time limit."""

import time
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from lima.errors import ModelError, StorageError
from lima.store.storage import Storage
from lima.training.state import StateStore
from lima.training.world import World, _store

pytestmark = pytest.mark.slow
WORKERS = 2
SLOW_S = 1.0
"""Enough for the other worker to come to where it waits."""
COLLECTIVES = ("all_reduce", "all_gather_object", "barrier", "broadcast_object_list")


class Engine:
    """Saves and loads a file a worker, as DeepSpeed does."""

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.loaded: int | None = None

    def save_checkpoint(self, folder: str, tag: str) -> None:
        torch.save({"rank": self.rank}, self._file(folder, tag))

    def load_checkpoint(self, folder: str, tag: str, load_module_strict: bool) -> None:
        self.loaded = torch.load(self._file(folder, tag), weights_only=True)["rank"]

    def _file(self, folder: str, tag: str) -> Path:
        return Path(folder) / tag / f"zero_pp_rank_{self.rank}_mp_rank_00_optim_states.pt"


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

    def upload(self, source: Path, path: str) -> None:
        self._crawl(path)
        super().upload(source, path)

    def download(self, path: str, target: Path) -> None:
        self._crawl(path)
        super().download(path, target)

    def _crawl(self, path: str) -> None:
        if "rank_0_" in path:
            crawl()


def slow_work(world: World, folder: Path) -> None:
    """Have one worker be slow, in both ways of waiting."""

    def work() -> str:
        if world.leads:
            crawl()
        return f"worker {world.rank}"

    assert world.each(work) == f"worker {world.rank}"
    assert world.led(lambda: [work(), 1]) == ["worker 0", 1]
    assert world.any(world.rank == 1)


def slow_storage(world: World, folder: Path) -> None:
    states = StateStore(SlowStorage(str(folder / "study")), "run", world, keep=1)
    engine = Engine(world.rank)
    states.save(engine, 1)
    assert states.restore(engine) == 1
    assert engine.loaded == world.rank
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


def stop_of_one(world: World, folder: Path) -> None:
    """Have a worker that waits be asked to stop: the one that works hears of it."""

    def until_told() -> bool:
        while not world.flag_is_raised():
            time.sleep(0.01)
        return True

    assert world.led(until_told, meanwhile=world.raise_flag)


SCENES = (slow_work, slow_storage, errors, stop_of_one)


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
