"""Batch generation over shards of prompts (section 4.1)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from lima.common.clock import now
from lima.data.examples import Example
from lima.errors import SpecError
from lima.generation.addressed_noise import seed_address
from lima.generation.engine import LoadedEngine, Request, ServingEngine
from lima.generation.engines import ENGINES
from lima.generation.shared import SharedEngine
from lima.model.end_of_turn import encode_prompt
from lima.model.loading import resolve_run
from lima.spec import CellSpec, GenerateSpec, ModelSpec
from lima.spec.codec import run_id, sha256_key
from lima.store.shards import RunTable
from lima.store.storage import Storage


@dataclass(frozen=True)
class PromptShard:
    """Prompts whose responses make one Parquet shard, each with its place in the selection."""

    name: str
    prompts: tuple[tuple[int, Example], ...]


def plan_shards(examples: Sequence[Example], shard_prompts: int) -> list[PromptShard]:
    """Cut a selection into shards, named by their place and their prompts.

    A prompt that occurs again is left out: the same address would give the same response.
    """
    first: dict[str, tuple[int, Example]] = {}
    for index, example in enumerate(examples):
        first.setdefault(example.prompt_key, (index, example))
    prompts = list(first.values())
    cuts = range(0, len(prompts), shard_prompts)
    return [_shard(n, prompts[start : start + shard_prompts]) for n, start in enumerate(cuts)]


def pending_shards(shards: Sequence[PromptShard], table: RunTable) -> list[PromptShard]:
    """Return the shards that storage does not hold yet."""
    finished = set(table.shards())
    return [shard for shard in shards if shard.name not in finished]


def generate_spec(cell: CellSpec) -> GenerateSpec:
    """Return the generate stage of a cell.

    Raises:
        SpecError: the cell has none.

    """
    if cell.generate is None:
        raise SpecError(f"arm {cell.arm!r} of {cell.experiment!r} has no stage generate")
    return cell.generate


def shards_together(spec: GenerateSpec) -> int:
    """Return how many shards a worker samples at a time, so that its batch stays full.

    Our own engine has one to itself: sampled again after a kill, it has the same rows to the last
    digit of `logprob`, and below fp32 the same tokens. vLLM promises neither.
    """
    if spec.engine != "vllm":
        return 1
    # One more than fit: it begins while the last rows of the others end.
    return 1 + math.ceil(spec.batch_size / (spec.shard_prompts * spec.decoding.samples))


def load_engine(cell: CellSpec, storage: Storage) -> LoadedEngine:
    """Load the model that a cell samples from, into the engine that its spec names.

    As many threads as `shards_together` may use it at a time.

    Raises:
        ModelError: the model cannot be loaded.

    """
    spec = generate_spec(cell)
    loaded = ENGINES[spec.engine](spec, resolve_run(spec.model, cell), cell.seed, storage)
    if shards_together(spec) > 1 and isinstance(loaded.engine, ServingEngine):
        return replace(loaded, engine=SharedEngine(loaded.engine))
    return loaded


def generate_shard(
    loaded: LoadedEngine, cell: CellSpec, shard: PromptShard
) -> list[dict[str, Any]]:
    """Return the rows of `generations` for a shard: every sample of every prompt, in order."""
    spec = generate_spec(cell)
    model = _model_name(resolve_run(spec.model, cell))
    asked: list[tuple[int, Example, Request]] = []
    with loaded.tokenizing:
        for index, example in shard.prompts:
            ids = encode_prompt(loaded.tokenizer, example.prompt, loaded.eot_id)
            asked.extend(
                (index, example, Request(ids, example.prompt_key, sample))
                for sample in range(spec.decoding.samples)
            )
    responses = loaded.engine.generate([request for _, _, request in asked])
    with loaded.tokenizing:
        texts = [
            loaded.tokenizer.decode(response.token_ids, clean_up_tokenization_spaces=False)
            for response in responses
        ]
    finished_at = now()
    return [
        {
            "generation_key": sha256_key([run_id(cell), request.prompt_key, request.sample]),
            "prompt_key": request.prompt_key,
            "prompt_index": index,
            "sample": request.sample,
            "source": example.source,
            "prompt": list(example.prompt),
            "response": text,
            "token_ids": response.token_ids,
            "finish_reason": response.finish_reason,
            "prompt_tokens": len(request.token_ids),
            "response_tokens": len(response.token_ids),
            "logprob": response.logprob,
            "seed_address": seed_address(cell.seed, request.prompt_key, request.sample),
            "model": model,
            "at": finished_at,
        }
        for (index, example, request), response, text in zip(asked, responses, texts, strict=True)
    ]


def _shard(number: int, prompts: Sequence[tuple[int, Example]]) -> PromptShard:
    digest = sha256_key([example.prompt_key for _, example in prompts])
    return PromptShard(f"prompts-{number:05d}-{digest[:8]}", tuple(prompts))


def _model_name(spec: ModelSpec) -> str:
    """Return the name of a resolved model, with its epoch or revision where one is asked for."""
    version = f"epoch {spec.epoch}" if spec.epoch else spec.revision
    return f"{spec.path}@{version}" if version else spec.path
