"""Training on data that is replaced while a killed worker is away: refused, and nothing mixed."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lima.codec import run_id
from lima.errors import ChangedInputError
from lima.inputs.content import Contents
from lima.inputs.prepare import prepare
from lima.progress import read_progress
from lima.spec import CellSpec, CheckpointSpec, DataSpec, ModelSpec
from lima.storage import Storage
from lima_jobs.run import run_stage
from lima_jobs.session import ray_session
from tests.integration.runs import weights
from tests.models import make_base, small_cell
from tests.unit.test_training_job import killing, steps

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


@pytest.mark.parametrize("what", ["data", "model"])
def test_replaced_between_a_kill_and_the_restart_it_is_refused(
    what: str, base: Path, tmp_path: Path
) -> None:
    data, model = tmp_path / "d.jsonl", tmp_path / "model"
    write(data, "first")
    shutil.copytree(base, model)
    cell = small_cell(
        base,
        data=DataSpec(str(data)),
        model=ModelSpec(str(model)),
        epochs=20,
        checkpoints=CheckpointSpec(first_epoch=19, last_epoch=20, state_every_steps=2),
    )
    (promised,) = prepare([cell], Contents()).cells
    undisturbed, storage = Storage(str(tmp_path / "one")), Storage(str(tmp_path / "two"))
    run_stage(promised, "train", undisturbed)

    def half_trained() -> bool:
        record = read_progress(storage, run_id(promised))
        if not record or record["done"] < 4:
            return False
        if what == "data":
            write(data, "other")
        else:
            (model / "generation_config.json").write_text("{}")
        return True

    with killing(half_trained, 1), pytest.raises(ChangedInputError, match=str(tmp_path)) as error:
        run_stage(promised, "train", storage)
    assert error.value.exit_code == 2
    assert_restored_ends_the_same(promised, storage, undisturbed, base)


def assert_restored_ends_the_same(
    promised: CellSpec, storage: Storage, undisturbed: Storage, base: Path
) -> None:
    assert promised.train
    write(Path(promised.train.data.path), "first")
    config = "generation_config.json"
    shutil.copy(base / config, Path(promised.train.model.path) / config)
    run_stage(promised, "train", storage)
    assert weights(storage, promised) == weights(undisturbed, promised)
    assert steps(storage, promised) == steps(undisturbed, promised)
