"""Saving beside training: nothing waits for it, and nothing of it is lost or half there."""

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch

from lima.errors import Interrupted, StorageError
from lima.model.checkpoint_manifest import weights_epochs
from lima.spec import CheckpointSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from lima.training.hooks import Hooks, Saved
from lima.training.loop import Trainer
from lima.training.step_rows import StepRecord
from lima.training.world import World
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import step_rows, train, weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
PATIENCE_S = 300.0
"""Only should training wait for what waits for it."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


class Gate(Storage):
    """Writes files whose path holds `held` only when it is opened."""

    def __init__(self, uri: str, held: str) -> None:
        super().__init__(uri)
        self.held, self.gate = held, threading.Event()
        self.asked = False

    def write_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        if self.held in path:
            self.asked = True
            assert self.gate.wait(PATIENCE_S), "training waits for a state to be written"
        super().write_pieces(path, pieces)


def test_training_goes_on_while_states_and_weights_are_written(base: Path, tmp_path: Path) -> None:
    cell, undisturbed = small_cell(base), Storage(str(tmp_path / "undisturbed"))
    train(cell, undisturbed)
    storage = Gate(str(tmp_path / "study"), "state/step=00000003/")
    steps: list[int] = []
    saved: list[Saved] = []
    idle: list[float] = []

    def on_step(record: StepRecord, total: int) -> None:
        steps.append(record.step)
        if record.step == 7:  # after the weights of epoch 2 were gathered, at step 5
            assert storage.asked
            assert not saved
            storage.gate.set()

    assert cell.train is not None
    hooks = Hooks(on_step, lambda: False, saved.append, idle.append)
    Trainer(cell, cell.train, storage, World(0, 1, torch.device("cpu")), hooks).train()
    assert steps == list(range(1, 9))
    found = [(s.kind, s.step) for s in saved]
    # What was due at step 5 was put off, for nothing is to wait; the last state is never left out.
    assert found[:2] == [("state", 3), ("weights", 5)]
    assert found[-2:] == [("state", 8), ("weights", 8)]
    assert saved[0].seconds > saved[0].stall_seconds > 0
    assert all(s.bytes > 0 for s in saved)
    rows = RunTable(storage, STEPS, cell).read().to_pylist()
    stalls = {row["step"]: row["stall_seconds"] for row in rows if row["stall_seconds"]}
    assert stalls.keys() >= {3, 5}
    assert stalls[3] == saved[0].stall_seconds
    assert sum(idle) >= sum(stalls.values())
    assert step_rows(storage, cell) == step_rows(undisturbed, cell)
    for epoch in (2, 3):
        expected = weights(undisturbed, cell, epoch)
        assert all(torch.equal(v, expected[k]) for k, v in weights(storage, cell, epoch).items())


def test_states_that_are_to_be_kept_are_those_of_their_steps(base: Path, tmp_path: Path) -> None:
    checkpoints = CheckpointSpec(first_epoch=2, last_epoch=2, state_every_steps=1, keep_states=9)
    cell, storage = small_cell(base, checkpoints=checkpoints), Storage(str(tmp_path))
    trainer = train(cell, storage)
    assert [state.step for state in trainer.saver.states.states()] == list(range(1, 9))


class Broken(Storage):
    """Refuses files whose path holds `refused`."""

    refused = "nothing"

    def write_pieces(self, path: str, pieces: Iterable[bytes | memoryview]) -> None:
        if self.refused in path:
            raise StorageError(f"cannot write {path}: the disk is full")
        super().write_pieces(path, pieces)


@pytest.mark.parametrize("refused", ["state/step=00000003/", "weights/epoch=02/"])
def test_what_cannot_be_saved_ends_the_run_with_its_reason(
    base: Path, tmp_path: Path, refused: str
) -> None:
    cell, storage = small_cell(base), Broken(str(tmp_path / "study"))
    storage.refused = refused
    with pytest.raises(StorageError, match=f"cannot write .*{refused}.*the disk is full"):
        train(cell, storage)
    assert weights_epochs(storage, run_id(cell)) == []
    storage.refused = "nothing"
    undisturbed = Storage(str(tmp_path / "undisturbed"))
    train(cell, storage)
    train(cell, undisturbed)
    assert step_rows(storage, cell) == step_rows(undisturbed, cell)
    expected = weights(undisturbed, cell, 2)
    assert all(torch.equal(v, expected[k]) for k, v in weights(storage, cell, 2).items())


def test_a_stop_finishes_what_is_on_its_way(base: Path, tmp_path: Path) -> None:
    cell = small_cell(base)
    storage = Gate(str(tmp_path), "weights/epoch=02/")

    def stop(seen: list[StepRecord]) -> bool:
        return bool(seen) and seen[-1].step == 6

    seen: list[StepRecord] = []

    def on_step(record: StepRecord, total: int) -> None:
        seen.append(record)
        if record.step == 6:
            threading.Timer(0.2, storage.gate.set).start()

    assert cell.train is not None
    hooks = Hooks(on_step, lambda: stop(seen))
    trainer = Trainer(cell, cell.train, storage, World(0, 1, torch.device("cpu")), hooks)
    with pytest.raises(Interrupted, match="after step 6; the state is saved"):
        trainer.train()
    assert weights_epochs(storage, run_id(cell)) == [2]
    assert trainer.saver.states.states()[-1].step == 6


def test_a_copy_lies_on_the_disk_where_memory_is_short(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cell = small_cell(base)
    monkeypatch.setattr("lima.training.aside._free_memory", lambda: 1000)
    storage = Storage(str(tmp_path))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=4)
    assert "the host has no memory for a copy of the state" in caplog.text
    train(cell, storage)
    monkeypatch.undo()
    other = Storage(str(tmp_path / "memory"))
    train(cell, other)
    assert step_rows(storage, cell) == step_rows(other, cell)
