"""vLLM as an engine, beside our own: the same rows, also after it was killed.

vLLM has an environment of its own. LIMA_VLLM_PYTHON names its Python (docs/generation.md); without
it these tests are skipped. LIMA_VLLM_RESPONSES says how many responses are compared.
"""

import math
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file

from lima.data.examples import load_examples
from lima.errors import EngineDiedError, ModelError
from lima.generation.addressed_noise import address_words, gumbel_noise, seed_address
from lima.generation.engine import LoadedEngine, Request, SampledResponse
from lima.generation.engines import ENGINES
from lima.generation.processors import build_processors
from lima.generation.run import generate_shard, plan_shards
from lima.generation.shared import SharedEngine
from lima.generation.transformers_engine import TransformersEngine
from lima.generation.vllm.engine import VllmEngine
from lima.generation.vllm.process import CHILD
from lima.model.end_of_turn import encode_prompt
from lima.runs.vllm_python import vllm_problem
from lima.spec import (
    CellSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    ModelSpec,
    stage_cell,
)
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from tests.helpers.frequencies import chi_square, reference
from tests.helpers.models import make_base, make_image_reader
from tests.helpers.promised import promised
from tests.integration.runs import Job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(vllm_problem()), reason=f"no vLLM: {vllm_problem()}"),
]
CONTEXT, SEED = 256, 3
RESPONSES = int(os.environ.get("LIMA_VLLM_RESPONSES", "40"))
EOT = "</s>"
DECODING = DecodingSpec(max_new_tokens=48)
ENGINE_NAMES = ("transformers", "vllm")
TIE = 1e-3
"""A difference of logits that the order of sums may make in fp32."""
CPU = ComputeSpec(device="cpu", precision="fp32")
FREQUENCIES = 4000
"""Responses whose first tokens are counted."""


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
        "decoding": DECODING,
        "batch_size": 8,
        "compute": CPU,
        "engine": engine,
    }
    return GenerateSpec(**(settings | changes))


def loaded(generate: GenerateSpec, folder: Path) -> LoadedEngine:
    return ENGINES[generate.engine](generate, generate.model, SEED, Storage(str(folder)))


def key(response: SampledResponse) -> tuple[list[int], str]:
    return response.token_ids, response.finish_reason


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


@pytest.fixture(scope="module")
def vllm(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LoadedEngine]:
    """Load the model with vLLM, once for all tests of this file."""
    engine = loaded(spec(base, "vllm"), tmp_path_factory.mktemp("storage"))
    assert isinstance(engine.engine, VllmEngine)
    yield engine
    engine.engine.process.end()


