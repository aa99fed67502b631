"""Estimates of memory and time, against figures that others published or that add up by hand."""

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.errors import InputError
from lima.model.end_of_turn import Encoded
from lima.recipes.paper import ablations_7b, lima_65b
from lima.runs.ledger import attempt
from lima.spec import CellSpec, ModelSpec, TrainSpec, training_compute
from lima.store.storage import Storage
from lima.training.batches import BATCH_BUILDERS
from lima.training.sizing.gpu_needs import (
    GIB,
    LLAMA,
    find_gpu,
    generation_memory,
    model_shape,
    step_pace,
    training_memory,
)
from lima.training.sizing.real_lengths import step_load
from lima.training.sizing.state_size import shape_parameters
from lima_k8s.main import run
from lima_k8s.profile.cluster_spec import ClusterSpec, StopSpec
from lima_k8s.study.savings import measured, stop_warning
from tests.helpers.models import make_base, make_image_reader

GB = 10**9


def train_65b() -> TrainSpec:
    [cell] = lima_65b()
    assert cell.train
    return cell.train


@pytest.mark.parametrize(
    ("name", "billions"), [("7b", 6.7), ("13b", 13.0), ("30b", 32.5), ("65b", 65.2)]
)
def test_the_shapes_have_the_parameters_of_the_paper(name: str, billions: float) -> None:
    # LLaMA, table 2.
    assert shape_parameters(LLAMA[name]) / 1e9 == pytest.approx(billions, abs=0.1)


def test_states_are_16_bytes_a_parameter_over_all_workers() -> None:
    # ZeRO, figure 1: 7.5 billion parameters, 64 GPUs: 1.9 GB a GPU with all three partitioned.
    shape, spec = LLAMA["7b"], train_65b()
    for workers in (1, 8, 64):
        memory = training_memory(spec, shape, workers)
        states = memory.weights + memory.gradients + memory.optimizer
        assert states * workers == pytest.approx(16 * shape_parameters(shape))
    per_gpu = 16 * 7.5e9 / 64
    assert per_gpu / GB == pytest.approx(1.9, abs=0.03)


def test_offload_moves_states_off_the_gpu() -> None:
    spec, shape = train_65b(), LLAMA["7b"]
    optimizer = replace(spec, compute=replace(spec.compute, offload="optimizer"))
    everything = replace(spec, compute=replace(spec.compute, offload="all"))
    assert training_memory(optimizer, shape, 8).optimizer == 0
    assert training_memory(optimizer, shape, 8).weights > 0
    assert training_memory(everything, shape, 8).weights == 0


def test_checkpointing_keeps_the_input_of_each_layer() -> None:
    spec, shape = train_65b(), LLAMA["65b"]
    whole = replace(spec, compute=replace(spec.compute, gradient_checkpointing=False))
    kept = training_memory(spec, shape, 32).activations
    full = training_memory(whole, shape, 32).activations
    tokens = spec.max_length * spec.compute.micro_batch_size
    assert full == 34 * tokens * shape.hidden_size * shape.layers
    assert kept == 2 * tokens * shape.hidden_size * shape.layers + full / shape.layers


def test_fp32_has_no_second_copy_of_the_weights() -> None:
    spec, shape = train_65b(), LLAMA["7b"]
    fp32 = replace(spec, compute=replace(spec.compute, precision="fp32"))
    memory = training_memory(fp32, shape, 1)
    assert memory.weights + memory.gradients + memory.optimizer == 16 * shape_parameters(shape)


def test_the_cache_of_65b_is_two_and_a_half_megabytes_a_token() -> None:
    [cell] = lima_65b()
    assert cell.generate
    memory = generation_memory(cell.generate, LLAMA["65b"])
    assert memory.cache * 4 / 32_768 == 2 * 80 * 8192 * 2
    unbounded = generation_memory(replace(cell.generate, batch_tokens=None), LLAMA["65b"])
    assert unbounded.cache * 4 / (64 * 2048) == 2 * 80 * 8192 * 2
    little = generation_memory(replace(cell.generate, batch_tokens=1), LLAMA["65b"])
    assert little.cache * 4 / 2048 == 2 * 80 * 8192 * 2, "a row alone takes what it needs"
    assert memory.weights * 4 / GB == pytest.approx(130, abs=1)


def test_flops_of_a_step_follow_palm() -> None:
    spec, shape = train_65b(), LLAMA["65b"]
    pace = step_pace(spec, shape, find_gpu("H100"), 4, 8)
    tokens = 32 * 2048
    assert pace.flops / tokens == 6 * shape_parameters(shape) + 6 * 80 * 8192 * 2048
    assert pace.best_s <= pace.worst_s
    assert 0 < pace.mfu(find_gpu("H100"), pace.best_s) < 0.6


