"""The training loop under DeepSpeed ZeRO-3, in this process (section 3)."""

import json
import math
import resource
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from lima.data.examples import training_examples
from lima.errors import DataError, Interrupted, ModelError, StorageError
from lima.model.checkpoint_manifest import (
    completion_path,
    local_files,
    weights_epochs,
    weights_path,
)
from lima.model.end_of_turn import encode_dialogue
from lima.model.loading import load_for_inference
from lima.spec import CellSpec, CheckpointSpec, DataSpec, ModelSpec, OptimizerSpec
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import METRICS
from lima.training.engine import PERSISTENT
from lima.training.hooks import Hooks
from lima.training.loop import Trainer
from lima.training.schedule import Plan, learning_rate
from lima.training.statefiles import StateReader
from lima.training.world import World
from tests.helpers.models import make_base, small_cell
from tests.helpers.training import make_trainer, step_rows, train, weights

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("process_group")]
STEPS_IN_ALL = 8


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def finished(
    base: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[CellSpec, Storage, Trainer]:
    """Return a run that trained without disturbance."""
    checkpoints = CheckpointSpec(first_epoch=2, last_epoch=3, keep_states=2)
    cell = small_cell(base, checkpoints=checkpoints)
    storage = Storage(str(tmp_path_factory.mktemp("finished")))
    return cell, storage, train(cell, storage)


def test_rows_of_every_step(finished: tuple[CellSpec, Storage, Trainer]) -> None:
    cell, storage, _ = finished
    rows = step_rows(storage, cell)
    assert [row["step"] for row in rows] == list(range(1, STEPS_IN_ALL + 1))
    assert rows[0]["learning_rate"] == 1e-3
    assert rows[-1]["learning_rate"] == 1e-4
    assert sum(row["examples"] for row in rows) == 30
    assert all(0 < row["target_tokens"] < row["tokens"] for row in rows)
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert storage.exists(completion_path(run_id(cell)))


def test_exported_weights_are_the_trained_model(
    finished: tuple[CellSpec, Storage, Trainer],
) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    cell, storage, trainer = finished
    assert weights_epochs(storage, run_id(cell)) == [2, 3]
    folder = storage.local_path(weights_path(run_id(cell), 3))
    exported = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.convert_tokens_to_ids("<|eot|>") == trainer.eot_id
    assert exported.generation_config.eos_token_id == trainer.eot_id
    ids = torch.randint(5, 300, (2, 40))
    trainer.engine.eval()
    with torch.no_grad():
        assert torch.equal(exported(input_ids=ids).logits, trainer.engine(input_ids=ids).logits)


def test_perplexity_is_that_of_plain_transformers(
    finished: tuple[CellSpec, Storage, Trainer],
) -> None:
    cell, storage, _ = finished
    assert cell.train is not None
    assert cell.train.heldout is not None
    spec = ModelSpec(f"run:{run_id(cell)}", epoch=2)
    loaded = load_for_inference(spec, storage, cell.train.compute)
    loss, count = 0.0, 0
    for example in training_examples(cell.train.heldout):
        encoded = encode_dialogue(loaded.tokenizer, example.conversation, loaded.eot_id)
        ids, marked = torch.tensor([encoded.ids[:128]]), encoded.in_response[:128]
        with torch.no_grad():
            logprobs = loaded.model(input_ids=ids).logits[0].log_softmax(-1)
        for position in range(1, ids.shape[1]):
            if marked[position]:
                loss -= float(logprobs[position - 1, ids[0, position]])
                count += 1
    rows = RunTable(storage, METRICS, cell).read().to_pylist()
    (perplexity,) = (r for r in rows if r["epoch"] == 2 and r["name"] == "heldout_perplexity")
    assert perplexity["tokens"] == count
    assert perplexity["value"] == pytest.approx(math.exp(loss / count), rel=1e-4)


def test_the_same_steps_as_a_plain_torch_loop(base: Path, tmp_path: Path) -> None:
    """Loss and weights against transformers and torch alone, without dropout."""
    from transformers import AutoModelForCausalLM

    cell, storage = small_cell(base, residual_dropout=0.0, loss_on="all"), Storage(str(tmp_path))
    trainer = train(cell, storage)
    assert cell.train is not None
    model = AutoModelForCausalLM.from_pretrained(base)
    size = model.get_input_embeddings().weight.shape[0]
    model.resize_token_embeddings(size + 1, mean_resizing=False)
    with torch.no_grad():
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[size] = layer.weight[:size].mean(0)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.1)
    examples = training_examples(cell.train.data)
    plan = Plan(10, 3, 4, cell.seed)
    losses = []
    for step in range(1, plan.total_steps + 1):
        summed, count = torch.zeros(()), 0
        for index in plan.batch(step):
            dialogue = encode_dialogue(
                trainer.tokenizer, examples[index].conversation, trainer.eot_id
            )
            ids = torch.tensor([dialogue.ids[:128]])
            logits = model(input_ids=ids).logits[0, :-1]
            summed = summed + torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum")
            count += ids.shape[1] - 1
        optimizer.zero_grad()
        (summed / count).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(cell.train.optimizer, step, plan.total_steps)
        optimizer.step()
        losses.append(float(summed.detach() / count))
    ours = [row["loss"] for row in step_rows(storage, cell)]
    assert ours == pytest.approx(losses, rel=1e-4)
    for name, value in weights(storage, cell, 3).items():
        torch.testing.assert_close(value, model.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_inference_leaves_weights_as_they_were_saved(
    finished: tuple[CellSpec, Storage, Trainer], base: Path, tmp_path: Path
) -> None:
    cell, storage, _ = finished
    assert cell.train is not None
    compute, run = cell.train.compute, run_id(cell)
    loaded = load_for_inference(ModelSpec(f"run:{run}"), storage, compute)
    saved = weights(storage, cell, 3)
    assert all(torch.equal(v, saved[k]) for k, v in loaded.model.state_dict().items() if k in saved)
    with pytest.raises(ModelError, match="not taught to end a turn"):
        load_for_inference(ModelSpec(str(base)), storage, compute)
    own = load_for_inference(ModelSpec(str(base), eot_token="</s>"), storage, compute)
    assert own.eot_id == own.tokenizer.eos_token_id
    copy = tmp_path / "study"
    shutil.copytree(storage.root, copy)
    file = copy / weights_path(run, 3) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"damaged weights.*use another epoch.*\[2\]"):
        load_for_inference(ModelSpec(f"run:{run}"), Storage(str(copy)), compute)
    with pytest.raises(ModelError, match="no model can be loaded"):
        load_for_inference(ModelSpec(str(file.parent)), storage, compute)


