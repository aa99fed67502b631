"""Train and generate on one GPU with a random model of LLaMA 7B's shape, in bf16.

    LIMA_PEERS=FOLDER python -m tests.bench.gpu_7b [--vllm PYTHON] > figures.json

Training: useful tokens a second, share of the GPU's peak (MFU) and peak memory on examples as long
as LIMA's, by us packed, with residual dropout, and padded, and by the peers of
`tests.bench.contenders`; our peak beside what `lima-k8s plan` says. Generation: sampled tokens a
second with the paper's decoding, by us, by `generate`, and by vLLM where `--vllm` names the Python
of an environment that has it. It needs about 125 GB on the GPU and 8 minutes.
`--device cpu --layers 1 --hidden 64 --length 128` tries the script itself.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lima.spec import ComputeSpec, DecodingSpec, ModelSpec, ShapeSpec
from lima.training.sizing.gpu_needs import LLAMA, training_memory
from tests.bench.contenders import OURS, PEERS, ROOT, Setting, Speed, measure, prepare, train_spec

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 operations a second by NVIDIA's data sheets."""
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12, "A100": 2.04e12}
"""Bytes a second of the GPU's memory, likewise."""
ENGINES = ("ours", "generate", "vllm")
PROMPT = 128


def training(folder: Path, setting: Setting, parameters: int) -> dict[str, Any]:
    """Return what each contender reached, and one that failed by its exit code."""
    names = [*OURS, *(PEERS if os.environ.get("LIMA_PEERS") else ())]
    found: dict[str, Any] = {}
    for name in names:
        try:
            found[name] = _figures(measure(name, folder), setting, parameters)
        except subprocess.CalledProcessError as error:
            found[name] = {"failed": error.returncode}
    shape = LLAMA["7b"]
    own = ShapeSpec(
        shape.vocab_size,
        setting.hidden,
        setting.layers,
        setting.heads,
        setting.intermediate,
        setting.length,
    )
    planned = training_memory(train_spec(folder, setting, "packed"), own, 1)
    found["planned_gib"] = round(planned.total / 2**30, 1)
    return found


def _figures(speed: Speed, setting: Setting, parameters: int) -> dict[str, Any]:
    gpu = _gpu()
    # 6 operations a weight and useful token; what checkpointing computes again, and attention,
    # are not counted.
    peak = next((flops for name, flops in PEAK_FLOPS.items() if name in gpu), None)
    work = speed.tokens_per_second * 6 * parameters
    return {
        "useful_tokens_per_second": round(speed.tokens_per_second, 1),
        "mfu": round(work / peak, 3) if peak and setting.device == "cuda" else None,
        "peak_gib": round(speed.device_gib, 1),
    }


def generation(folder: Path, arguments: argparse.Namespace, parameters: int) -> dict[str, Any]:
    """Return tokens a second of each engine, and the bound that the memory's bandwidth sets."""
    pythons = {"ours": sys.executable, "generate": sys.executable, "vllm": arguments.vllm}
    found: dict[str, Any] = {}
    for name, python in pythons.items():
        if not python:
            continue
        command = [python, "-m", "tests.bench.gpu_7b", "--engine", name, "--folder", str(folder)]
        command += ["--device", arguments.device, "--rows", str(arguments.rows)]
        command += ["--tokens", str(arguments.tokens)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, text=True, check=False
        )
        found[name] = float(done.stdout.split()[-1]) if done.returncode == 0 else done.returncode
    bandwidth = next((rate for name, rate in BANDWIDTH.items() if name in _gpu()), None)
    if bandwidth:
        # Every token of a batch reads the weights once; keys and values are not counted.
        found["bound_of_a_batch"] = round(bandwidth / (2 * parameters) * arguments.rows, 1)
    return found


