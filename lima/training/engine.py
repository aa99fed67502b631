"""A model under DeepSpeed ZeRO-3: on GPUs with NCCL and bf16, on CPUs with gloo and fp32."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

from lima.spec import ComputeSpec, TrainSpec

PERSISTENT = 1_000_000
"""Weights with no more elements are not partitioned: gathering them costs more than it saves."""
CPU_BUCKET = 50_000_000
"""Elements of gradients that CPUs reduce at a time; of DeepSpeed's own 2 GB the most stay empty."""


def prepare_environment(device: str) -> None:
    """Set DeepSpeed up for `device`; must come before anything else uses it."""
    # Nothing here is compiled, but DeepSpeed asks for a compiler, which takes seconds to import.
    os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    if device != "cpu":
        return
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    # Else it runs `numactl` each time that gradients are reduced, to count what it does not use.
    os.environ.setdefault("LOCAL_SIZE", "1")
    from deepspeed import ops
    from deepspeed.utils import nvtx

    # A CPU has no NVTX: what is called around hundreds of calls a step does nothing there.
    nvtx.enable_nvtx = False
    # It would compile its shared-memory collectives, a minute and a compiler; gloo serves.
    ops.__compatible_ops__["deepspeed_shm_comm"] = False


def deepspeed_config(spec: TrainSpec, workers: int) -> dict[str, Any]:
    """Return DeepSpeed's configuration; the loop itself says which part of a batch is the last."""
    compute = spec.compute
    cuda = compute.device == "cuda"
    zero: dict[str, Any] = {
        "stage": 3,
        "overlap_comm": cuda,
        "contiguous_gradients": True,
        # It saves the memory of a GPU; on CPUs it only costs a fifth of the speed.
        "memory_efficient_linear": cuda,
        "stage3_param_persistence_threshold": PERSISTENT,
    }
    if not cuda:
        zero["reduce_bucket_size"] = CPU_BUCKET
    if not cuda and workers == 1:
        # Nobody holds another part of gradients or weights.
        zero |= {"reduce_scatter": False, "stage3_prefetch_bucket_size": 0}
    if compute.offload != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": cuda}
    if compute.offload == "all":
        zero["offload_param"] = {"device": "cpu", "pin_memory": cuda}
    return {
        "train_micro_batch_size_per_gpu": compute.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": spec.optimizer.gradient_clip,
        "bf16": {"enabled": compute.precision == "bf16"},
        "zero_optimization": zero,
        # torch's own AdamW: DeepSpeed's would be compiled when the job starts.
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 10**9,
        "wall_clock_breakdown": False,
    }


@contextlib.contextmanager
def partitioned_loading(config: dict[str, Any]) -> Iterator[None]:
    """Let transformers load weights straight into ZeRO-3 partitions, never whole on a worker."""
    from transformers.integrations import HfDeepSpeedConfig

    marker = HfDeepSpeedConfig(config)
    try:
        yield
    finally:
        del marker


def start_engine(model: Any, spec: TrainSpec, config: dict[str, Any]) -> Any:
    """Return the DeepSpeed engine of a model."""
    import deepspeed

    _spare_hooks(model)
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=spec.optimizer.lr_start,
        betas=(spec.optimizer.beta1, spec.optimizer.beta2),
        eps=spec.optimizer.eps,
        weight_decay=spec.optimizer.weight_decay,
        fused=_fused(spec.compute),
    )
    engine, *_ = deepspeed.initialize(
        model=model, optimizer=optimizer, config=config, dist_init_required=False
    )
    return engine


def _spare_hooks(model: Any) -> None:
    """Let ZeRO-3 look after a layer, and not after each part of it, where the layer stays whole.

    It gathers the weights of a module before the module runs. Of a layer without partitioned
    weights there is nothing to gather, and to look for it in a dozen parts takes longer than a
    small model computes.
    """
    from deepspeed.utils import set_z3_leaf_module

    for layer in getattr(getattr(model, "model", None), "layers", ()):
        if all(getattr(p, "ds_numel", p.numel()) <= PERSISTENT for p in layer.parameters()):
            set_z3_leaf_module(layer, flag=True)


def set_learning_rate(engine: Any, rate: float) -> None:
    """Set the learning rate of the next step."""
    for group in engine.optimizer.param_groups:
        group["lr"] = rate


def _fused(compute: ComputeSpec) -> bool:
    return compute.device == "cuda" or compute.offload == "none"
