"""The engines that `generate.engine` may name. One more is a loader in a file, and a line here."""

from collections.abc import Callable

from lima.generation.engine import LoadedEngine
from lima.generation.tensor_parallel.engine import load_tensor_parallel
from lima.generation.transformers_engine import TransformersEngine
from lima.generation.vllm.engine import load_vllm
from lima.model.loading import load_for_inference
from lima.spec import GenerateSpec, ModelSpec, names
from lima.store.storage import Storage

LoadEngine = Callable[[GenerateSpec, ModelSpec, int, Storage], LoadedEngine]
"""Loads the model that is sampled from (`run:STAGE` is resolved), for a seed of the noise. The spec
says how many responses are decoded together and on what; the storage may hold the model.

Raises a ModelError where it cannot be loaded."""


def load_transformers(
    spec: GenerateSpec, model: ModelSpec, seed: int, storage: Storage
) -> LoadedEngine:
    """Load a model with transformers, cut over the worker's GPUs; see `LoadEngine`."""
    if spec.compute.device == "cuda" and spec.compute.gpus_per_worker > 1:
        return load_tensor_parallel(spec, model, seed, storage, spec.compute.gpus_per_worker)
    loaded = load_for_inference(model, storage, spec.compute)
    engine = TransformersEngine(
        loaded.model,
        loaded.eot_id,
        spec.decoding,
        seed,
        spec.batch_size,
        batch_tokens=spec.batch_tokens,
    )
    return LoadedEngine(engine, loaded.tokenizer, loaded.eot_id)


ENGINES = names.Registry[LoadEngine](names.ENGINES)
ENGINES.add("transformers", load_transformers)
ENGINES.add("vllm", load_vllm)
