"""Train and generate on one GPU with a random model of LLaMA 7B's shape, in bf16.

    python -m tests.bench.gpu_7b [--layers 32] [--steps 6] [--offload none] [--device cuda]

The same training loop, ZeRO-3 engine and generation engine as in a job, in one process: tokens a
second, share of the GPU's peak (MFU) and peak memory. It needs about 125 GB on the GPU, or
`--offload optimizer`. `--device cpu --layers 1 --hidden 64 --length 128` tries the script itself.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

from lima.model.end_of_turn import train_tokenizer
from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    ModelSpec,
    TrainSpec,
)
from lima.training.step_rows import StepRecord

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second by NVIDIA's data sheets."""
VOCABULARY, HEAD = 32_000, 128
SKIPPED_STEPS = 2
"""The first steps allocate memory."""
BATCH = 4


def save_base(folder: Path, arguments: argparse.Namespace) -> int:
    """Save a model of random weights with a tokenizer; return its number of weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    train_tokenizer([p.read_text("utf-8") for p in Path("docs").glob("*.md")], 2000, folder)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=arguments.hidden,
        intermediate_size=arguments.hidden * 43 // 16,
        num_hidden_layers=arguments.layers,
        num_attention_heads=max(arguments.hidden // HEAD, 1),
        max_position_embeddings=2 * arguments.length,
        dtype=_dtype(arguments.device),
    )
    with torch.device(arguments.device):
        model = LlamaForCausalLM(config).to(_dtype(arguments.device))
    model.save_pretrained(folder)
    return sum(weight.numel() for weight in model.parameters())


def save_examples(path: Path, arguments: argparse.Namespace) -> None:
    """Write examples that are longer than the trim length, one a batch place."""
    words = " ".join(Path("README.md").read_text("utf-8").split())
    response = (words + " ") * (arguments.length * 8 // len(words) + 1)
    count = BATCH * arguments.steps
    rows = [{"conversations": [f"Say it, number {n}.", response]} for n in range(count)]
    path.write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


def train(folder: Path, arguments: argparse.Namespace) -> list[StepRecord]:
    """Train one epoch; return its steps."""
    import torch
    import torch.distributed as dist

    from lima.store.storage import Storage
    from lima.training.engine import prepare_environment
    from lima.training.loop import Hooks, Trainer
    from lima.training.world import World

    cuda = arguments.device == "cuda"
    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    prepare_environment(arguments.device)
    dist.init_process_group(
        "nccl" if cuda else "gloo", init_method=f"file://{folder}/group", rank=0, world_size=1
    )
    spec = TrainSpec(
        model=ModelSpec(str(folder / "base")),
        data=DataSpec(str(folder / "examples.jsonl")),
        heldout=None,
        epochs=1,
        batch_size=BATCH,
        max_length=arguments.length,
        # No checkpoint is due: a state of 80 GB would measure the disk.
        checkpoints=CheckpointSpec(first_epoch=2, last_epoch=2, state_every_steps=10**6),
        compute=ComputeSpec(
            device=arguments.device,
            precision="bf16" if cuda else "fp32",
            offload=arguments.offload,
            micro_batch_size=arguments.micro_batch,
        ),
    )
    seen: list[StepRecord] = []
    hooks = Hooks(lambda record, total: seen.append(record), lambda: False)
    world = World(0, 1, torch.device(arguments.device, *([0] if cuda else [])))
    Trainer(CellSpec("bench", "7b", train=spec), spec, Storage(str(folder)), world, hooks).train()
    dist.destroy_process_group()
    return seen


def generate(folder: Path, arguments: argparse.Namespace) -> tuple[int, float]:
    """Sample a batch of responses; return its tokens and seconds."""
    from lima.generation.engine import Request, TransformersEngine
    from lima.model.loading import load_for_inference
    from lima.store.storage import Storage

    cuda = arguments.device == "cuda"
    compute = ComputeSpec(device=arguments.device, precision="bf16" if cuda else "fp32")
    base = ModelSpec(str(folder / "base"), eot_token="</s>")
    loaded = load_for_inference(base, Storage(str(folder)), compute)
    decoding = DecodingSpec(max_new_tokens=arguments.length // 4, samples=1)
    rows = arguments.rows
    engine = TransformersEngine(loaded.model, loaded.eot_id, decoding, 0, rows)
    requests = [Request(list(range(300, 428)), f"prompt {n}", 0) for n in range(rows)]
    started = time.perf_counter()
    responses = engine.generate(requests)
    return sum(len(r.token_ids) for r in responses), time.perf_counter() - started


def main() -> None:
    """Measure and print one JSON document."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--micro-batch", type=int, default=1)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--offload", default="none", choices=("none", "optimizer", "all"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = save_base(folder / "base", arguments)
        save_examples(folder / "examples.jsonl", arguments)
        _empty(arguments.device)
        counted = train(folder, arguments)[SKIPPED_STEPS:]
        result = _training_figures(counted, parameters, arguments)
        _empty(arguments.device)
        tokens, seconds = generate(folder, arguments)
        result["generate_tokens_per_second"] = round(tokens / seconds, 1)
    print(json.dumps(result, indent=2))


def _training_figures(
    counted: list[StepRecord], parameters: int, arguments: argparse.Namespace
) -> dict[str, object]:
    import torch

    speed = sum(r.tokens for r in counted) / sum(r.seconds for r in counted)
    figures: dict[str, object] = {
        "parameters": parameters, "length": arguments.length, "layers": arguments.layers,
        "train_tokens_per_second": round(speed, 1), "loss": counted[-1].loss,
    }  # fmt: skip
    if arguments.device == "cuda":
        gpu = torch.cuda.get_device_name()
        peak = next((flops for name, flops in PEAK_FLOPS.items() if name in gpu), None)
        # 6 operations a weight and token, and attention: 12 * layers * width * length. What
        # checkpointing computes again is not counted.
        attention = 12 * arguments.layers * arguments.hidden * arguments.length
        work = speed * (6 * parameters + attention)
        figures |= {
            "gpu": gpu, "mfu": round(work / peak, 3) if peak else None,
            "peak_memory_gb": round(torch.cuda.max_memory_allocated() / 1e9, 1),
        }  # fmt: skip
    return figures


def _empty(device: str) -> None:
    import gc

    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def _dtype(device: str) -> "object":
    import torch

    return torch.bfloat16 if device == "cuda" else torch.float32


if __name__ == "__main__":
    main()
