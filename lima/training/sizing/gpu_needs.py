"""What a recipe needs on GPUs: memory, bytes between GPUs and time, before anything is bought.

Estimates from published formulas, not measurements:

* [ZeRO]   Rajbhandari et al. 2020, ZeRO, sections 3.1, 5.3 and 7: states and communication.
* [ACT]    Korthikanti et al. 2022, Reducing Activation Recomputation, sections 4 and 5.
* [PALM]   Chowdhery et al. 2022, PaLM, appendix B: model FLOPs of a token and MFU.
* [LLAMA]  Touvron et al. 2023, LLaMA, table 2: shapes.
* [DS]     DeepSpeed's defaults of ZeRO-3 buffers, which lima.training.engine leaves alone.

docs/plan.md says each of them in words.
"""

import json
import re
from dataclasses import dataclass
from typing import Literal

from lima.common.paths import expanded, is_here
from lima.errors import InputError
from lima.model.context import text_part
from lima.spec import ComputeSpec, GenerateSpec, ModelSpec, ShapeSpec, TrainSpec
from lima.spec.hints import closest
from lima.training.sizing.real_lengths import StepLoad, step_load
from lima.training.sizing.state_size import LOGITS, shape_parameters

GIB = 2**30
CUDA_CONTEXT_BYTES = 2 * GIB
"""An allowance for CUDA, cuBLAS and NCCL, which hold memory that no formula counts."""
LIVE_PARAMETERS = 10**9
"""[DS] stage3_max_live_parameters: gathered at one time, beside a worker's own part."""
BUCKET_PARAMETERS = 5 * 10**8
"""[DS] reduce_bucket_size: gradients on their way; two of them with overlap_comm."""
SUB_GROUP_PARAMETERS = 10**9
"""[DS] sub_group_size: parameters that one optimizer step turns to fp32 at a time."""
FREE_SHARE = 0.06
"""Of the GPU that we leave for the allocator's fragments."""
MATMUL_SHARE = 0.6
"""Of the peak that large matrix products are taken to reach."""
LINK_SHARE = 0.8
"""Of a link's rate that NCCL's rings are taken to reach."""
Role = Literal["base", "train"]


@dataclass(frozen=True)
class Gpu:
    """A GPU by its maker's data sheet."""

    memory_gib: float
    bf16_flops: float
    """Dense operations a second."""
    link: float
    """Bytes a second to the GPUs of its node, one way."""
    network: float = 50e9
    """Bytes a second to other nodes: its share of 400 Gbit/s a GPU."""


GPUS = {
    "A100-40GB": Gpu(40, 312e12, 300e9, 12.5e9),
    "A100-80GB": Gpu(80, 312e12, 300e9, 25e9),
    "H100": Gpu(80, 989e12, 450e9),
    "H200": Gpu(141e9 / GIB, 989e12, 450e9),
    "B200": Gpu(180e9 / GIB, 2250e12, 900e9),
    "L40S": Gpu(48, 362e12, 32e9, 12.5e9),
}
"""NVIDIA's data sheets: memory, dense bf16, NVLink (PCIe 4 for L40S)."""

LLAMA = {
    "7b": ShapeSpec(32000, 4096, 32, 32, 11008, 2048),
    "13b": ShapeSpec(32000, 5120, 40, 40, 13824, 2048),
    "30b": ShapeSpec(32000, 6656, 60, 52, 17920, 2048),
    "65b": ShapeSpec(32000, 8192, 80, 64, 22016, 2048),
}
"""[LLAMA] and the feed-forward widths of its published weights."""


