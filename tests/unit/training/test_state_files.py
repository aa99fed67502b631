"""Saved states are read as tensors: a planted one runs nothing, whatever its manifest says."""

import hashlib
import io
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lima.errors import DataError, Interrupted, LimaError
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima.training.statefiles import foreign_types, read_no_code
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import step_rows, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]


class Hostile:
    """Runs `open(file, "w")` where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.file), "w")


def as_torch_saves(content: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def as_torch_once_saved(content: dict[str, Any]) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.mark.parametrize(
    ("part", "dumped"),
    [
        ("optim_states", as_torch_saves),
        ("model_states", as_torch_saves),
        ("optim_states", as_torch_once_saved),
        ("optim_states", pickle.dumps),
    ],
)
def test_a_planted_state_does_not_run(
    base: Path, tmp_path: Path, part: str, dumped: Callable[[dict[str, Any]], bytes]
) -> None:
    cell, storage, ran = small_cell(base), Storage(str(tmp_path / "study")), tmp_path / "ran"
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=1)
    (file,) = (tmp_path / "study").glob(f"checkpoints/*/state/step=00000001/*{part}.pt")
    content = torch.load(file, weights_only=False)
    plant(file, dumped({**content, "more": Hostile(ran)}))
    with pytest.raises(DataError, match=rf"{part}.pt: not saved by a training.*delete the folder"):
        train(cell, storage)
    assert not ran.exists()
    engine = SimpleNamespace(_config=None)
    read_no_code(engine)
    with pytest.raises(LimaError, match="may hold code"):
        engine.checkpoint_engine.load(str(file))
    assert not ran.exists()


def plant(file: Path, content: bytes) -> None:
    """Replace a file of a state, and mend what its manifest says of it."""
    file.write_bytes(content)
    manifest = file.parent.with_suffix(".json")
    record = json.loads(manifest.read_text())
    record["files"][file.name] = [len(content), hashlib.sha256(content).hexdigest()]
    manifest.write_text(json.dumps(record))


def test_a_file_that_a_manifest_places_elsewhere_is_not_written(
    base: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cell, storage = small_cell(base), Storage(str(tmp_path))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=1)
    (manifest,) = tmp_path.glob("checkpoints/*/state/step=00000001.json")
    record = json.loads(manifest.read_text())
    record["files"]["../../escaped"] = [0, hashlib.sha256(b"").hexdigest()]
    manifest.write_text(json.dumps(record))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=1)
    assert "step=00000001.json is not a manifest" in caplog.text
    assert [row["step"] for row in step_rows(storage, cell)] == [1]


def test_what_deepspeed_saves_is_trusted(base: Path, tmp_path: Path) -> None:
    cell = small_cell(base)
    with pytest.raises(Interrupted):
        train(cell, Storage(str(tmp_path)), stop_after=1)
    saved = list(tmp_path.glob(f"checkpoints/run_id={run_id(cell)}/state/step=00000001/*.pt"))
    assert len(saved) == 2
    assert [foreign_types(file) for file in saved] == [[], []]
    assert foreign_types(tmp_path / next(tmp_path.glob("checkpoints/*/state/*.json"))) != []