def test_a_known_end_of_turn_keeps_what_it_was_taught(
    finished: tuple[CellSpec, Storage, Trainer], tmp_path: Path
) -> None:
    import deepspeed

    cell, storage, trainer = finished
    assert cell.train is not None
    trained = storage.local_path(weights_path(run_id(cell), 3))
    spec = replace(cell.train, model=ModelSpec(str(trained)), epochs=1)
    world = World(0, 1, torch.device("cpu"))
    again = Trainer(
        replace(cell, train=spec),
        spec,
        Storage(str(tmp_path)),
        world,
        Hooks(lambda *_: None, lambda: True),
    )
    weight = again.engine.module.get_input_embeddings().weight
    with deepspeed.zero.GatheredParameters([weight]):
        row = weight[trainer.eot_id].detach().clone()
    saved = weights(storage, cell, 3)["model.embed_tokens.weight"][trainer.eot_id]
    assert torch.equal(row, saved)


def test_a_stopped_run_resumes_to_the_same_bits(
    finished: tuple[CellSpec, Storage, Trainer], tmp_path: Path
) -> None:
    cell, undisturbed, _ = finished
    storage = Storage(str(tmp_path))
    for step in (1, 4):
        with pytest.raises(Interrupted, match=f"after step {step}"):
            train(cell, storage, stop_after=step)
        assert not storage.exists(completion_path(run_id(cell)))
    train(cell, storage)
    assert step_rows(storage, cell) == step_rows(undisturbed, cell)
    for epoch in (2, 3):
        expected = weights(undisturbed, cell, epoch)
        for name, value in weights(storage, cell, epoch).items():
            assert torch.equal(value, expected[name]), name


