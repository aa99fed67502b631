"""One worker's part of the state in the memory of its host: copied aside, and given back.

Of each weight that is its slice of the flat weight in fp32, and of both of AdamW's moments. The
weights of the model are these, rounded; the count of steps is that of training. So a state is
whole without anything else of DeepSpeed's, and knows no count of workers: slices laid end to end
are the weight.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lima.common.temporary import temporary_folder
from lima.training.sizing.state_size import copy_bytes
from lima.training.world import World

log = logging.getLogger(__name__)
MASTER = "master"
MOMENTS = ("exp_avg", "exp_avg_sq")
KINDS = (MASTER, *MOMENTS)
"""Of each weight: itself in fp32, and AdamW's moments by torch's names."""
ROOM = 1.25
"""Times what is copied that must be free in memory; else it goes to the disk."""


@dataclass(frozen=True)
class Slice:
    """A worker's part of a flat weight of `length` numbers: those from `start` to `stop`."""

    start: int
    stop: int
    length: int


def slice_of(length: int, rank: int, workers: int) -> Slice:
    """Return which part of a weight of `length` numbers ZeRO-3 gives to worker `rank`."""
    size = -(-length // workers)
    return Slice(min(rank * size, length), min((rank + 1) * size, length), length)


class Aside:
    """Tensors by `(weight, kind)`, flat and in fp32, as long as this worker's slices."""

    def __init__(self, slices: dict[str, Slice], *, pinned: bool = False, sharers: int = 1) -> None:
        """Take room for the slices of all weights.

        Args:
            slices: By the names of the weights.
            pinned: Whether GPUs copy into it.
            sharers: Workers that share the memory of this machine.

        """
        self.slices = slices
        total = len(KINDS) * sum(s.stop - s.start for s in slices.values())
        self._held = ExitStack()
        flat = self._room(total, pinned=pinned, sharers=sharers)
        self.tensors: dict[tuple[str, str], Tensor] = {}
        at = 0
        for name, part in slices.items():
            for kind in KINDS:
                count = part.stop - part.start
                self.tensors[name, kind] = flat[at : at + count]
                at += count

    def _room(self, total: int, *, pinned: bool, sharers: int) -> Tensor:
        free = _free_memory()
        if free is None or copy_bytes(4 * total, pinned=pinned) * sharers * ROOM <= free:
            return torch.empty(total, dtype=torch.float32, pin_memory=pinned)
        folder = self._held.enter_context(temporary_folder("lima-state-"))
        log.warning(
            "the host has no memory for a copy of the state (%.1f GiB a worker); it is kept in %s, "
            "which takes longer",
            4 * total / 2**30,
            folder,
        )
        file = folder / "state"
        return torch.from_file(str(file), shared=True, size=max(total, 1), dtype=torch.float32)

    def close(self) -> None:
        """Give the room back."""
        self.tensors = {}
        self._held.close()


def _free_memory() -> int | None:
    """Return the bytes of memory that this machine, or its container, has left; None: unknown."""
    found = [_meminfo(), _cgroup()]
    return min((value for value in found if value is not None), default=None)


def _meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = next((int(x.split()[1]) for x in lines if x.startswith("MemAvailable:")), None)
    return None if kib is None else 1024 * kib


def _cgroup() -> int | None:
    """Return what a container has left of its limit, where there is one (cgroup 2)."""
    place = Path("/sys/fs/cgroup")
    try:
        limit = int((place / "memory.max").read_text())
        used = int((place / "memory.current").read_text())
        stat = (place / "memory.stat").read_text().split()
        files = int(stat[stat.index("inactive_file") + 1])
    except (OSError, ValueError):
        return None
    return limit - used + files


class EngineState:
    """Copies between the partitions of a DeepSpeed engine (ZeRO-3) and memory aside."""

    def __init__(self, engine: Any, world: World) -> None:
        """Look at the weights of `engine`; room for a copy is taken when it is first needed."""
        self.engine, self.world = engine, world
        self.weights = dict(engine.module.named_parameters())
        self._aside: Aside | None = None

    @property
    def slices(self) -> dict[str, Slice]:
        """This worker's part of every weight."""
        return {
            name: slice_of(int(weight.ds_numel), self.world.rank, self.world.size)
            for name, weight in self.weights.items()
        }

    @property
    def aside(self) -> Aside:
        """The copy, as it was last taken or filled."""
        if self._aside is None:
            pinned = self.world.device.type == "cuda"
            sharers = int(os.environ.get("LOCAL_WORLD_SIZE") or self.world.size)
            self._aside = Aside(self.slices, pinned=pinned, sharers=sharers)
        return self._aside

    def take(self) -> Aside:
        """Copy the state aside; return the copy, which the next call overwrites."""
        tensors = self.aside.tensors
        for key, partition in self._partitions():
            tensors[key].copy_(partition.detach()[: len(tensors[key])], non_blocking=True)
        if self.world.device.type == "cuda":
            torch.cuda.synchronize(self.world.device)
        return self.aside

    def give_back(self, step: int) -> None:
        """Make the copy the state of the engine, after `step` steps of the optimizer."""
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        zero = self.engine.optimizer
        zero.checkpoint_event_prologue()
        for flat in zero.fp32_partitioned_groups_flat:
            # What AdamW makes at its first step.
            count = torch.tensor(float(step), dtype=torch.float32, device=flat.device)
            zeros = {name: torch.zeros_like(flat) for name in MOMENTS}
            zero.optimizer.state[flat].update(step=count, **zeros)
        for (name, kind), part in self.aside.tensors.items():
            weight = self.weights[name]
            value = torch.zeros(weight.ds_tensor.numel(), dtype=torch.float32)
            value[: len(part)] = part
            if kind == MASTER:
                safe_set_local_fp32_param(weight, value)
            else:
                safe_set_local_optimizer_state(weight, value, kind)
        for group in range(len(zero.fp16_groups)):
            zero._reassign_or_swap_out_partitioned_parameters(group)
        zero.checkpoint_event_epilogue()

    def _partitions(self) -> Iterator[tuple[tuple[str, str], Tensor]]:
        """Yield this worker's partitions, padded as ZeRO-3 pads them."""
        from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

        for name, weight in self.weights.items():
            yield (name, MASTER), safe_get_local_fp32_param(weight)
            for moment in MOMENTS:
                yield (name, moment), safe_get_local_optimizer_state(weight, moment)

    def close(self) -> None:
        """Give the room of the copy back."""
        if self._aside is not None:
            self._aside.close()
            self._aside = None
