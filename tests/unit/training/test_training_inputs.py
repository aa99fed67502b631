"""Training on data that is replaced while a killed worker is away: refused, and nothing mixed."""

import json
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
from tests.conftest import s3_environment
from tests.helpers.models import make_base, small_cell
from tests.helpers.promised import promised
from tests.integration.runs import weights
from tests.unit.training.test_training_job import killing, steps

pytestmark = pytest.mark.slow
CONFIG = "model/generation_config.json"
NAMES = ("d.jsonl", "h.jsonl", CONFIG)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module", autouse=True)
def ray(base: Path, s3_server: str) -> Iterator[None]:
    """Start Ray, whose workers reach the bucket too."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(s3_server).items():
            patch.setenv(name, value)
        with ray_session([small_cell(base)]):
            yield


@pytest.fixture(autouse=True)
def _own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA_STOP_FILE", str(tmp_path / "stop"))
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "cache"))


def examples(word: str) -> bytes:
    turns = [[f"{word} question {i}?", f"{word} answer {i}."] for i in range(10)]
    lines = [json.dumps({"conversations": pair, "source": "x"}) + "\n" for pair in turns]
    return "".join(lines).encode()


class Inputs:
    """All that training reads, below a folder or a prefix of a bucket."""

    def __init__(self, place: Storage, base: Path) -> None:
        self.place, self.base = place, base
        place.upload_folder(base, "model")
        for name in NAMES:
            self.restore(name)

    def replace(self, name: str) -> None:
        other = b"{}" if name == CONFIG else examples("other")
        self.place.write(name, other, replace=True)

    def restore(self, name: str) -> None:
        own = (self.base / Path(name).name).read_bytes() if name == CONFIG else examples(name[0])
        self.place.write(name, own, replace=True)

    def cell(self) -> CellSpec:
        cell = small_cell(
            self.base,
            data=DataSpec(f"{self.place.uri}/d.jsonl"),
            heldout=DataSpec(f"{self.place.uri}/h.jsonl"),
            model=ModelSpec(f"{self.place.uri}/model"),
            epochs=8,
            checkpoints=CheckpointSpec(first_epoch=7, last_epoch=8, state_every_steps=4),
        )
        return promised([cell])[0]


@pytest.fixture(scope="module")
def undisturbed(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Storage:
    folder = tmp_path_factory.mktemp("undisturbed")
    storage = Storage(str(folder / "study"))
    run_stage(Inputs(Storage(str(folder / "in")), base).cell(), "train", storage)
    return storage


@pytest.mark.parametrize("where", ["here", "bucket"])
def test_replaced_between_a_kill_and_the_restart_it_is_refused(
    where: str, base: Path, undisturbed: Storage, tmp_path: Path
) -> None:
    here = str(tmp_path / "in")
    inputs = Inputs(Storage(here if where == "here" else f"s3://study/{tmp_path.name}"), base)
    cell, storage = inputs.cell(), Storage(str(tmp_path / "study"))

    def half_trained() -> bool:
        record = read_progress(storage, run_id(cell))
        if not record or record["done"] < 5:
            return False
        inputs.replace("d.jsonl")
        return True

    with killing(half_trained, 1) as killed, pytest.raises(ChangedInputError, match=r"d\.jsonl"):
        run_stage(cell, "train", storage)
    assert killed
    inputs.restore("d.jsonl")
    done = steps(storage, cell)
    for name in ("h.jsonl", CONFIG) if where == "here" else (CONFIG,):
        inputs.replace(name)
        with pytest.raises(ChangedInputError, match=name.partition("/")[0]) as error:
            run_stage(cell, "train", storage)
        assert error.value.exit_code == 2
        inputs.restore(name)
    assert steps(storage, cell) == done
    # Restored, the same run goes on, and ends as if nothing had been.
    run_stage(cell, "train", storage)
    assert weights(storage, cell) == weights(undisturbed, cell)
    assert steps(storage, cell) == steps(undisturbed, cell)
