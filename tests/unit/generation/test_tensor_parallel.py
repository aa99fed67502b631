"""A model that is cut over processes samples what it samples whole; here on CPUs, with gloo."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lima.errors import EngineDiedError, ModelError
from lima.generation.engine import LoadedEngine, Request
from lima.generation.engines import load_transformers
from lima.generation.tensor_parallel.engine import TensorParallelEngine, load_tensor_parallel
from lima.spec import ComputeSpec, DataSpec, DecodingSpec, GenerateSpec, ModelSpec
from lima.store.storage import Storage
from tests.helpers.models import make_base, make_image_reader

pytestmark = pytest.mark.slow
SEED, RANKS, CONTEXT = 3, 2, 256


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose vocabulary does not divide by the ranks, as with an EOT that was added."""
    shape: dict[str, Any] = {"initializer_range": 0.3, "num_key_value_heads": 2, "vocab_size": 401}
    return make_base(tmp_path_factory.mktemp("base"), max_position_embeddings=CONTEXT, **shape)


def spec(base: Path) -> GenerateSpec:
    return GenerateSpec(
        DataSpec("authored:test"),
        ModelSpec(str(base), eot_token="</s>"),
        DecodingSpec(max_new_tokens=24),
        batch_size=4,
        compute=ComputeSpec(device="cpu", precision="fp32"),
    )


def cut(base: Path, folder: Path) -> tuple[LoadedEngine, TensorParallelEngine]:
    generate = spec(base)
    loaded = load_tensor_parallel(generate, generate.model, SEED, Storage(str(folder)), RANKS)
    assert isinstance(loaded.engine, TensorParallelEngine)
    return loaded, loaded.engine


@pytest.fixture
def engine(base: Path, tmp_path: Path) -> Iterator[TensorParallelEngine]:
    _, engine = cut(base, tmp_path)
    yield engine
    engine.end()


def requests() -> list[Request]:
    prompts = [[7 * n % 390 + 5 for n in range(start, start + length)] for start, length in LENGTHS]
    return [Request(p, f"key{n}", s) for n, p in enumerate(prompts) for s in range(2)]


LENGTHS = ((0, 3), (9, 40), (4, 1), (77, 12), (5, 8), (2, CONTEXT))


def test_a_model_that_is_cut_samples_the_same(
    base: Path, tmp_path: Path, engine: TensorParallelEngine
) -> None:
    whole = load_transformers(spec(base), spec(base).model, SEED, Storage(str(tmp_path))).engine
    expected = whole.generate(requests())
    for found, one in zip(engine.generate(requests()), expected, strict=True):
        assert (found.token_ids, found.finish_reason) == (one.token_ids, one.finish_reason)
        assert found.logprob == pytest.approx(one.logprob, abs=1e-3)
    again = engine.generate(requests()[::-1])[::-1]
    assert [r.token_ids for r in again] == [r.token_ids for r in expected]


def test_a_model_that_also_reads_images_is_cut(tmp_path: Path) -> None:
    base = make_image_reader(tmp_path / "base", context=CONTEXT)
    whole = load_transformers(spec(base), spec(base).model, SEED, Storage(str(tmp_path))).engine
    _, engine = cut(base, tmp_path)
    found, expected = engine.generate(requests()), whole.generate(requests())
    engine.end()
    assert [r.token_ids for r in found] == [r.token_ids for r in expected]
    assert {r.finish_reason for r in expected} >= {"length", "prompt_too_long"}


def test_a_rank_that_dies_ends_all_of_them(engine: TensorParallelEngine) -> None:
    os.kill(engine.ranks[1].process.pid, signal.SIGKILL)
    with pytest.raises(EngineDiedError, match="exit code -9"):
        engine.generate(requests())
    assert all(rank.process.poll() is not None for rank in engine.ranks)


def test_ranks_end_with_their_worker_while_they_decode(engine: TensorParallelEngine) -> None:
    asked = [msgspec.to_builtins(request) for request in requests() * 200]
    for rank in engine.ranks:
        rank.send(asked)
        assert rank.process.stdin
        rank.process.stdin.close()  # as the kernel does when the worker is killed
    assert [rank.process.wait() for rank in engine.ranks] == [-signal.SIGKILL] * RANKS
    assert [rank.output.read() for rank in engine.ranks] == [b"", b""]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"model_type": "opt"}, "no plan for models of the kind opt"),
        ({"num_key_value_heads": 1}, "its 1 heads of keys and values do not divide by 2"),
    ],
)
def test_a_model_that_cannot_be_cut_is_refused_with_advice(
    base: Path, tmp_path: Path, changed: dict[str, Any], reason: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for file in base.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    config = json.loads((other / "config.json").read_text("utf-8")) | changed
    (other / "config.json").write_text(json.dumps(config), "utf-8")
    with pytest.raises(ModelError, match=f"cut over 2 GPUs: .*{reason}.*generate.engine=vllm"):
        cut(other, tmp_path)
