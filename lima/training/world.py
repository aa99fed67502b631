"""The workers of a training run, as one sees the others."""

from dataclasses import dataclass

import torch
import torch.distributed as dist

LONGEST_MESSAGE = 2000
"""Bytes of what a worker says to the others."""


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

    def told(self, message: str) -> str:
        """Return what one of the workers has to say; empty: none has. Every worker gets it."""
        speaker = torch.tensor([self.rank + 1 if message else 0], device=self.device)
        dist.all_reduce(speaker, op=dist.ReduceOp.MAX)
        if not speaker.item():
            return ""
        words = message.encode()[:LONGEST_MESSAGE].ljust(LONGEST_MESSAGE, b"\0")
        text = torch.frombuffer(bytearray(words), dtype=torch.uint8).to(self.device)
        dist.broadcast(text, src=int(speaker.item()) - 1)
        return bytes(text.tolist()).rstrip(b"\0").decode(errors="replace")

    def sum(self, *values: float) -> list[float]:
        """Return the sums over all workers, in double precision."""
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(v) for v in total.tolist()]
