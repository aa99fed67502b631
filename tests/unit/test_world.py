"""Workers that wait for each other's storage: no collective, so no time limit."""

import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from lima.errors import ModelError, StorageError
from lima.storage import Storage
from lima.training.state import StateStore
from lima.training.world import World

pytestmark = pytest.mark.slow
LIMIT_S, LONGER_S = 1, 3
WORKERS = 2


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


class SlowStorage(Storage):
    """Takes longer for a file of worker 0 than a collective may."""

    def upload(self, source: Path, path: str) -> None:
        self._crawl(path)
        super().upload(source, path)

    def download(self, path: str, target: Path) -> None:
        self._crawl(path)
        super().download(path, target)

    def _crawl(self, path: str) -> None:
        if "rank_0_" in path:
            time.sleep(LONGER_S)


def beyond_the_limit(world: World, folder: Path) -> None:
    """Have one worker take longer than a collective may, in every way of waiting."""

    def crawl() -> str:
        if world.leads:
            time.sleep(LONGER_S)
        return f"worker {world.rank}"

    assert world.each(crawl) == f"worker {world.rank}"
    assert world.led(lambda: [crawl(), 1]) == ["worker 0", 1]
    assert world.any(world.rank == 1), "the group is still whole"


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


def _work(rank: int, folder: str, scene: Callable[[World, Path], None]) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=WORKERS,
        timeout=timedelta(seconds=LIMIT_S),
    )  # fmt: skip
    scene(World(rank, WORKERS, torch.device("cpu")), Path(folder))
    dist.destroy_process_group()


@pytest.mark.parametrize("scene", [beyond_the_limit, slow_storage, errors, stop_of_one])
def test_workers_wait_for_storage(tmp_path: Path, scene: Any) -> None:
    spawn(_work, args=(str(tmp_path), scene), nprocs=WORKERS)  # type: ignore[no-untyped-call]


def test_one_worker_asks_nobody() -> None:
    world = World(0, 1, torch.device("cpu"))
    assert world.each(lambda: 1) == world.led(lambda: 1) == 1