@pytest.mark.parametrize("batching", ["packed", "padded"])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_planned_epoch_is_laid_out_as_the_trainer_lays_it(batching: str, workers: int) -> None:
    lengths = [round(3 + 60 * random.Random(i).random() ** 3) for i in range(40)]
    spec = replace(
        train_65b(),
        max_length=48,
        batch_size=8,
        compute=replace(train_65b().compute, micro_batch_size=2, batching=batching),
    )
    load = step_load(lengths, spec, workers)
    order = [min(length, 48) for length in lengths]
    random.Random(spec.data.seed).shuffle(order)
    encoded = [Encoded([0] * n, [True] * n) for n in order]
    builder = BATCH_BUILDERS[batching](encoded, spec, 0, batch_size=8)
    parts = [
        [builder.build(range(at, at + 8), rank, workers).micro_batches for rank in range(workers)]
        for at in range(0, 40, 8)
    ]
    sizes = [
        [sum(m.input_ids.numel() for m in group if m.spans) for group in zip(*step, strict=True)]
        for step in parts
    ]
    assert load.tokens == sum(order) / 5
    assert load.computed == sum(map(sum, sizes)) / 5
    assert load.passes == sum(map(len, sizes)) / 5
    every = [m for step in parts for mine in step for m in mine if m.spans]
    assert load.longest == max(m.input_ids.numel() for m in every)
    assert (load.padding == 0) == (batching == "packed")
    assert 0 <= load.idle < 1
    assert (load.idle == 0) == (workers == 1)


def test_examples_of_one_length_are_the_longest() -> None:
    spec, shape, gpu = train_65b(), LLAMA["65b"], find_gpu("H100")
    full = step_load([5000] * 96, spec, 32)
    assert step_pace(spec, shape, gpu, 4, 8, load=full) == step_pace(spec, shape, gpu, 4, 8)
    assert (full.padding, full.idle, full.longest) == (0, 0, spec.max_length)
    half = step_load([1024] * 96, spec, 32)
    assert step_pace(spec, shape, gpu, 4, 8, load=half).compute_s < (
        step_pace(spec, shape, gpu, 4, 8).compute_s / 2
    )


def test_one_gpu_sends_nothing() -> None:
    pace = step_pace(train_65b(), LLAMA["7b"], find_gpu("H200"), 1, 1)
    assert pace.communication_s == 0
    assert pace.best_s == pace.worst_s


def test_names_are_explained() -> None:
    with pytest.raises(InputError, match="did you mean 'H100'"):
        find_gpu("H10")
    assert find_gpu("h100") is find_gpu("H100")
    assert model_shape(ModelSpec("huggyllama/llama-65b")) == LLAMA["65b"]
    with pytest.raises(InputError, match="its shape is not known"):
        model_shape(ModelSpec("gpt2"))
    with pytest.raises(InputError, match="its shape is not known"):
        model_shape(ModelSpec("Qwen/Qwen2.5-7B"))