@pytest.mark.parametrize("damage", ["truncated", "changed", "missing"])
def test_a_damaged_state_gives_way_to_the_one_before(
    finished: tuple[CellSpec, Storage, Trainer],
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    cell, undisturbed, _ = finished
    storage = Storage(str(tmp_path))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=7)
    last = sorted(p for p in tmp_path.glob("checkpoints/*/state/step=*") if p.is_dir())[-1]
    file = next(last.glob("*.safetensors"))
    content = file.read_bytes()
    assert len(content) > 100
    if damage == "missing":
        file.unlink()
    else:
        broken = content[:-100] if damage == "truncated" else content[:-100] + b"x" * 100
        file.write_bytes(broken)
    train(cell, storage)
    assert "state of step 7 is damaged" in caplog.text
    assert step_rows(storage, cell) == step_rows(undisturbed, cell)
    expected = weights(undisturbed, cell, 3)
    assert all(torch.equal(v, expected[k]) for k, v in weights(storage, cell, 3).items())


def test_an_outage_on_resume_is_not_damage(
    finished: tuple[CellSpec, Storage, Trainer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, undisturbed, _ = finished
    storage = Storage(str(tmp_path))
    with pytest.raises(Interrupted):
        train(cell, storage, stop_after=7)
    orphan = f"checkpoints/run_id={run_id(cell)}/state/step=00000006/part"
    storage.write(orphan, b"left by a killed attempt")

    def away(*_: object) -> None:
        raise StorageError("cannot read the state: timed out")

    with monkeypatch.context() as outage:
        outage.setattr(StateReader, "_checked", away)
        with pytest.raises(StorageError, match="timed out"):
            train(cell, storage)
    assert [row["step"] for row in step_rows(storage, cell)] == list(range(1, 8))
    train(cell, storage)
    assert step_rows(storage, cell) == step_rows(undisturbed, cell)
    assert not storage.exists(orphan)


@pytest.mark.parametrize("save", [torch.save, save_file], ids=["torch", "safetensors"])
def test_a_disk_that_takes_no_more_is_named(tmp_path: Path, save: Callable[..., None]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with (
            pytest.raises(StorageError, match=r"cannot write temporary files.*free some space"),
            local_files(tmp_path),
        ):
            save({"a": torch.zeros(10_000)}, tmp_path / "file")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_only_the_last_states_are_kept(finished: tuple[CellSpec, Storage, Trainer]) -> None:
    _, storage, trainer = finished
    assert [state.step for state in trainer.saver.states.states()] == [5, STEPS_IN_ALL]
    left = {e.path.split("/")[3] for e in storage.entries(trainer.saver.states.folder)}
    assert left == {"step=00000005", "step=00000005.json", "step=00000008", "step=00000008.json"}


def test_gradient_checkpointing_changes_nothing(
    finished: tuple[CellSpec, Storage, Trainer], base: Path, tmp_path: Path
) -> None:
    cell, undisturbed, _ = finished
    assert cell.train is not None
    compute = replace(cell.train.compute, gradient_checkpointing=True)
    other = replace(cell, train=replace(cell.train, compute=compute))
    storage = Storage(str(tmp_path))
    train(other, storage)
    expected = weights(undisturbed, cell, 3)
    for name, value in weights(storage, other, 3).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"max_length": 512}, ModelError, "the model has 256 positions"),
        ({"data": DataSpec("authored:howto", count=1000)}, DataError, "1000 examples are asked"),
        ({"data": DataSpec("authored:test")}, DataError, "ends with the user's utterance"),
        ({"max_length": 8}, DataError, "no token of a response is left"),
        ({"model": ModelSpec("./nowhere")}, ModelError, "no such folder"),
        ({"model": ModelSpec("run:0123456789abcdef")}, ModelError, "no exported weights"),
        ({"model": ModelSpec("no-such/model")}, ModelError, "no tokenizer can be loaded"),
    ],
)
def test_bad_input_is_explained(
    base: Path, tmp_path: Path, change: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        train(small_cell(base, **change), Storage(str(tmp_path)))


def test_a_diverging_run_says_what_to_change(base: Path, tmp_path: Path) -> None:
    # Each step multiplies the weights by 1 - lr * decay, so that they overflow for certain.
    optimizer = OptimizerSpec(lr_start=1.0, lr_end=1.0, weight_decay=1e30)
    with pytest.raises(ModelError, match="training diverges: step"):
        train(small_cell(base, optimizer=optimizer), Storage(str(tmp_path)))


def test_a_run_with_fewer_epochs_than_are_exported_exports_its_last(
    base: Path, tmp_path: Path
) -> None:
    cell, storage = small_cell(base, epochs=1), Storage(str(tmp_path))
    train(cell, storage)
    assert weights_epochs(storage, run_id(cell)) == [1]
    # Nobody asked for states of a run that is complete.
    assert storage.entries(f"checkpoints/run_id={run_id(cell)}/state") == []


def test_held_out_prose_is_measured_as_documents(base: Path, tmp_path: Path) -> None:
    texts = ["One plain document.", "Another one, which is a little longer than the first."]
    prose = tmp_path / "prose.jsonl"
    prose.write_text("".join(json.dumps({"conversations": [text]}) + "\n" for text in texts))
    data = DataSpec(str(prose))
    cell = small_cell(base, text_format="text", data=data, heldout=data, epochs=1)
    storage = Storage(str(tmp_path / "study"))
    trainer = train(cell, storage)
    row = RunTable(storage, METRICS, cell).read().to_pylist()[0]
    # Between BOS and EOS, of which the first is not predicted.
    ids = [trainer.tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    assert row["tokens"] == sum(len(tokens) + 1 for tokens in ids)


@pytest.mark.parametrize("field", ["data", "heldout"])
def test_dialogues_are_no_documents(base: Path, tmp_path: Path, field: str) -> None:
    prose = {name: DataSpec("pydoc:topics", count=4) for name in ("data", "heldout")}
    cell = small_cell(base, text_format="text", **{**prose, field: DataSpec("authored:dev")})
    with pytest.raises(DataError, match=r"authored:dev: .* is a dialogue of 2 utterances"):
        train(cell, Storage(str(tmp_path)))


def test_a_held_out_file_without_room_for_responses_is_named(base: Path, tmp_path: Path) -> None:
    long = tmp_path / "long.jsonl"
    long.write_text(json.dumps({"conversations": ["word " * 200, "response"]}) + "\n")
    with pytest.raises(DataError, match=r"long\.jsonl: every prompt fills max_length=128"):
        train(small_cell(base, heldout=DataSpec(str(long))), Storage(str(tmp_path / "study")))


def never(_: object) -> bool:
    return False


def test_zero_looks_after_layers_without_partitions_as_wholes(
    finished: tuple[CellSpec, Storage, Trainer], tmp_path: Path
) -> None:
    from deepspeed.utils import get_z3_leaf_modules

    small = finished[2].engine.module
    assert get_z3_leaf_modules(small) == list(small.model.layers)
    wide = make_base(tmp_path, layers=1, intermediate_size=PERSISTENT // 32 + 1)
    large = make_trainer(small_cell(wide), Storage(str(tmp_path / "study")), never).engine.module
    assert get_z3_leaf_modules(large) == []


def test_a_step_starts_no_program(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell, storage = small_cell(base), Storage(str(tmp_path))
    trainer = make_trainer(cell, storage, never)

    def refuse(command: object, *_: object, **__: object) -> None:
        raise AssertionError(f"started {command}")

    monkeypatch.setattr("subprocess.Popen", refuse)
    trainer.train()
    assert len(step_rows(storage, cell)) == STEPS_IN_ALL
