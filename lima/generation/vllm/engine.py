"""vLLM as an engine (4.1): a response is that of our own engine, up to rounding of the logits."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from lima.errors import ModelError
from lima.generation.engine import (
    Arriving,
    LoadedEngine,
    Request,
    Row,
    SampledResponse,
    answers_of,
)
from lima.generation.engine_process import EngineProcess
from lima.generation.vllm import DECODING
from lima.generation.vllm.process import start_vllm
from lima.model.context import context_length
from lima.model.loading import taught_tokenizer
from lima.model.saved_config import heads_of, saved_config
from lima.runs.vllm_python import vllm_python
from lima.spec import ComputeSpec, DecodingSpec, GenerateSpec, ModelSpec
from lima.store.storage import Storage

ROOM = 512
"""Places of a prompt, for which a CPU's cache has room in every row; longer ones may wait."""
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""vLLM's names of our precisions."""


class VllmEngine:
    """Asks the process of a vLLM; see `lima.generation.engine.Engine`."""

    def __init__(
        self,
        process: EngineProcess,
        eot_id: int,
        decoding: DecodingSpec,
        seed: int,
        context: int | None,
    ) -> None:
        """Sample by `process`, which has loaded a model of `context` positions."""
        self.process, self.eot_id, self.seed = process, eot_id, seed
        self.decoding, self.context = decoding, context

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """See `Engine.generate`.

        Raises:
            ModelError: the model's logits are not numbers, or vLLM refuses a request.
            EngineDiedError: the process of vLLM has ended.

        """
        return answers_of(self, requests)

    def serve(self, arriving: Arriving) -> Iterator[tuple[int, SampledResponse]]:
        """See `ServingEngine.serve`."""
        sampled: dict[int, Row] = {}
        arrived, more = 0, True
        try:
            while more or sampled:
                asked = arriving(not sampled) if more else ()
                more = asked is not None
                rows = Row.begin(asked or (), arrived, self.decoding, self.context)
                arrived += len(rows)
                yield from ((row.number, row.response()) for row in rows if row.limit <= 0)
                started = [row for row in rows if row.limit > 0]
                sampled |= {row.number: row for row in started}
                if started:
                    self.process.send([self._message(row) for row in started])
                if sampled:
                    row = self._filled(sampled, self.process.receive())
                    yield row.number, row.response()
        except BaseException:
            self.process.end()  # what it still says would be taken for the next answers
            raise

    def _message(self, row: Row) -> dict[str, Any]:
        return {
            "id": row.number,
            "token_ids": list(row.request.token_ids),
            "limit": row.limit,
            "address": row.address(self.seed),
        }

    def _filled(self, sampled: dict[int, Row], answer: dict[str, Any]) -> Row:
        row = sampled.pop(answer["id"])
        if "refused" in answer:
            raise ModelError(
                f"prompt {row.request.prompt_key[:12]}: vLLM refuses it ({answer['refused']}); "
                "--set generate.engine=transformers samples it"
            )
        for token, logprob in zip(answer["token_ids"], answer["logprobs"], strict=True):
            row.add(token, logprob, self.eot_id)
        if not row.finished:  # at a context that vLLM alone knows
            row.finish_reason = "length"
        return row


def load_vllm(spec: GenerateSpec, model: ModelSpec, seed: int, storage: Storage) -> LoadedEngine:
    """Load a model with vLLM; see `lima.generation.engines.LoadEngine`.

    Raises:
        InputError: vLLM is not installed.
        EngineDiedError: vLLM ended while it loaded the model.

    """
    python = vllm_python()
    path, (tokenizer, eot_id, _) = taught_tokenizer(model, storage)
    config = saved_config(path, model)
    context = context_length(config.to_dict())
    settings = {
        "device": spec.compute.device,
        "eot_id": eot_id,
        "arguments": {
            "model": path,
            "revision": model.revision,
            "max_model_len": context,
            "max_num_seqs": spec.batch_size,
            "additional_config": {DECODING: msgspec.to_builtins(spec.decoding)},
            **_compute(spec.compute),
            **_cache(spec, config, context),
        },
    }
    engine = VllmEngine(start_vllm(python, settings), eot_id, spec.decoding, seed, context)
    return LoadedEngine(engine, tokenizer, eot_id)


def _compute(compute: ComputeSpec) -> dict[str, Any]:
    """Return vLLM's arguments for a worker: its weights are cut over all of its GPUs."""
    gpus = compute.gpus_per_worker if compute.device == "cuda" else 1
    backend = "mp" if gpus > 1 else "uni"
    return {
        "dtype": DTYPES[compute.precision],
        "tensor_parallel_size": gpus,
        "distributed_executor_backend": backend,
    }


def _cache(spec: GenerateSpec, config: Any, context: int | None) -> dict[str, Any]:
    """Return how much memory keys and values get on each GPU, or on a CPU.

    Unless told, vLLM takes what a GPU has left. On a CPU it would take nearly all of the machine's,
    which is not this worker's alone.
    """
    cuda = spec.compute.device == "cuda"
    if context is None or (cuda and spec.batch_tokens is None):
        return {}
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    place = (
        2
        * config.num_hidden_layers
        * heads_of(config)
        * width
        * (4 if spec.compute.precision == "fp32" else 2)
    )
    row = min(context, ROOM + spec.decoding.max_new_tokens)
    places = ROOM + max(context, spec.batch_tokens or spec.batch_size * row)
    # A head of keys and values is on one GPU at least.
    gpus = min(spec.compute.gpus_per_worker, heads_of(config)) if cuda else 1
    return {"kv_cache_memory_bytes": -(-place * places // gpus)}
