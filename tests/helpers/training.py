"""Training in this process, as a world of one worker; needs the fixture `process_group`."""

from collections.abc import Callable
from typing import Any

import torch

from lima.model.checkpoint_manifest import weights_path
from lima.spec import CellSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.step_rows import StepRecord
from lima.training.world import World

VOLATILE = ("seconds", "stall_seconds", "at")


def make_trainer(
    cell: CellSpec, storage: Storage, stop: Callable[[list[StepRecord]], bool]
) -> Trainer:
    """Load what `cell` trains; `stop` is given the steps so far when a stop is asked about."""
    seen: list[StepRecord] = []
    hooks = Hooks(lambda record, total: seen.append(record), lambda: stop(seen))
    assert cell.train is not None
    return Trainer(cell, cell.train, storage, World(0, 1, torch.device("cpu")), hooks)


def train(cell: CellSpec, storage: Storage, stop_after: int | None = None) -> Trainer:
    """Train `cell`; with `stop_after`, ask for a stop after that step."""
    trainer = make_trainer(cell, storage, lambda seen: bool(seen) and seen[-1].step == stop_after)
    trainer.train()
    return trainer


def weights(storage: Storage, cell: CellSpec, epoch: int) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    path = storage.local_path(f"{weights_path(run_id(cell), epoch)}/model.safetensors")
    assert path is not None
    return load_file(path)


def step_rows(storage: Storage, cell: CellSpec) -> list[dict[str, Any]]:
    rows = RunTable(storage, STEPS, cell).read().to_pylist()
    return [{k: v for k, v in row.items() if k not in VOLATILE} for row in rows]
