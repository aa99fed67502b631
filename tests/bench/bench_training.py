"""Training tokens a second: our path against a bare transformers and torch loop, same data.

Both run in one process with one thread, step by step in turn, on the same batches of the model of
recipe `tiny`. What is compared is the time from step to step, without start-up.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lima.spec import CellSpec, ComputeSpec, DataSpec, ModelSpec
from tests.helpers.models import make_base

pytestmark = pytest.mark.bench
ROUNDS = 3
SKIPPED_STEPS = 3
"""The first steps allocate memory."""


def bench_cell(base: Path) -> CellSpec:
    """Return a training cell with the shape and the batches of recipe `tiny`."""
    from lima.recipes.demo import TINY_TRAIN

    compute = ComputeSpec(
        device="cpu",
        precision="fp32",
        gradient_checkpointing=False,
        micro_batch_size=TINY_TRAIN.batch_size,
    )
    train = replace(
        TINY_TRAIN,
        model=ModelSpec(str(base)),
        data=DataSpec("authored:diverse+howto", count=64),
        heldout=None,
        epochs=4,
        compute=compute,
    )
    return CellSpec("bench", "all", train=train)


def compare(base: Path, dropout: float) -> tuple[float, float]:
    """Return tokens a second of our training loop and of the bare one.

    They take turns, step by step: the speed of a machine changes within a minute by more than they
    differ. All that a step takes counts, rows and saving too.
    """
    import torch
    import torch.distributed as dist

    from lima.store.storage import Storage
    from lima.training.engine import prepare_environment
    from lima.training.hooks import Hooks
    from lima.training.loop import Trainer
    from lima.training.step_rows import StepRecord
    from lima.training.world import World

    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    prepare_environment("cpu")
    rendezvous = Path(tempfile.mkdtemp()) / "rendezvous"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    cell = bench_cell(base)
    assert cell.train is not None
    spec = replace(cell.train, residual_dropout=dropout)
    other, resumed = bare_steps(base), time.perf_counter()
    ours, bare = list[float](), list[float]()
    tokens: list[int] = []

    def on_step(record: StepRecord, _total: int) -> None:
        nonlocal resumed
        began = time.perf_counter()
        ours.append(began - resumed)
        tokens.append(next(other))
        assert tokens[-1] == record.tokens
        resumed = time.perf_counter()
        bare.append(resumed - began)

    with tempfile.TemporaryDirectory() as folder:
        world = World(0, 1, torch.device("cpu"))
        cell = replace(cell, train=spec)
        Trainer(cell, spec, Storage(folder), world, Hooks(on_step, lambda: False)).train()
    done = sum(tokens[SKIPPED_STEPS:])
    return done / sum(ours[SKIPPED_STEPS:]), done / sum(bare[SKIPPED_STEPS:])


def bare_steps(base: Path) -> Iterator[int]:
    """Train by the shortest loop that trains the same model on the same data.

    Yields the tokens of each step.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from lima.data.examples import training_examples
    from lima.model.loading import fit_vocabulary, load_tokenizer
    from lima.training.batches import PaddedBatches, encode_examples
    from lima.training.schedule import Plan

    spec = bench_cell(base).train
    assert spec is not None
    tokenizer, eot_id, pad_id = load_tokenizer(str(base), spec.model)
    model = AutoModelForCausalLM.from_pretrained(base).train()
    fit_vocabulary(model, tokenizer, eot_id, known=False)
    examples = training_examples(spec.data)
    encoded = encode_examples(examples, spec, tokenizer, eot_id)
    batches = PaddedBatches(encoded, spec, pad_id, batch_size=spec.batch_size)
    plan = Plan(len(examples), spec.epochs, spec.batch_size, 0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    for step in range(1, plan.total_steps + 1):
        batch = batches.build(plan.batch(step), 0, 1)
        (micro,) = batch.micro_batches
        model(input_ids=micro.input_ids, labels=micro.labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        yield batch.tokens


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_training_keeps_up_with_a_bare_loop(tmp_path: Path, dropout: float) -> None:
    base = make_base(
        tmp_path,
        layers=4,
        vocabulary=2047,
        hidden_size=128,
        intermediate_size=352,
        max_position_embeddings=512,
    )
    ratios = []
    for _ in range(ROUNDS):
        ours, bare = _measure(base, dropout)
        ratios.append(ours / bare)
        print(f"\ntokens/s {ours:.0f} ours, {bare:.0f} bare")
    print(
        f"training tokens/s with dropout {dropout}, ours / bare, which has none: "
        f"{statistics.median(ratios):.2f} (goal 0.95)"
    )
    assert all(ratio > 0 for ratio in ratios)


def _measure(base: Path, dropout: float) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.bench.bench_training", str(base), str(dropout)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    ours, bare = result.stdout.split()[-2:]
    return float(ours), float(bare)


if __name__ == "__main__":
    print(*compare(Path(sys.argv[1]), float(sys.argv[2])))