def test_a_folder_has_the_shape_that_it_says(tmp_path: Path) -> None:
    make_base(tmp_path / "tiny-llama-7b", layers=3)
    shape = model_shape(ModelSpec(str(tmp_path / "tiny-llama-7b")))
    assert (shape.layers, shape.hidden_size < 1000) == (3, True)
    make_image_reader(tmp_path / "reader")
    shape = model_shape(ModelSpec(str(tmp_path / "reader")))
    assert (shape.layers, shape.heads) == (2, 4), "of the part for texts"
    for text in ("{}", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(InputError, match="says no shape of a decoder"):
            model_shape(ModelSpec(str(tmp_path)))


def planned(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> dict[str, Any]:
    assert run(["plan", *arguments, "--format", "json"]) == code
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def test_real_lengths_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Of `tiny`, whose examples ship here: on a GPU it would be computed in one micro-step."""
    arguments = ("tiny", "--arm", "howto-32", "--gpu", "H100", "--nodes", "1")
    (base, train, _) = planned(capsys, *arguments)["stages"]
    lengths = train["lengths"]
    assert (lengths["padding"], lengths["micro_steps"]) == (0, 1)
    assert 0 < base["lengths"]["idle"] < 0.2
    assert lengths["caveat"] == ""
    low, high = train["tokens_s"]
    assert low == pytest.approx(lengths["tokens_a_step"] / train["step_s"][1], rel=0.01)
    assert low <= high
    assert run(["plan", *arguments]) == 0
    said = capsys.readouterr().out
    assert f"{lengths['tokens_a_step']:,} tokens a step in 1 micro-step; 0 % of what" in said
    assert "useful tokens/s" in said


def test_the_recipes_fit_what_they_are_written_for(capsys: pytest.CaptureFixture[str]) -> None:
    for recipe, nodes in (("lima_65b", 4), ("ablations_7b", 1)):
        document = planned(capsys, recipe, "--gpu", "H100", "--nodes", str(nodes))
        assert all(stage["fits"] for stage in document["stages"])
        assert "set" not in document["stages"][0]
    arms = {stage["arm"] for stage in document["stages"]}
    assert arms == {cell.arm for cell in ablations_7b()}


def test_what_does_not_fit_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    document = planned(capsys, "lima_65b", "--gpu", "A100-40GB", "--nodes", "1", code=2)
    train = document["stages"][0]
    assert not train["fits"]
    assert train["total_gib"] > train["gpu_gib"] > 39
    assert train["set"] == "train.compute.workers=8"
    assert sum(train["memory_gib"].values()) == pytest.approx(train["total_gib"], abs=0.1)
    assert run(["plan", "lima_65b", "--gpu", "A100-40GB", "--nodes", "1"]) == 2
    assert "NO" in capsys.readouterr().out


def test_a_gpu_holds_no_more_than_its_sheet_says() -> None:
    memory = training_memory(train_65b(), LLAMA["65b"], 32)
    assert memory.fits(find_gpu("H100"))
    assert memory.total < 80 * GIB


def test_saving_is_part_of_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("lima_65b", "--gpu", "H100", "--nodes", "4")
    saving = planned(capsys, *asked)["stages"][0]["saving"]
    assert (saving["states"], saving["exports"]) == (15, 6)
    # 65.3 billion weights, 12 and 2 bytes each; four nodes of 250 MiB/s, 32 GPUs of 10 GB/s.
    assert saving["state_gib"] == pytest.approx(730, abs=1)
    assert saving["state_s"] == pytest.approx(747, abs=1)
    assert saving["export_s"] == pytest.approx(saving["state_s"] / 6)
    assert saving["stall_s"] == pytest.approx(2.45, abs=0.01)
    assert saving["host_gib"] == 32, "of 22.8, the next power of two"
    assert saving["stop_s"] == pytest.approx(7 / 3 * saving["state_s"])
    idle = 21 * saving["stall_s"] + saving["state_s"] + saving["export_s"]
    assert saving["hours"] == pytest.approx(idle / 3600)
    assert run(["plan", *asked]) == 0
    text = capsys.readouterr().out
    assert "GPUs stand still for 0.3 h: 2.4 s for each of 15 states of 73" in text
    assert "a state is whole after 12 min; longer than between two, so that some are" in text
    assert run(["plan", *asked, "--storage", str(tmp_path)]) == 2
    assert "no run there has saved a state yet" in capsys.readouterr().err
    write_attempt(Storage(str(tmp_path)), lima_65b()[0], mib_s=800)
    faster = planned(capsys, *asked, "--storage", str(tmp_path))["stages"][0]["saving"]
    assert faster["mib_s"] == 800
    assert faster["state_s"] == pytest.approx(saving["state_s"] * 250 / 800)


def write_attempt(storage: Storage, cell: CellSpec, *, mib_s: float) -> None:
    """Write an attempt of 32 workers that saved states at so much a node of 8."""
    compute = training_compute(train_65b())
    with attempt(storage, cell, "train", compute, "progress") as ended:
        saves = [
            {"kind": "state", "step": 31, "bytes": 4 * mib_s * 2**20 * 10, "seconds": 10.0},
            {"kind": "weights", "step": 31, "bytes": 1, "seconds": 99.0},
        ]
        ended["saves"] = json.dumps(saves)


def test_a_stop_that_takes_long_is_told(tmp_path: Path) -> None:
    [cell] = lima_65b()
    slow, fast = ClusterSpec(), ClusterSpec(stop=StopSpec(uploadMiBps=1500))
    told = stop_warning(cell, slow, None)
    assert told is not None
    assert "a stop may take 29 min at 250 MiB/s a node" in told
    assert stop_warning(cell, fast, None) is None
    assert stop_warning(replace(cell, train=None), slow, None) is None
    storage = Storage(str(tmp_path))
    assert measured(storage) is None
    write_attempt(storage, cell, mib_s=400)
    rate = measured(storage, cell.experiment)
    assert rate == pytest.approx(50)
    assert stop_warning(cell, slow, rate) == told, "faster than the charts say"
    told = stop_warning(cell, fast, rate)
    assert told is not None
    assert "wrote 400 MiB/s a node, and cluster.stop.uploadMiBps says 1500" in told
    assert told.endswith("set cluster.stop.uploadMiBps=400")


def test_a_logit_takes_fourteen_bytes_on_its_way_back() -> None:
    """Held at once in the backward pass of bf16 logits, as torch does it."""
    packed, shape = train_65b(), LLAMA["65b"]
    spec = replace(packed, compute=replace(packed.compute, batching="padded"))
    memory = training_memory(spec, shape, 32)
    assert memory.logits == 14 * spec.max_length * spec.compute.micro_batch_size * shape.vocab_size
