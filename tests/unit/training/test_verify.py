"""`verify`: yes to a run that was killed again and again, no to one whose rows were changed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import torch

from lima.runs.ledger import record_run
from lima.spec import CellSpec, CheckpointSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from lima.training.certificate import ranges
from lima.training.chain import read_traces, traces_path
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.step_rows import StepRecord
from lima.training.world import World
from lima_k8s.main import run
from tests.helpers.models import make_base, small_cell

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
KILLS = (2, 4, 5, 5, 8)
"""Steps after which the run dies; its state is saved after every third."""


class KilledError(Exception):
    """Ends an attempt at once, as far as one process can show it."""


def attempt(cell: CellSpec, storage: Storage, kill_after: int) -> None:
    def on_step(record: StepRecord, total: int) -> None:
        if record.step == kill_after:
            raise KilledError

    assert cell.train is not None
    hooks = Hooks(on_step, lambda: False)
    Trainer(cell, cell.train, storage, World(0, 1, torch.device("cpu")), hooks).train()


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[CellSpec, Path]:
    """Return a run that was killed five times, and its storage."""
    base, study = (tmp_path_factory.mktemp(name) for name in ("base", "study"))
    checkpoints = CheckpointSpec(first_epoch=3, last_epoch=3, state_every_steps=3, keep_states=1)
    cell = small_cell(make_base(base), heldout=None, checkpoints=checkpoints)
    storage = Storage(str(study))
    record_run(storage, cell, "train")
    for step in KILLS:
        with pytest.raises(KilledError):
            attempt(cell, storage, step)
    attempt(cell, storage, 0)
    return cell, study


def verified(capsys: pytest.CaptureFixture[str], cell: CellSpec, study: Path) -> tuple[int, Any]:
    code = run(["verify", run_id(cell)[:8], "--storage", str(study), "--format", "json"])
    return code, json.loads(capsys.readouterr().out)


def changed(study: Path, target: Path, step: int, column: str, value: object) -> Path:
    """Return a copy of a storage in which one value of the table of steps is another."""
    shutil.copytree(study, target)
    for file in target.glob("steps/**/*.parquet"):
        table = pq.read_table(file)
        rows = table.to_pylist()
        if step in [row["step"] for row in rows]:
            for row in rows:
                row[column] = value if row["step"] == step else row[column]
            pq.write_table(table.from_pylist(rows, schema=table.schema), file)
    return target


def test_a_run_that_was_killed_five_times_is_certified(
    killed: tuple[CellSpec, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    cell, study = killed
    code, found = verified(capsys, cell, study)
    assert (code, found["problems"], found["certified"]) == (0, [], True)
    assert found["complete"]
    assert (found["steps"], found["total"], found["starts"]) == (8, 8, 6)
    assert found["workers"] == [{"from_step": 1, "workers": 1}]
    repeated = {r["step"]: (r["attempts"], r["agree"]) for r in found["repeated"]}
    counts = {1: 2, 2: 2, 4: 4, 5: 3, 7: 2, 8: 2}
    assert repeated == {step: (count, "to the bit") for step, count in counts.items()}
    last = RunTable(Storage(str(study)), STEPS, cell).read().to_pylist()[-1]
    assert found["end"] == last["chain"]
    for name in (f"{cell.arm}/{cell.seed}", run_id(cell)):
        assert run(["verify", name, "--storage", str(study)]) == 0
    text = capsys.readouterr().out
    assert "8 of 8 steps, 6 starts, workers: 1 from step 1" in text
    assert "computed more than once: 1-2, 4-5, 7-8; they agree to the bit" in text
    assert text.splitlines()[-1].startswith("yes: what an undisturbed run would have found")


@pytest.mark.parametrize(
    "change",
    [
        ("loss", 1.5, "step 5: an attempt had found something else"),
        ("learning_rate", 1e-3, "step 5: learning_rate is not what the spec says"),
        ("draws", 17, "step 5: draws is not what the spec says"),
        ("tokens", 1, "step 5: its row, or one before it, was changed"),
        ("step", 9, "steps 5 have no row"),
    ],
)
def test_a_row_that_was_changed_by_hand_is_found(
    killed: tuple[CellSpec, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: tuple[str, object, str],
) -> None:
    (cell, study), (column, value, said) = killed, change
    code, found = verified(capsys, cell, changed(study, tmp_path / "study", 5, column, value))
    assert (code, found["certified"]) == (1, False)
    assert any(said in problem for problem in found["problems"])
    assert any("was changed after it was written" in problem for problem in found["problems"])


def test_a_run_that_is_not_over_is_certified_so_far(
    killed: tuple[CellSpec, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, study = killed
    target = tmp_path / "study"
    shutil.copytree(study, target)
    for file in target.glob("steps/*/*/*.parquet"):
        table = pq.read_table(file)
        kept = table.filter(pc.field("step") <= 6)
        pq.write_table(kept, file) if kept.num_rows else file.unlink()
    code, found = verified(capsys, cell, target)
    assert (code, found["certified"], found["complete"], found["steps"]) == (0, True, False, 6)
    assert run(["verify", run_id(cell), "--storage", str(target)]) == 0
    assert "\nyes, up to step 6: what" in capsys.readouterr().out


def test_steps_that_differ_are_named(
    killed: tuple[CellSpec, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on hardware that does not add in the same order each time."""
    cell, study = killed
    copy = shutil.copytree(study, tmp_path / "study")
    first = sorted(copy.glob("checkpoints/*/traces/*.json"))[0]
    trace = json.loads(first.read_text())
    trace["steps"][1]["loss"] *= 1 + 1e-9
    first.write_text(json.dumps(trace))
    code, found = verified(capsys, cell, copy)
    assert (code, len(found["problems"])) == (1, 1)
    assert "step 2: an attempt had found something else" in found["problems"][0]
    trace["steps"][1]["workers"] = 2
    first.write_text(json.dumps(trace))
    code, found = verified(capsys, cell, copy)
    assert code == 0
    assert {"step": 2, "attempts": 2, "agree": "to rounding"} in found["repeated"]


def test_a_trace_that_is_none_has_no_steps(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write(f"{traces_path('run')}/planted.json", b"[" * 100_000)
    assert read_traces(storage, "run") == {"planted": []}


def test_what_cannot_be_verified_is_bad_input(
    killed: tuple[CellSpec, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, study = killed
    assert run(["verify", "ffff", "--storage", str(study)]) == 2
    assert run(["verify", "nobody/0", "--storage", str(study)]) == 2
    assert "there is no run 'ffff'" in capsys.readouterr().err
    storage = Storage(str(tmp_path))
    record_run(storage, cell, "train")
    assert run(["verify", run_id(cell), "--storage", str(tmp_path)]) == 2
    assert "has no steps of training yet" in capsys.readouterr().err


def test_numbers_are_told_as_ranges() -> None:
    assert ranges([1, 2, 3, 7, 9, 10]) == "1-3, 7, 9-10"
    assert ranges([]) == ""
