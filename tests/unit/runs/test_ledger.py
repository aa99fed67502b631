"""The attempt ledger and what counts as done."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from lima.common.clock import now
from lima.errors import DataError, InputError, LimaError
from lima.model.checkpoint_manifest import completion_path
from lima.runs import ledger
from lima.runs.done import is_done, mark_done
from lima.runs.ledger import attempt, close_killed, record_run
from lima.runs.progress import Progress
from lima.spec import (
    CellSpec,
    ComputeSpec,
    DataSpec,
    GenerateSpec,
    ModelSpec,
    TrainSpec,
    stage_cell,
)
from lima.spec.codec import run_id
from lima.store.shards import RunTable, to_parquet
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS, GENERATIONS, RUNS, STEPS
from lima.training.step_rows import Records
from lima_jobs import run as job
from lima_jobs.session import side_by_side

CPU = ComputeSpec(device="cpu", precision="fp32")
TRAIN = TrainSpec(model=ModelSpec("./model"), data=DataSpec("authored:howto"), compute=CPU)
CELL = CellSpec("unit", "a", 0, train=TRAIN, generate=GenerateSpec(DataSpec("authored:test")))


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


def foreign(storage: Storage, path: str, **columns: list[object]) -> None:
    storage.write(path, to_parquet(pa.table(columns)))


def test_a_killed_attempt_ended_when_it_last_lived(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    friday = now() - timedelta(hours=60)
    run = run_id(CELL)
    with monkeypatch.context() as then:
        then.setattr(ledger, "now", lambda: friday)
        context = attempt(storage, CELL, "train", CPU, run)
        context.__enter__()
    progress = Progress(storage, run)
    progress.update("train", 5, 10, "steps")
    close_killed(storage, CELL, "train", run)  # its last life: the progress, just now
    progress.update("train", 0, 1, "steps", force=True)
    with attempt(storage, CELL, "train", CPU, run) as ended:
        ended["resumed_from"] = 5
    rows = RunTable(storage, ATTEMPTS, stage_cell(CELL, "train")).read().to_pylist()
    killed, completed = sorted(
        (r for r in rows if r["event"] == "ended"), key=lambda r: r["attempt_id"]
    )
    assert (killed["outcome"], completed["outcome"]) == ("killed", "completed")
    assert killed["seconds"] == pytest.approx(60 * 3600, abs=60)
    assert completed["resumed_from"] == 5


def test_examples_are_counted_once_and_not_missed_later(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    record_run(storage, CELL, "train")
    monkeypatch.setattr(ledger, "load_examples", None)  # the data have moved
    record_run(storage, CELL, "train")
    record_run(storage, CELL, "generate")
    (row,) = RunTable(storage, RUNS, stage_cell(CELL, "train")).read().to_pylist()
    assert row["examples"] == 42


def test_done_is_what_storage_holds(storage: Storage) -> None:
    generated = RunTable(storage, GENERATIONS, stage_cell(CELL, "generate"))
    foreign(storage, generated.path("shard-0"), a=[1])
    storage.write(completion_path(run_id(CELL, "train")), b"{}")
    assert not is_done(storage, CELL)
    mark_done(storage, CELL)
    assert is_done(storage, CELL)
    storage.delete(generated.path("shard-0"))
    assert not is_done(storage, CELL)


@pytest.mark.parametrize(
    ("columns", "said"),
    [({"a": [1]}, "it has no column"), ({}, "it has no column")],
)
def test_a_foreign_file_in_a_table_is_named(
    storage: Storage, columns: dict[str, list[object]], said: str
) -> None:
    table = RunTable(storage, STEPS, stage_cell(CELL, "train"))
    foreign(storage, table.path("other"), **columns)
    with pytest.raises(DataError, match=rf"other\.parquet: not a readable shard.*{said}"):
        table.read()


def test_wrong_types_in_a_table_are_named(storage: Storage) -> None:
    table = RunTable(storage, STEPS, stage_cell(CELL, "train"))
    foreign(storage, table.path("other"), step=["one"], loss=["low"])
    with pytest.raises(DataError, match=r"other\.parquet: not a readable shard"):
        table.read(["step", "loss"])


@pytest.mark.parametrize("name", ["foreign", "part-x", "part-7", "steps-1-2"])
def test_files_that_are_not_rows_of_steps_are_never_deleted(storage: Storage, name: str) -> None:
    records = Records(storage, stage_cell(CELL, "train"))
    foreign(storage, records.steps.path(name), a=[1])
    with pytest.raises(DataError, match="not named by its steps"):
        records.rewind(0)
    assert storage.exists(records.steps.path(name))


def test_one_cell_s_bug_does_not_stop_the_others(
    storage: Storage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cells = [CellSpec("unit", "a", seed, train=TRAIN) for seed in range(4)]
    ran: list[int] = []

    def stage(cell: CellSpec, *_: object) -> None:
        ran.append(cell.seed)
        if cell.seed == 0:
            raise RuntimeError("unforeseen")

    monkeypatch.setattr(job, "_run_stage", stage)
    with pytest.raises(LimaError, match="internal error: RuntimeError: unforeseen"):
        job.run_cells(cells, storage, parallel=1)
    assert ran == [0, 1, 2, 3]
    assert "Traceback" in caplog.text
    assert [is_done(storage, cell) for cell in cells] == [False, True, True, True]


def test_a_stage_that_can_never_start_is_refused() -> None:
    resources = {"CPU": 4.0}
    with pytest.raises(InputError, match="asks for 1 GPUs, and there are 0"):
        side_by_side([CELL], resources)
    assert side_by_side([CELL], {"CPU": 4.0, "GPU": 2.0}) == 2
    wide = CellSpec("unit", "a", 0, base=TRAIN, train=TRAIN)
    assert side_by_side([wide], resources) == 4
    assert CELL.generate
    asked = replace(CELL.generate, model=ModelSpec("endpoint:http://h/v1#m"))
    assert side_by_side([replace(CELL, generate=asked)], resources) == 4
