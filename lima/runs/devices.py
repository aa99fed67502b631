"""What this machine has to compute with, without the libraries that use it."""

import os
from collections.abc import Sequence
from pathlib import Path

from lima.errors import InputError
from lima.runs.vllm_python import missing_vllm
from lima.spec import CellSpec, computes, gpus

VISIBLE = "CUDA_VISIBLE_DEVICES"
NONE_VISIBLE = ("", "-1", "NoDevFiles")
BF16_FLAGS = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""What Linux calls it, on x86 and on Arm."""
UNCOUNTED = (
    *("dev/dxg", "dev/kfd", "dev/nvhost*gpu"),
    "proc/driver/nvidia/capabilities/gpu*/mig/gi*",
)
"""GPUs of WSL, AMD and Tegra, and parts of GPUs: there are some; how many, others know."""


def gpus_here(root: Path = Path("/")) -> int | None:
    """Return how many GPUs a process on this machine can use; None: that cannot be told.

    Args:
        root: of the file system, for tests.

    """
    visible = os.environ.get(VISIBLE)
    if visible is not None and visible.strip() in NONE_VISIBLE:
        return 0
    if any(any(root.glob(pattern)) for pattern in UNCOUNTED):
        return None
    there = len(list(root.glob("dev/nvidia[0-9]*")))
    return there if visible is None else min(there, len(visible.split(",")))


def has_bf16(root: Path = Path("/")) -> bool:
    """Say whether the CPU of this machine computes in bf16, which is then faster than fp32.

    Args:
        root: of the file system, for tests.

    """
    try:
        text = (root / "proc/cpuinfo").read_text("utf-8", errors="replace")
    except OSError:
        return False
    return not BF16_FLAGS.isdisjoint(text.split())


def missing_gpus(cell: CellSpec, there: int | None) -> list[tuple[str, str, str]]:
    """Return what this machine lacks for the stages of a cell: (path, what is wrong, advice).

    Args:
        cell: The run.
        there: GPUs that there are (see `gpus_here`); None: nothing is lacking, as far as known.

    """
    if there is None:
        return []
    found = []
    for stage, compute in computes(cell).items():
        needed, path = gpus(compute), f"{stage}.compute"
        if needed > there:
            what = f"{stage} asks for GPUs: {needed}, and this machine has {there or 'none'}"
            advice = f"--set {path}.device=cpu --set {path}.precision=fp32, or a cluster"
            found.append((f"{path}.device", what, advice))
    return found


def missing_here(cell: CellSpec, there: int | None) -> list[tuple[str, str, str]]:
    """Return all that this machine lacks for a cell: as `missing_gpus`, and the engine."""
    return [*missing_gpus(cell, there), *missing_vllm(cell)]


def require_machine(cells: Sequence[CellSpec]) -> None:
    """Refuse cells whose stages ask for GPUs, or an engine, that this machine does not have.

    Raises:
        InputError: it says which stage, what there is, and what to set.

    """
    there = gpus_here()
    found = dict.fromkeys(lack for cell in cells for lack in missing_here(cell, there))
    if found:
        lines = "\n".join(f"  {path}: {what}; {advice}" for path, what, advice in found)
        raise InputError(f"this machine cannot run this study:\n{lines}")
