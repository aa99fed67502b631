"""How large the state of a training run is, before anything is loaded."""

import re

from lima.spec import CellSpec, ComputeSpec, ModelSpec, ShapeSpec, TrainSpec, gpus, training_compute

GIB = 2**30
GPU_BYTES = 80 * GIB
"""Of a model whose size cannot be known here, the state is not larger than its GPUs."""
SAVED_BYTES = 12
"""A parameter's part of a saved state: itself in fp32 and both moments of AdamW."""

LOGITS = 2**24
"""Logits of packed batches that a worker holds at a time: 64 MiB in fp32."""
EXPORTED_BYTES = {"bf16": 2, "fp32": 4}
"""A parameter's part of exported weights."""
COLLECTIVE_TIMEOUT_S = 1800
"""That workers wait for each other in a collective; neither storage nor a disk is waited for in
one (see `world.World`)."""


def copy_bytes(size: int, *, pinned: bool) -> int:
    """Return the memory that a copy of `size` bytes takes: torch pins powers of two."""
    return 1 << (size - 1).bit_length() if pinned and size else size


def state_gib(cell: CellSpec) -> float:
    """Return the size of the state that the largest training of `cell` saves, in GiB; 0: none."""
    trained = [spec for spec in (cell.base, cell.train) if spec]
    return round(max((_state_bytes(spec) for spec in trained), default=0) / GIB, 1)


def _state_bytes(spec: TrainSpec) -> float:
    parameters = model_parameters(spec.model)
    if parameters is None:
        return _largest_state(training_compute(spec))
    return parameters * SAVED_BYTES


def _largest_state(compute: ComputeSpec) -> float:
    return gpus(compute) * GPU_BYTES


def model_parameters(model: ModelSpec) -> float | None:
    """Return how many parameters a model has, by its shape or its name (`llama-65b`), if known."""
    if model.shape:
        return shape_parameters(model.shape)
    named = re.search(r"(?<!\d)(\d+(?:\.\d+)?)b(?![a-z])", model.path.lower())
    return float(named[1]) * 1e9 if named else None


def shape_parameters(shape: ShapeSpec) -> int:
    """Return the parameters of a LLaMA of this shape; embedding and head are not tied."""
    width = shape.hidden_size
    layer = 4 * width * width + 3 * width * shape.intermediate_size + 2 * width
    return shape.layers * layer + 2 * shape.vocab_size * width + width