@dataclass(frozen=True)
class Memory:
    """Bytes of one GPU, part by part."""

    weights: float = 0
    gradients: float = 0
    optimizer: float = 0
    working: float = 0
    """Gathered weights, buckets and the fp32 copy of one optimizer step."""
    activations: float = 0
    logits: float = 0
    cache: float = 0
    """Keys and values of the responses that are decoded together."""
    context: float = CUDA_CONTEXT_BYTES

    @property
    def total(self) -> float:
        """All parts together."""
        return (
            self.weights
            + self.gradients
            + self.optimizer
            + self.working
            + self.activations
            + self.logits
            + self.cache
            + self.context
        )

    def fits(self, gpu: Gpu) -> bool:
        """Say whether a GPU holds it, with something left for fragments."""
        return self.total <= gpu.memory_gib * GIB * (1 - FREE_SHARE)


@dataclass(frozen=True)
class Pace:
    """The time of a training step, between two bounds."""

    compute_s: float
    communication_s: float
    flops: float
    """Model FLOPs of a step, [PALM], without those of padding."""
    gpus: int
    tokens: float
    """Of the examples of a step."""

    @property
    def best_s(self) -> float:
        """All communication hidden behind the computation."""
        return max(self.compute_s, self.communication_s)

    @property
    def worst_s(self) -> float:
        """None hidden."""
        return self.compute_s + self.communication_s

    def mfu(self, gpu: Gpu, seconds: float) -> float:
        """Return the share of the GPUs' peak that a step of `seconds` uses, [PALM]."""
        return self.flops / (seconds * self.gpus * gpu.bf16_flops)


def find_gpu(name: str) -> Gpu:
    """Return a GPU by its name.

    Raises:
        InputError: it is not known.

    """
    by_name = {known.lower(): gpu for known, gpu in GPUS.items()}
    try:
        return by_name[name.lower()]
    except KeyError:
        raise InputError(f"no GPU {name!r}; {closest(name, GPUS, 'GPUs')}") from None


def model_shape(model: ModelSpec) -> ShapeSpec:
    """Return the shape of a model: its own, that of a folder here, or of the LLaMA it is named for.

    Raises:
        InputError: none is known.

    """
    if model.shape:
        return model.shape
    if is_here(config := f"{model.path}/config.json"):
        return _saved_shape(config)
    name = model.path.lower()
    named = re.search(r"(?<!\d)(\d+)b(?![a-z])", name)
    size = f"{named[1]}b" if named and "llama" in name else ""
    if size not in LLAMA:
        raise InputError(
            f"{model.path}: its shape is not known; name a folder of this machine that holds it, "
            f"or give it as train.model.shape; known by name: LLaMA {', '.join(LLAMA)}"
        )
    return LLAMA[size]