def ours(folder: Path, arguments: argparse.Namespace) -> float:
    """Return tokens a second of our engine."""
    from lima.generation.engine import Request
    from lima.generation.transformers_engine import TransformersEngine
    from lima.model.loading import load_for_inference
    from lima.store.storage import Storage

    cuda = arguments.device == "cuda"
    compute = ComputeSpec(device=arguments.device, precision="bf16" if cuda else "fp32")
    base = ModelSpec(str(folder / "base"), eot_token="</s>")
    loaded = load_for_inference(base, Storage(str(folder)), compute)
    decoding = DecodingSpec(max_new_tokens=arguments.tokens, samples=1)
    engine = TransformersEngine(loaded.model, loaded.eot_id, decoding, 0, arguments.rows)
    requests = [Request(ids, f"prompt {n}", 0) for n, ids in enumerate(_prompts(arguments.rows))]
    engine.generate(requests[:1])
    started = time.perf_counter()
    responses = engine.generate(requests)
    return sum(len(r.token_ids) for r in responses) / (time.perf_counter() - started)


def generate(folder: Path, arguments: argparse.Namespace) -> float:
    """Return tokens a second of transformers' `generate`, one static batch."""
    import torch
    from transformers import AutoModelForCausalLM

    dtype = torch.bfloat16 if arguments.device == "cuda" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(folder / "base", dtype=dtype)
    model = model.to(arguments.device).eval()
    ids = torch.tensor(_prompts(arguments.rows), device=arguments.device)
    paper = DecodingSpec()
    options = {
        "do_sample": True,
        "top_k": 0,
        "top_p": paper.top_p,
        "temperature": paper.temperature,
        "repetition_penalty": paper.repetition_penalty,
        "pad_token_id": 0,
        "eos_token_id": 2,
    }
    model.generate(ids[:1], max_new_tokens=2, **options)
    started = time.perf_counter()
    rows = model.generate(ids, max_new_tokens=arguments.tokens, **options)[:, PROMPT:].tolist()
    count = sum(row.index(2) + 1 if 2 in row else len(row) for row in rows)
    return count / (time.perf_counter() - started)


def vllm(folder: Path, arguments: argparse.Namespace) -> float:
    """Return tokens a second of vLLM; runs in an environment that has it, and not this package."""
    from vllm import LLM, SamplingParams

    engine = LLM(str(folder / "base"), max_model_len=PROMPT + arguments.tokens)
    options = {"temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.2}
    wanted = SamplingParams(max_tokens=arguments.tokens, **options)
    prompts = [{"prompt_token_ids": ids} for ids in _prompts(arguments.rows)]
    engine.generate(prompts[:1], SamplingParams(max_tokens=2, **options))
    started = time.perf_counter()
    answers = engine.generate(prompts, wanted)
    count = sum(len(answer.outputs[0].token_ids) for answer in answers)
    return float(count / (time.perf_counter() - started))


def _prompts(rows: int) -> list[list[int]]:
    return [[300 + (7 * row + at) % 1000 for at in range(PROMPT)] for row in range(rows)]


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


def main() -> None:
    """Measure and print one JSON document; with --engine, one engine's speed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=4096)
    parser.add_argument("--length", type=int, default=2048)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--micro-batch", type=int, default=2)
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--vllm", default="", metavar="PYTHON")
    parser.add_argument("--engine", choices=ENGINES)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.engine:
        engine = {"ours": ours, "generate": generate, "vllm": vllm}[arguments.engine]
        print(round(engine(arguments.folder, arguments), 1))
        return
    setting = Setting(
        device=arguments.device,
        layers=arguments.layers,
        hidden=arguments.hidden,
        intermediate=arguments.hidden * 43 // 16,
        heads=max(arguments.hidden // 128, 1),
        batch=arguments.batch,
        micro=arguments.micro_batch,
        length=arguments.length,
        steps=arguments.steps,
        checkpointing=True,
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parameters = prepare(folder, setting)
        result = {
            "gpu": _gpu(),
            "parameters": parameters,
            "training": training(folder, setting, parameters),
            "generation": generation(folder, arguments, parameters),
        }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
