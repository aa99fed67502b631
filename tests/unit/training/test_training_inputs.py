"""Training on data that is replaced while a killed worker is away: refused, and nothing mixed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lima.errors import ChangedInputError
from lima.runs.progress import read_progress
from lima.spec import CellSpec, CheckpointSpec, DataSpec, ModelSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima_jobs.run import run_stage
from lima_jobs.session import ray_session
from tests.helpers.models import make_base, small_cell
from tests.helpers.promised import promised
from tests.integration.runs import weights
from tests.unit.training.test_training_job import killing, steps

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module", autouse=True)
def ray(base: Path) -> Iterator[None]:
    with ray_session([small_cell(base)]):
        yield


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))


def write(path: Path, word: str) -> None:
    turns = [[f"{word} question {i}?", f"{word} answer {i}."] for i in range(10)]
    lines = [json.dumps({"conversations": pair, "source": "x"}) + "\n" for pair in turns]
    path.write_text("".join(lines), "utf-8")


def promised_cell(base: Path, folder: Path) -> CellSpec:
    """Return a cell that reads its data and its model below `folder`, where they are written."""
    write(folder / "d.jsonl", "first")
    shutil.copytree(base, folder / "model")
    cell = small_cell(
        base,
        data=DataSpec(str(folder / "d.jsonl")),
        model=ModelSpec(str(folder / "model")),
        epochs=8,
        checkpoints=CheckpointSpec(first_epoch=7, last_epoch=8, state_every_steps=4),
    )
    return promised([cell])[0]


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    folder = tmp_path_factory.mktemp("undisturbed")
    storage = Storage(str(folder / "study"))
    run_stage(promised_cell(base, folder), "train", storage)
    return storage


@pytest.mark.parametrize("what", ["data", "model"])
def test_replaced_between_a_kill_and_the_restart_it_is_refused(
    what: str, base: Path, undisturbed: Storage, tmp_path: Path
) -> None:
    cell, storage = promised_cell(base, tmp_path), Storage(str(tmp_path / "study"))
    config = tmp_path / "model" / "generation_config.json"

    def half_trained() -> bool:
        record = read_progress(storage, run_id(cell))
        if not record or record["done"] < 5:
            return False
        if what == "data":
            write(tmp_path / "d.jsonl", "other")
        else:
            config.write_text("{}")
        return True

    with killing(half_trained, 1), pytest.raises(ChangedInputError, match=str(tmp_path)) as error:
        run_stage(cell, "train", storage)
    assert error.value.exit_code == 2
    # Restored, the same run goes on, and ends as if nothing had been.
    write(tmp_path / "d.jsonl", "first")
    shutil.copy(base / config.name, config)
    run_stage(cell, "train", storage)
    assert weights(storage, cell) == weights(undisturbed, cell)
    assert steps(storage, cell) == steps(undisturbed, cell)