@pytest.fixture(scope="module")
def ours(base: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedEngine:
    return loaded(spec(base, "transformers"), tmp_path_factory.mktemp("storage"))


def nearness(
    ours: LoadedEngine, request: Request, before: Sequence[int], pair: Sequence[int]
) -> float:
    """Return how near two tokens are to changing places, as logits after processing.

    Either their logits with noise are nearly equal, or one of them lies where the nucleus ends.
    """
    assert isinstance(ours.engine, TransformersEngine)
    ids = torch.tensor([[*request.token_ids, *before]])
    with torch.inference_mode():
        logits = ours.engine.model(input_ids=ids).logits[:, -1].float()
    scores = build_processors(replace(DECODING, top_p=1.0))(ids, logits)[0]
    address = address_words([seed_address(SEED, request.prompt_key, request.sample)])
    noisy = scores + gumbel_noise(address, torch.tensor([len(before)]), len(scores))[0]
    mass = scores.double().softmax(-1)
    above = [float(mass[scores > scores[token]].sum()) for token in pair]
    return min(
        abs(float(noisy[pair[0]] - noisy[pair[1]])),
        *(abs(part - DECODING.top_p) for part in above),
    )


def test_rows_are_those_of_our_engine(ours: LoadedEngine, vllm: LoadedEngine) -> None:
    asked = requests(ours, RESPONSES)
    expected, found = ours.engine.generate(asked), vllm.engine.generate(asked)
    differing = [
        n for n, (a, b) in enumerate(zip(expected, found, strict=True)) if key(a) != key(b)
    ]
    for number in differing:
        a, b = ([*r.token_ids, ours.eot_id] for r in (expected[number], found[number]))
        at = next(n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
        near = nearness(ours, asked[number], a[:at], (a[at], b[at]))
        print(f"response {number} differs first at token {at}: {near:.1e} from a tie")
        assert near < TIE
    first = expected[0].token_ids[0]
    assert nearness(ours, asked[0], [], (first, first + 1)) > TIE  # most tokens are far from one
    same = len(asked) - len(differing)
    print(f"{same} of {len(asked)} responses are the same")
    assert same >= 0.99 * len(asked)
    assert {r.finish_reason for r in expected} == {"eot", "length"}
    for one, other in zip(expected, found, strict=True):
        assert key(one) != key(other) or one.logprob == pytest.approx(other.logprob, abs=1e-2)


def test_a_response_depends_on_its_request_alone(ours: LoadedEngine, vllm: LoadedEngine) -> None:
    asked = requests(ours, 16)
    together = vllm.engine.generate(asked)
    alone = [vllm.engine.generate([request])[0] for request in asked[::-1]][::-1]
    assert [key(r) for r in alone] == [key(r) for r in together]


def test_requests_that_come_later_are_sampled_beside_the_first(
    ours: LoadedEngine, vllm: LoadedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(vllm.engine, VllmEngine)
    asked, send = requests(ours, 24), vllm.engine.process.send
    sent: list[int] = []

    def counted(message: Any) -> None:
        sent.append(len(message))
        send(message)

    monkeypatch.setattr(vllm.engine.process, "send", counted)
    shared = SharedEngine(vllm.engine)
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(shared.generate, [asked[at : at + 4] for at in range(0, 24, 4)]))
    expected = ours.engine.generate(asked)
    assert [key(r) for part in found for r in part] == [key(r) for r in expected]
    assert len(sent) < 6, "calls went together"


def test_little_room_for_keys_and_values_changes_no_row(
    base: Path, tmp_path: Path, ours: LoadedEngine
) -> None:
    engine = loaded(spec(base, "vllm", batch_tokens=CONTEXT), tmp_path)
    asked = requests(ours, 24)
    assert [key(r) for r in engine.engine.generate(asked)] == [
        key(r) for r in ours.engine.generate(asked)
    ]
    assert isinstance(engine.engine, VllmEngine)
    engine.engine.process.end()


def test_frequencies_are_those_of_the_distribution(ours: LoadedEngine, vllm: LoadedEngine) -> None:
    """The chi-square test of our engine, where vLLM computes the logits."""
    assert isinstance(ours.engine, TransformersEngine)
    prompt = requests(ours, 1)[0].token_ids
    responses = vllm.engine.generate([Request(prompt, "key", n) for n in range(FREQUENCIES)])
    first = Counter([*r.token_ids, ours.eot_id][0] for r in responses)
    expected = reference(ours.engine.model, prompt, DECODING)
    assert chi_square(first, expected) > 0.001
    for wrong in ({"temperature": 0.8}, {"repetition_penalty": 1.0}, {"top_p": 0.8}):
        other = reference(ours.engine.model, prompt, replace(DECODING, **wrong))  # type: ignore[arg-type]
        assert chi_square(first, other) < 1e-6


@pytest.mark.parametrize("length", [CONTEXT - 1, CONTEXT, CONTEXT + 40])
def test_a_prompt_that_fills_the_context_is_a_row(
    ours: LoadedEngine, vllm: LoadedEngine, length: int
) -> None:
    asked = [Request([5 + n % 200 for n in range(length)], "long", 0), *requests(ours, 2)]
    expected, found = ours.engine.generate(asked), vllm.engine.generate(asked)
    assert [key(r) for r in found] == [key(r) for r in expected]
    assert [key(r) for r in vllm.engine.generate(asked[:1])] == [key(expected[0])]
    reasons = {"length", "eot"} if length < CONTEXT else {"prompt_too_long"}
    assert found[0].finish_reason in reasons


@pytest.mark.parametrize(
    "decoding",
    [
        DecodingSpec(max_new_tokens=12, temperature=0),
        DecodingSpec(max_new_tokens=12, top_p=1.0, temperature=1.0, repetition_penalty=1.0),
    ],
)
def test_other_decodings_are_ours_too(base: Path, tmp_path: Path, decoding: DecodingSpec) -> None:
    both = [loaded(spec(base, name, decoding=decoding), tmp_path) for name in ENGINE_NAMES]
    asked = requests(both[0], 20)
    expected, found = (engine.engine.generate(asked) for engine in both)
    assert [key(r) for r in found] == [key(r) for r in expected]
    assert isinstance(both[1].engine, VllmEngine)
    both[1].engine.process.end()


def test_a_model_that_also_reads_images_is_read_as_one_of_texts(tmp_path: Path) -> None:
    reader = make_image_reader(tmp_path / "reader", context=CONTEXT)
    both = [loaded(spec(reader, name), tmp_path) for name in ENGINE_NAMES]
    asked = requests(both[0], 20)
    expected, found = (engine.engine.generate(asked) for engine in both)
    assert [key(r) for r in found] == [key(r) for r in expected]
    assert isinstance(both[1].engine, VllmEngine)
    both[1].engine.process.end()


def test_what_vllm_cannot_do_is_bad_input(base: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"vLLM cannot sample from .*base.*: .* computes on cpu"):
        loaded(spec(base, "vllm", compute=ComputeSpec(device="cuda")), tmp_path)


def test_logits_that_are_no_numbers_are_refused_as_ours(base: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(base, other)
    weights = load_file(other / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, other / "model.safetensors", metadata={"format": "pt"})
    engine = loaded(spec(other, "vllm"), tmp_path)
    assert isinstance(engine.engine, VllmEngine)
    with pytest.raises(ModelError, match=r"token 1 of the response: .* are not numbers"):
        engine.engine.generate(requests(engine, 2))
    assert engine.engine.process.process.poll() is not None


def test_the_death_of_vllm_is_told(base: Path, tmp_path: Path) -> None:
    engine = loaded(spec(base, "vllm"), tmp_path)
    assert isinstance(engine.engine, VllmEngine)
    psutil.Process(engine.engine.process.process.pid).kill()
    with pytest.raises(EngineDiedError, match="exit code -9"):
        engine.engine.generate(requests(engine, 2))


def test_a_job_that_is_killed_ends_with_the_same_rows(
    base: Path, tmp_path: Path, vllm: LoadedEngine
) -> None:
    # Two shards of four responses at a time, of sixteen shards.
    prompts = DataSpec("authored:test+howto")
    generate = spec(base, "vllm", prompts=prompts, batch_size=4, shard_prompts=4)
    (cell,) = promised([CellSpec("vllm", "arm", SEED, generate=generate)])
    job = Job([cell], str(tmp_path / "storage"), tmp_path / "job")
    job.wait_until(lambda record: record["done"] >= 4)
    job.kill()
    job = Job([cell], str(tmp_path / "storage"), tmp_path / "job")
    job.wait_until(lambda record: record["done"] >= 8)
    job.kill_worker(CHILD)
    job.finish()
    assert "a worker died" in job.log.read_text("utf-8")
    found = RunTable(job.storage, GENERATIONS, stage_cell(cell, "generate")).read().to_pylist()
    shards = plan_shards(load_examples(generate.prompts), generate.shard_prompts)
    expected = [row for shard in shards for row in generate_shard(vllm, cell, shard)]
    columns = ("generation_key", "token_ids", "finish_reason", "response", "seed_address")
    assert sorted([row[c] for c in columns] for row in found) == sorted(
        [row[c] for c in columns] for row in expected
    )