def _saved_shape(config: str) -> ShapeSpec:
    """Return the shape that a saved model's config.json says."""
    try:
        found = text_part(json.loads(expanded(config).read_text("utf-8")))
        return ShapeSpec(
            vocab_size=found["vocab_size"],
            hidden_size=found["hidden_size"],
            layers=found["num_hidden_layers"],
            heads=found["num_attention_heads"],
            intermediate_size=found["intermediate_size"],
            context_length=found["max_position_embeddings"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{config}: says no shape of a decoder ({error!r})") from None


def training_memory(spec: TrainSpec, shape: ShapeSpec, workers: int) -> Memory:
    """Return the memory of one GPU that trains under ZeRO-3 over `workers` GPUs.

    [ZeRO] 3.1: mixed-precision Adam keeps 2 bytes of weight, 2 of gradient and 12 of optimizer
    a parameter (its fp32 copy and two moments); 5.3: stage 3 divides all by the workers.
    """
    parameters = shape_parameters(shape)
    width = 2 if spec.compute.precision == "bf16" else 4
    own = parameters / workers
    offload = spec.compute.offload
    states = 12 if width == 2 else 8
    live = min(LIVE_PARAMETERS, parameters)
    buckets = 2 * min(BUCKET_PARAMETERS, parameters)
    step = 0 if offload != "none" else 4 * min(SUB_GROUP_PARAMETERS, own)
    return Memory(
        weights=0 if offload == "all" else width * own,
        gradients=width * own,
        optimizer=0 if offload != "none" else states * own,
        working=width * (live + buckets) + step,
        activations=_activations(spec, shape, width),
        logits=_logits(spec, shape, width),
    )


def _logits(spec: TrainSpec, shape: ShapeSpec, width: int) -> float:
    """Return the bytes that a training step's logits need (see `lima.training.crossentropy`)."""
    if spec.compute.batching == "packed":
        # A chunk and its copies, and the gradient of the head, summed in fp32.
        return (2 * width + 8) * LOGITS + (width + 4) * shape.vocab_size * shape.hidden_size
    # The logits, and in fp32 their log-softmax, its gradient and that of the logits.
    return spec.compute.micro_batch_size * spec.max_length * shape.vocab_size * (width + 12)


def _activations(spec: TrainSpec, shape: ShapeSpec, width: int) -> float:
    """Return the bytes of activations, [ACT] table 2 without the attention matrix.

    PyTorch's attention never stores the matrix, which drops 5as/h from the 34 bytes (at 2 a
    number) of a token and unit of width. With checkpointing only the input of each layer is
    kept, and one layer in full while it is computed again (section 5).
    """
    tokens = spec.compute.micro_batch_size * spec.max_length
    layer = 34 * tokens * shape.hidden_size * width / 2
    if not spec.compute.gradient_checkpointing:
        return shape.layers * layer
    return shape.layers * tokens * shape.hidden_size * width + layer


def generation_memory(spec: GenerateSpec, shape: ShapeSpec) -> Memory:
    """Return the memory of one GPU that decodes a full batch to the end of the context.

    `batch_tokens` bounds the places of that batch, but for one row, which has them all.

    Keys and values: two numbers of `hidden_size` a layer and a token of context.
    """
    compute: ComputeSpec = spec.compute
    width = 2 if compute.precision == "bf16" else 4
    token = 2 * shape.layers * shape.hidden_size * width
    places = spec.batch_size * shape.context_length
    if spec.batch_tokens is not None:
        places = min(places, max(spec.batch_tokens, shape.context_length))
    return Memory(
        weights=width * shape_parameters(shape) / compute.gpus_per_worker,
        cache=places * token / compute.gpus_per_worker,
        logits=spec.batch_size * shape.vocab_size * (width + 4),
        working=4 * places * shape.hidden_size * width,
    )


def step_pace(
    spec: TrainSpec,
    shape: ShapeSpec,
    gpu: Gpu,
    nodes: int,
    per_node: int,
    *,
    load: StepLoad | None = None,
) -> Pace:
    """Return the time of a step.

    [PALM] B: 6 operations a parameter and token, and 12 a layer, width and token of context for
    attention, which a causal model halves. Checkpointing computes the forward pass twice, so a
    third more is really done ([ACT] 5). [ZeRO] 7.2.2: each pass moves three times the weights:
    gathered forward and backward, gradients scattered.

    Args:
        spec: Of the stage.
        shape: Of its model.
        gpu: That it runs on.
        nodes: Machines.
        per_node: GPUs of each.
        load: What a step computes; None: all examples have `max_length` tokens.

    """
    workers = nodes * per_node
    load = load or step_load([spec.max_length] * spec.batch_size, spec, workers)
    parameters = shape_parameters(shape)
    flops = 6 * parameters * load.tokens + 6 * shape.layers * shape.hidden_size * load.pairs
    done = flops * load.waited / load.tokens * (4 / 3 if spec.compute.gradient_checkpointing else 1)
    width = 2 if spec.compute.precision == "bf16" else 4
    moved = 3 * parameters * width * (workers - 1) / workers * load.passes
    rate = (gpu.network if nodes > 1 else gpu.link) * LINK_SHARE
    return Pace(
        compute_s=done / (workers * gpu.bf16_flops * MATMUL_SHARE),
        communication_s=moved / rate if workers > 1 else 0.0,
        flops=flops,
        gpus=workers,
        tokens=load.tokens,
    )
