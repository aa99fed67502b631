"""The workers of a training run, as one sees the others."""

from dataclasses import dataclass

import torch
import torch.distributed as dist


@dataclass(frozen=True)
class World:
    """This worker among all; a process group must have been made."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this worker writes what only one may write."""
        return self.rank == 0

    def barrier(self) -> None:
        """Wait until every worker is here."""
        dist.barrier()

    def any(self, flag: bool) -> bool:
        """Say whether `flag` is raised on any worker; every worker gets the same answer."""
        seen = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return bool(seen.item())

    def sum(self, *values: float) -> list[float]:
        """Return the sums over all workers, in double precision."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(v) for v in total.tolist()]
