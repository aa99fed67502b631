"""How the workers of one machine find each other: by a file that no other user can read.

Ray Train has them meet at a TCP port, which takes whoever comes: another user of the machine could
send them to itself, and what they tell each other is unpickled.
"""

import contextlib
import os
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import ray.train
import ray.train.collective
import ray.train.torch
import torch.distributed as dist
from ray.train.backend import Backend
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy

from lima.training.world import World


class GivenMachines(FixedScalingPolicy):  # type: ignore[misc]  # Ray has no types
    """Asks nobody for machines: a job of ours is given all of them before it starts.

    Ray Train's own policy starts an actor, the AutoscalingCoordinator, only to ask it.
    """

    def after_controller_start(self, train_run_context: Any) -> None:
        """Start no coordinator."""

    def _maybe_send_resource_request(self) -> None:
        """Ask for nothing, also while training goes on."""


class LeanTrainer(TorchTrainer):  # type: ignore[misc]
    """Trains without actors of no use to us: no dataset is Ray's, all machines are there."""

    without = frozenset({"DatasetsCallback"})
    """What Ray Train would start, and this does not."""

    def _create_default_callbacks(self) -> list[Any]:
        started = super()._create_default_callbacks()
        return [callback for callback in started if type(callback).__name__ not in self.without]

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        given["scaling_policy"] = GivenMachines(self.scaling_config)
        return super()._initialize_and_run_controller(**given)


class LocalTrainer(LeanTrainer):
    """Trains without the actor that tidies up after a dead controller: this Ray dies with its job.

    That actor looks for its Ray in the list of all processes, and fails where another one, or what
    looks like one, is on the machine.
    """

    without = LeanTrainer.without | {"PlacementGroupCleanerCallback"}


class Unmet(TorchConfig):  # type: ignore[misc]
    """Makes Ray Train start the workers and leave it to them to make their process group."""

    @property
    def backend_cls(self) -> type[Backend]:
        """Return what looks after the workers."""
        return _Unmet


class _Unmet(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True  # as TorchConfig's does: LOCAL_RANK numbers them


@contextlib.contextmanager
def private_world(backend: str, folder: Path, wait_s: int) -> Iterator[World]:
    """Make the process group of this worker, which Ray Train has started, with the others.

    Args:
        backend: What they talk by, `nccl` or `gloo`.
        folder: Where they meet; the owner alone may enter it.
        wait_s: Seconds that they wait for each other in a collective.

    """
    context, device = ray.train.get_context(), ray.train.torch.get_device()
    rank, size = context.get_world_rank(), context.get_world_size()
    local = context.get_local_rank()
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(local), WORLD_SIZE=str(size))
    # A new file for each start of the group: the old one says where the dead were.
    file = ray.train.collective.broadcast_from_rank_zero(str(folder / f"group-{uuid.uuid4().hex}"))
    store = dist.FileStore(file, size)  # type: ignore[attr-defined]
    wait = timedelta(seconds=wait_s)
    dist.init_process_group(backend, timeout=wait, store=store, rank=rank, world_size=size)
    yield World(rank, size, device)
    # Not after an error: others may wait for this worker, and Ray ends them all.
    dist.destroy_process_group()
