"""Exports: of whatever base, tried before the first step, after the state they are those of."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from lima.errors import Interrupted, ModelError, StorageError
from lima.model.checkpoint_manifest import completion_path, weights_epochs, weights_path
from lima.spec import CellSpec, CheckpointSpec, DataSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import make_trainer, step_rows, train, weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


def one_step(base: Path, **changes: Any) -> CellSpec:
    settings: dict[str, Any] = {
        "data": DataSpec("authored:howto", count=4),
        "heldout": None,
        "epochs": 1,
    }
    return small_cell(base, **(settings | changes))


@pytest.mark.parametrize(
    ("file", "settings"),
    [
        # As vicuna-7b-v1.5 is published.
        ("generation_config.json", {"temperature": 0.9, "top_p": 0.6, "pad_token_id": 0}),
        ("generation_config.json", {"do_sample": False, "top_k": 1}),
        ("generation_config.json", {"temperature": 0.0}),
        ("generation_config.json", {"num_return_sequences": 3, "eos_token_id": [1, 2, 99]}),
        ("generation_config.json", {"max_new_tokens": -1, "cache_implementation": "none such"}),
        ("config.json", {"temperature": 0.9, "top_p": 0.6, "do_sample": False}),
        ("config.json", {"repetition_penalty": 1.3, "num_beams": 4}),
    ],
)
def test_how_a_base_was_sampled_ends_no_training(
    base: Path, tmp_path: Path, file: str, settings: dict[str, Any]
) -> None:
    from transformers import AutoModelForCausalLM, GenerationConfig

    own = shutil.copytree(base, tmp_path / "base")
    before = json.loads((own / file).read_text("utf-8")) if (own / file).exists() else {}
    (own / file).write_text(json.dumps(before | settings), "utf-8")
    cell, storage = one_step(own), Storage(str(tmp_path / "study"))
    trainer = train(cell, storage)
    folder = storage.local_path(weights_path(run_id(cell), 1))
    assert folder is not None
    saved = GenerationConfig.from_pretrained(folder)
    tokens = (saved.bos_token_id, saved.eos_token_id, saved.pad_token_id)
    tokenizer = trainer.tokenizer
    assert tokens == (tokenizer.bos_token_id, trainer.eot_id, tokenizer.pad_token_id)
    assert not {*settings} & {*json.loads((folder / "generation_config.json").read_text())} - {
        "pad_token_id",
        "eos_token_id",
    }
    assert not {"temperature", "num_beams"} & {*json.loads((folder / "config.json").read_text())}
    AutoModelForCausalLM.from_pretrained(folder)


def test_what_cannot_be_saved_is_said_before_the_first_step(base: Path, tmp_path: Path) -> None:
    trainer = make_trainer(one_step(base), Storage(str(tmp_path)), lambda seen: False)
    trained = trainer.trained
    trained.try_out([["Hello", "Hi"]])
    trained.model.config.note = object()
    with pytest.raises(
        ModelError, match=r"base.*: a model trained from it cannot be saved: .*JSON"
    ):
        trained.try_out([])
    del trained.model.config.note
    trained.model.config.num_hidden_layers += 1
    with pytest.raises(ModelError, match=r"config\.json describes another model"):
        trained.try_out([])


def test_a_failed_export_costs_no_step(base: Path, tmp_path: Path) -> None:
    checkpoints = CheckpointSpec(first_epoch=2, last_epoch=3, keep_states=2)
    cell, storage = small_cell(base, checkpoints=checkpoints), Storage(str(tmp_path / "study"))
    undisturbed = Storage(str(tmp_path / "undisturbed"))
    train(cell, undisturbed)
    blocked = tmp_path / "study" / weights_path(run_id(cell), 2)
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way of the weights")
    with pytest.raises(StorageError, match="cannot write"):
        train(cell, storage)
    steps = [row["step"] for row in step_rows(storage, cell)]
    assert steps == [1, 2, 3, 4, 5], "its state is whole"
    blocked.unlink()
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=6)
    assert weights_epochs(storage, run_id(cell)) == [2], "of step 5, not done again"
    train(cell, storage)
    same(cell, storage, undisturbed)


def same(cell: CellSpec, storage: Storage, expected: Storage) -> None:
    assert step_rows(storage, cell) == step_rows(expected, cell)
    for epoch in weights_epochs(expected, run_id(cell)):
        ours = weights(storage, cell, epoch)
        assert all(torch.equal(v, ours[k]) for k, v in weights(expected, cell, epoch).items())


@pytest.mark.parametrize("asked_at", [5, 8])
def test_a_stop_begins_no_export(base: Path, tmp_path: Path, asked_at: int) -> None:
    """A machine that must go saves its state; the same command exports."""
    cell, storage = small_cell(base), Storage(str(tmp_path / "study"))
    undisturbed = Storage(str(tmp_path / "undisturbed"))
    train(cell, undisturbed)
    with pytest.raises(Interrupted, match=f"after step {asked_at}; the state is saved"):
        train(cell, storage, stop_after=asked_at)
    epoch = 2 if asked_at == 5 else 3
    assert epoch not in weights_epochs(storage, run_id(cell))
    assert not storage.exists(completion_path(run_id(cell)))
    train(cell, storage)
    assert storage.exists(completion_path(run_id(cell)))
    same(cell, storage, undisturbed)


def test_a_state_is_saved_before_every_export(base: Path, tmp_path: Path) -> None:
    checkpoints = CheckpointSpec(first_epoch=2, last_epoch=2, state_every_steps=7, keep_states=9)
    cell, storage = small_cell(base, checkpoints=checkpoints), Storage(str(tmp_path))
    trainer = train(cell, storage)
    assert [state.step for state in trainer.saver.states.states()] == [5, 7, 8]
