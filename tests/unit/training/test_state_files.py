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
from lima.training.aside import Aside, slice_of
from lima.training.state import StateStore
from lima.training.statefiles import StateReader
from lima.training.tensorfiles import pieces
from lima.training.world import World
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import step_rows, train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]


class Hostile:
    """Runs `open(file, "w")` where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.file), "w")


SLICES = {"weight": slice_of(5, 0, 1)}


@pytest.fixture
def states(tmp_path: Path) -> StateStore:
    """Return two states of one worker: of step 1 all ones, of step 2 all twos."""
    found = StateStore(Storage(str(tmp_path)), "run", World(0, 1, torch.device("cpu")), keep=2)
    aside = Aside(SLICES)
    for step in (1, 2):
        for tensor in aside.tensors.values():
            tensor.fill_(step)
        found.save(aside, step)
    return found


def restored(states: StateStore) -> int:
    """Restore; the numbers are those of the step that is returned."""
    read, used = Aside(SLICES), list[int]()
    step = states.restore(lambda: read, used.append)
    assert used == [step]
    assert all(bool((tensor == step).all()) for tensor in read.tensors.values())
    return step


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


NESTED = "[" * 100_000
MANIFESTS: dict[str, str | dict[str, Any]] = {
    "less than no workers": {"workers": -3},
    "no workers": {"workers": 0},
    "half a worker": {"workers": 1.5},
    "a step without end": {"step": float("inf")},
    "a step of many digits": {"step": 10**400},
    "files that are a list": {"files": [1]},
    "a layout that is a list": {"layout": []},
    "lists without end": NESTED,
    "lists without end in it": '{"step": 1, "files": ' + NESTED,
}


@pytest.mark.parametrize("told", MANIFESTS.values(), ids=MANIFESTS.keys())
def test_a_manifest_that_is_none_is_passed_over(
    states: StateStore, told: str | dict[str, Any]
) -> None:
    manifest = Path(states.storage.uri, f"{states.folder}/step=00000002.json")
    record = json.loads(manifest.read_text())
    text = told if isinstance(told, str) else json.dumps(record | told)
    manifest.write_text(text)
    assert restored(states) == 1
    assert not manifest.exists(), "nor does it come back"


INDEXES = {
    "lists without end": NESTED,
    "places that are lists": '{"weight_map": {"weight/master": ["rank-00000-00000.safetensors"]}}',
    "a list": '{"weight_map": [["weight/master", "rank-00000-00000.safetensors"]]}',
}


@pytest.mark.parametrize("told", INDEXES.values(), ids=INDEXES.keys())
def test_an_index_that_is_none_is_damage(states: StateStore, told: str) -> None:
    folder = Path(states.storage.uri, f"{states.folder}/step=00000002")
    plant(folder / "rank-00000.index.json", told.encode())
    assert restored(states) == 1


@pytest.mark.parametrize(("kind", "shape"), [("F4", [8]), ("F8_E8M0", [4]), ("F32", [2**63, 0])])
def test_numbers_that_torch_has_not_are_damage(
    states: StateStore, kind: str, shape: list[int]
) -> None:
    folder = Path(states.storage.uri, f"{states.folder}/step=00000002")
    size = 0 if 0 in shape else 4
    told = {"dtype": kind, "shape": shape, "data_offsets": [0, size]}
    header = json.dumps({"weight/master": told}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(size)
    plant(folder / "rank-00000-00000.safetensors", content)
    assert restored(states) == 1


@pytest.mark.parametrize("workers", [-3, 0])
def test_a_state_of_which_not_all_was_read_is_not_taken(states: StateStore, workers: int) -> None:
    state = states.states()[-1]
    reader = StateReader(states.storage, states._path(state.step), workers, state.files)
    assert not reader.read(Aside(SLICES))


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
