"""Saved states are numbers: a planted one runs nothing, whatever its manifest says."""

import hashlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save

from lima.errors import InputError, Interrupted
from lima.store.storage import Storage
from lima.training.tensorfiles import pieces
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import step_rows, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]


class Hostile:
    """Runs `open(file, "w")` where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.file), "w")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture
def stopped(base: Path, tmp_path: Path) -> Path:
    """Return the state of a run that was stopped after its first step."""
    with pytest.raises(Interrupted):
        train(small_cell(base), Storage(str(tmp_path / "study")), stop_after=1)
    (folder,) = (tmp_path / "study").glob("checkpoints/*/state/step=00000001")
    return folder


def plant(file: Path, content: bytes) -> None:
    """Replace a file of a state, and mend what its manifest says of it."""
    file.write_bytes(content)
    manifest = file.parent.with_suffix(".json")
    record = json.loads(manifest.read_text())
    record["files"][file.name] = [len(content), hashlib.sha256(content).hexdigest()]
    manifest.write_text(json.dumps(record))


def test_a_planted_state_does_not_run(
    base: Path, tmp_path: Path, stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage, ran = Storage(str(tmp_path / "study")), tmp_path / "ran"
    (file,) = stopped.glob("*.safetensors")
    whole, code = file.read_bytes(), pickle.dumps(Hostile(ran))
    wrong = save({name: t[:-1] for name, t in load(whole).items()})
    fewer = save(dict(list(load(whole).items())[1:]))
    for content in (code, len(code).to_bytes(8, "little") + code, wrong, fewer):
        plant(file, content)
        with pytest.raises(Interrupted):
            train(small_cell(base), storage, stop_after=1)
        assert "state of step 1 is damaged" in caplog.text
        assert not ran.exists()
        caplog.clear()
        (file,) = stopped.glob("*.safetensors")
        assert file.read_bytes() == whole, "trained again"


def test_an_index_or_a_manifest_leads_nowhere_else(
    base: Path, tmp_path: Path, stopped: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = Storage(str(tmp_path / "study"))
    (index,) = stopped.glob("*.index.json")
    places = json.loads(index.read_text())["weight_map"]
    plant(index, json.dumps({"weight_map": dict.fromkeys(places, "../../escaped")}).encode())
    with pytest.raises(Interrupted):
        train(small_cell(base), storage, stop_after=1)
    assert "state of step 1 is damaged" in caplog.text
    manifest = stopped.with_suffix(".json")
    record = json.loads(manifest.read_text())
    record["files"]["../../escaped"] = [0, hashlib.sha256(b"").hexdigest()]
    manifest.write_text(json.dumps(record))
    with pytest.raises(Interrupted):
        train(small_cell(base), storage, stop_after=1)
    assert "step=00000001.json is not a manifest" in caplog.text
    assert [row["step"] for row in step_rows(storage, small_cell(base))] == [1]


def test_a_state_of_another_version_is_kept_and_named(
    base: Path, tmp_path: Path, stopped: Path
) -> None:
    manifest = stopped.with_suffix(".json")
    record = json.loads(manifest.read_text())
    del record["layout"]  # as DeepSpeed's own files were committed once
    manifest.write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"step=00000001\.json: this state was saved by another"):
        train(small_cell(base), Storage(str(tmp_path / "study")))
    assert list(stopped.glob("*.safetensors"))


def test_files_are_those_of_the_library() -> None:
    tensors = {
        "b": torch.arange(7.0).reshape(7, 1),
        "a": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "empty": torch.zeros(0),
        "scalar": torch.tensor(3.0),
        "turned": torch.arange(6.0).reshape(2, 3).T,
    }
    ours = b"".join(bytes(piece) for piece in pieces(tensors))
    opened = load(ours)
    assert opened.keys() == tensors.keys()
    assert all(torch.equal(opened[name], value) for name, value in tensors.items())
    alike = {name: value for name, value in tensors.items() if name in ("b", "turned")}
    contiguous = {name: value.contiguous() for name, value in alike.items()}
    assert b"".join(map(bytes, pieces(alike))) == save(contiguous, metadata={"format": "pt"})
