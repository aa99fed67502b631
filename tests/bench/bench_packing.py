"""Useful training tokens a second on real LIMA lengths: ours against what people would use instead.

All train the same random LLaMA (6 layers, 256 wide, LLaMA's vocabulary) in fp32 on the same first
examples of LIMA, in batches of 32 of up to 2048 tokens, four a micro-batch, each in a process of
its own. What is compared is the time of the steps after the first.

TRL and accelerate are no dependencies of this project: `LIMA_PEERS=FOLDER` names a folder that
they were installed to (`pip install --target FOLDER --no-deps trl accelerate datasets ...`).
Without it ours are compared with each other alone.
"""

import gzip
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.spec import CellSpec, CheckpointSpec, ComputeSpec, DataSpec, ModelSpec, TrainSpec

pytestmark = pytest.mark.bench
DATA = Path(__file__).parents[3] / "shared/data"
BATCH, MICRO, LENGTH, STEPS = 32, 4, 2048, 4
OURS = ("ours packed", "ours padded")
PEERS = ("Trainer padded", "TRL padded", "TRL packed")


def save_base(folder: Path) -> None:
    """Save the model with random weights and LLaMA's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    file = folder / "tokenizer.json"
    file.parent.mkdir()
    file.write_bytes(
        gzip.decompress((DATA / "tokenizer/llama-test-tokenizer.json.gz").read_bytes())
    )
    PreTrainedTokenizerFast(
        tokenizer_file=str(file), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    torch.manual_seed(0)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=32_000, hidden_size=256, intermediate_size=688, num_hidden_layers=6,
            num_attention_heads=8, max_position_embeddings=LENGTH,
        )
    ).save_pretrained(folder)  # fmt: skip


def save_examples(path: Path) -> None:
    """Write the first examples of LIMA."""
    rows = json.loads(gzip.decompress((DATA / "lima/lima_llamafactory.json.gz").read_bytes()))
    chosen = [[row["instruction"], row["output"]] for row in rows[: BATCH * STEPS]]
    lines = [json.dumps({"conversations": conversation}) for conversation in chosen]
    path.write_text("\n".join(lines), "utf-8")


def train_spec(folder: Path, batching: Any) -> TrainSpec:
    """Return what all of them train."""
    compute = ComputeSpec(
        device="cpu", precision="fp32", gradient_checkpointing=False, micro_batch_size=MICRO,
        batching=batching,
    )  # fmt: skip
    return TrainSpec(
        ModelSpec(str(folder / "base")), DataSpec(str(folder / "data.jsonl")), epochs=1,
        batch_size=BATCH, max_length=LENGTH, loss_on="all", residual_dropout=0.0, compute=compute,
        checkpoints=CheckpointSpec(first_epoch=2, last_epoch=2, state_every_steps=10**6),
    )  # fmt: skip


def ours(folder: Path, batching: str) -> float:
    """Return useful tokens a second of our loop under DeepSpeed."""
    import torch
    import torch.distributed as dist

    from lima.store.storage import Storage
    from lima.training.engine import prepare_environment
    from lima.training.loop import Hooks, Trainer
    from lima.training.step_rows import StepRecord
    from lima.training.world import World

    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    prepare_environment("cpu")
    dist.init_process_group("gloo", store=_store(), rank=0, world_size=1)
    spec, seen = replace(train_spec(folder, batching)), list[StepRecord]()
    cell = CellSpec("bench", "packing", train=spec)
    hooks = Hooks(lambda record, total: seen.append(record), lambda: False)
    with tempfile.TemporaryDirectory() as results:
        trainer = Trainer(cell, spec, Storage(results), World(0, 1, torch.device("cpu")), hooks)
        trainer.states.save = lambda *_: None  # type: ignore[method-assign]
        trainer.train()
    counted = seen[1:]
    return sum(r.tokens for r in counted) / sum(r.seconds for r in counted)


def _store() -> Any:
    from torch.distributed import HashStore  # type: ignore[attr-defined]

    return HashStore()


def encoded_rows(folder: Path) -> tuple[Any, list[dict[str, list[int]]]]:
    """Return model and examples as the peers take them: our own token ids."""
    from transformers import AutoModelForCausalLM

    from lima.data.examples import training_examples
    from lima.model.loading import fit_vocabulary, load_tokenizer
    from lima.training.batches import encode_examples

    spec = train_spec(folder, "padded")
    tokenizer, eot_id, _ = load_tokenizer(spec.model.path, spec.model)
    model = AutoModelForCausalLM.from_pretrained(spec.model.path)
    fit_vocabulary(model, tokenizer, eot_id, known=False)
    examples = encode_examples(training_examples(spec.data), spec, tokenizer, eot_id)
    return (model, tokenizer), [{"input_ids": e.ids, "labels": e.ids} for e in examples]


def arguments(kind: Any, folder: Path, **settings: Any) -> Any:
    """Return transformers' training arguments, or TRL's."""
    return kind(
        output_dir=str(folder / "peer"), per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=BATCH // MICRO, max_steps=STEPS, use_cpu=True, fp16=False,
        bf16=False, gradient_checkpointing=False, save_strategy="no", report_to=[],
        logging_steps=10**6, disable_tqdm=True, lr_scheduler_type="constant", **settings,
    )  # fmt: skip


def clock() -> tuple[Any, dict[int, float]]:
    """Return a callback that notes when each step ends."""
    from transformers import TrainerCallback

    ends: dict[int, float] = {}

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, _args: Any, state: Any, *_: Any, **__: Any) -> None:
            ends[state.global_step] = time.perf_counter()

    return Clock(), ends


def peer(folder: Path, name: str) -> float:
    """Return useful tokens a second of transformers' Trainer, or of TRL's SFTTrainer."""
    from datasets import Dataset
    from torch.utils.data import SequentialSampler
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    (model, tokenizer), rows = encoded_rows(folder)
    callback, ends = clock()
    if name == "Trainer padded":
        trainer = Trainer(
            model, arguments(TrainingArguments, folder), train_dataset=Dataset.from_list(rows),
            data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True), callbacks=[callback],
        )  # fmt: skip
    else:
        from trl import SFTConfig, SFTTrainer

        packing = name == "TRL packed"
        data = Dataset.from_list([{"input_ids": row["input_ids"]} for row in rows])
        trainer = SFTTrainer(
            model, processing_class=tokenizer, train_dataset=data, callbacks=[callback],
            args=arguments(SFTConfig, folder, packing=packing, max_length=LENGTH),
        )  # fmt: skip
    trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    # What a batch held in fact: packed rows hold as many tokens as fit.
    sizes = [len(ids) for ids in trainer.train_dataset["input_ids"]]
    trainer.train()
    last = max(ends)
    useful = sum(
        sizes[(at * BATCH + i) % len(sizes)] for at in range(1, last) for i in range(BATCH)
    )
    return useful / (ends[last] - ends[1])


@pytest.mark.skipif(not DATA.is_dir(), reason="the lengths are those of LIMA in ../shared/data")
def test_packing_beats_padding(tmp_path: Path) -> None:
    save_base(tmp_path / "base")
    save_examples(tmp_path / "data.jsonl")
    names = [*OURS, *(PEERS if os.environ.get("LIMA_PEERS") else ())]
    speeds = {name: measure(name, tmp_path) for name in names}
    for name, (speed, memory) in speeds.items():
        ratio = speeds["ours packed"][0] / speed
        print(
            f"\n{name:<16} {speed:6.0f} useful tokens/s, {memory:4.1f} GiB; ours / it {ratio:.2f}"
        )
    assert statistics.median(speed for speed, _ in speeds.values()) > 0


def measure(name: str, folder: Path) -> tuple[float, float]:
    """Return tokens a second and peak GiB of one contender."""
    path = [str(Path(__file__).parents[2]), os.environ.get("LIMA_PEERS", "")]
    environment = {
        **os.environ, "DS_ACCELERATOR": "cpu", "PYTHONPATH": os.pathsep.join(filter(None, path)),
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip
    command = [sys.executable, "-m", "tests.bench.bench_packing", name, str(folder)]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    speed, memory = result.stdout.split()[-2:]
    return float(speed), float(memory)


if __name__ == "__main__":
    chosen, where = sys.argv[1], Path(sys.argv[2])
    result = ours(where, chosen.split()[1]) if chosen in OURS else peer(where, chosen)
    print(result, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
