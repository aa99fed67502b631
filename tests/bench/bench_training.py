"""Training tokens a second: our path against a bare transformers and torch loop, same data.

Both run in processes of their own with one thread, in turn, on the same batches of the model of
recipe `tiny`. What is compared is the time of the steps, without start-up.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
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


def ours(base: Path) -> float:
    """Return tokens a second of our training loop, with residual dropout and rows."""
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
    cell, seen = bench_cell(base), list[StepRecord]()
    assert cell.train is not None
    with tempfile.TemporaryDirectory() as folder:
        hooks = Hooks(lambda record, total: seen.append(record), lambda: False)
        world = World(0, 1, torch.device("cpu"))
        Trainer(cell, cell.train, Storage(folder), world, hooks).train()
    counted = seen[SKIPPED_STEPS:]
    return sum(r.tokens for r in counted) / sum(r.seconds for r in counted)


def bare(base: Path) -> float:
    """Return tokens a second of the shortest loop that trains the same model on the same data."""
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
    tokens, started = 0, 0.0
    for step in range(1, plan.total_steps + 1):
        if step == SKIPPED_STEPS + 1:
            started = time.perf_counter()
        batch = batches.build(plan.batch(step), 0, 1)
        (micro,) = batch.micro_batches
        model(input_ids=micro.input_ids, labels=micro.labels, use_cache=False).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        tokens += batch.tokens if step > SKIPPED_STEPS else 0
    return tokens / (time.perf_counter() - started)


def test_training_keeps_up_with_a_bare_loop(tmp_path: Path) -> None:
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
        speeds = {name: _measure(name, base) for name in ("ours", "bare")}
        ratios.append(speeds["ours"] / speeds["bare"])
        print(f"\ntokens/s {speeds['ours']:.0f} ours, {speeds['bare']:.0f} bare")
    print(f"training tokens/s, ours / bare: {statistics.median(ratios):.2f} (goal 0.85)")
    assert all(ratio > 0 for ratio in ratios)


def _measure(name: str, base: Path) -> float:
    command = [sys.executable, "-m", "tests.bench.bench_training", name, str(base)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(result.stdout.split()[-1])


if __name__ == "__main__":
    print({"ours": ours, "bare": bare}[sys.argv[1]](Path(sys.argv[2])))
