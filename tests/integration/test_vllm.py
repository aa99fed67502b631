"""vLLM as an engine, beside our own: the same rows, also after it was killed.

vLLM has an environment of its own. LIMA_VLLM_PYTHON names its Python (docs/generation.md); without
it these tests are skipped. LIMA_VLLM_RESPONSES says how many responses are compared.
"""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.data.examples import load_examples
from lima.errors import EngineDiedError
from lima.generation.engine import LoadedEngine, Request, SampledResponse
from lima.generation.engines import ENGINES
from lima.model.end_of_turn import encode_prompt
from lima.runs.vllm_python import VARIABLE, vllm_problem
from lima.spec import CellSpec, ComputeSpec, DataSpec, DecodingSpec, GenerateSpec, ModelSpec
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.helpers.models import make_base
from tests.integration.runs import Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(vllm_problem()), reason=f"no vLLM: {vllm_problem()}"),
]
CONTEXT, SEED = 256, 3
RESPONSES = int(os.environ.get("LIMA_VLLM_RESPONSES", "40"))
EOT = "</s>"
CPU = ComputeSpec(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose distributions are neither flat nor certain."""
    folder = tmp_path_factory.mktemp("base")
    return make_base(
        folder, hidden_size=128, initializer_range=0.15, max_position_embeddings=CONTEXT
    )


def spec(base: Path, engine: str, **changes: Any) -> GenerateSpec:
    settings: dict[str, Any] = {
        "prompts": DataSpec("authored:test"),
        "model": ModelSpec(str(base), eot_token=EOT),
        "decoding": DecodingSpec(max_new_tokens=48),
        "batch_size": 8,
        "compute": CPU,
        "engine": engine,
    }
    return GenerateSpec(**(settings | changes))


def loaded(generate: GenerateSpec, folder: Path) -> LoadedEngine:
    return ENGINES[generate.engine](generate, generate.model, SEED, Storage(str(folder)))


def requests(engine: LoadedEngine, count: int) -> list[Request]:
    examples = load_examples(DataSpec("authored:test"))
    return [
        Request(
            encode_prompt(engine.tokenizer, example.prompt, engine.eot_id)[-CONTEXT // 2 :],
            example.prompt_key,
            sample,
        )
        for sample in range(-(-count // len(examples)))
        for example in examples
    ][:count]


def first_difference(ours: Sequence[int], theirs: Sequence[int]) -> int:
    pairs = zip(ours, theirs, strict=False)
    return next((n for n, (a, b) in enumerate(pairs) if a != b), min(len(ours), len(theirs)))
