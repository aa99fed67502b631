"""Curves for TensorBoard: the numbers of the tables, in files that need no appending."""

import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import lima.runs.board
from lima.errors import Interrupted
from lima.recipes.demo import tiny
from lima.runs.board import Board
from lima.spec import stage_cell
from lima.spec.codec import run_id
from lima.store.storage import Storage
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import step_rows, train

GENERATE = stage_cell(replace(tiny()[0], experiment=".odd/name"), "generate")


def curves(storage: Storage) -> dict[tuple[str, int], float]:
    """Return all values by tag and step, as TensorBoard's format has them."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[tuple[str, int], float] = {}
    for entry in sorted(storage.entries("tensorboard"), key=lambda e: e.path):
        data = storage.read(entry.path)
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            event = Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]
            for value in event.summary.value:
                key = (value.tag, event.step)
                assert key not in found, "no step is told twice"
                found[key] = value.simple_value
    return found


def test_a_file_holds_what_was_noted_since_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(str(tmp_path))
    board = Board(storage, GENERATE)
    board.add(16, {"tokens_per_second": 50.0, "missing": None})
    assert not storage.entries("tensorboard")
    monkeypatch.setattr(lima.runs.board, "EVERY_S", 0.0)
    board.flush()
    board.add(20, {"tokens_per_second": 60.0})
    board.close()
    assert curves(storage) == {
        ("generate/tokens_per_second", 16): 50.0,
        ("generate/tokens_per_second", 20): 60.0,
    }
    names = [entry.path for entry in storage.entries("tensorboard")]
    folder = f"tensorboard/%2Eodd%2Fname/diverse-32/0/generate-{run_id(GENERATE)[:8]}"
    assert sorted(names) == [
        f"{folder}/events.out.tfevents.{step:010d}-{step:010d}.{n}"
        for n, step in enumerate((16, 20), 1)
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_curves_are_those_of_the_table_after_an_interruption(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lima.runs.board, "EVERY_S", 0.0)
    cell, storage = small_cell(make_base(tmp_path / "base")), Storage(str(tmp_path / "study"))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=4)
    # As after a kill: steps were told that no state has.
    lost = Board(storage, cell)
    lost.add(5, {"loss": 99.0})
    lost.add(6, {"loss": 99.0})
    lost.close()
    train(cell, storage)
    rows: list[dict[str, Any]] = step_rows(storage, cell)
    found = curves(storage)
    assert {s for tag, s in found if tag == "train/loss"} == {row["step"] for row in rows}
    for row in rows:
        assert found["train/loss", row["step"]] == pytest.approx(row["loss"])
        assert found["train/learning_rate", row["step"]] == pytest.approx(row["learning_rate"])
    assert [s for tag, s in sorted(found) if tag == "train/heldout_perplexity"] == [3, 5, 8]
