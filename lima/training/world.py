"""The workers of a training run, as one sees the others."""

import contextlib
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from lima import errors
from lima.errors import LimaError

T = TypeVar("T")
FIRST_POLL_S, LAST_POLL_S = 0.02, 1.0


@dataclass(frozen=True)
class World:
    """This worker among all; a process group must have been made, of which there is one `World`.

    Collectives have a time limit, after which the whole group is started anew. What waits for
    storage or a hub must not be waited for in one: `each` and `led` wait as long as it takes. A
    worker that dies ends the wait of all: whoever started the group ends the others too.
    """

    rank: int
    size: int
    device: torch.device
    _turns: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)
    _turns_beside: Iterator[int] = field(default_factory=itertools.count, repr=False, compare=False)

    @property
    def leads(self) -> bool:
        """Whether this worker writes what only one may write."""
        return self.rank == 0

    def each(self, work: Callable[[], T]) -> T:
        """Let every worker do `work`, and wait for all; return this worker's result.

        Raises:
            LimaError: what `work` raised here, or else on another worker.

        """
        if self.size == 1:
            return work()
        turn = self._turn()
        with _told(f"{turn}/{self.rank}"):
            result = work()
        for rank in range(self.size):
            _heard(f"{turn}/{rank}")
        return result

    def led(self, work: Callable[[], T]) -> T:
        """Let worker 0 alone do `work`; return its result, which JSON can write, on all of them.

        Raises:
            LimaError: what `work` raised, on every worker.

        """
        if self.size == 1:
            return work()
        turn = self._turn()
        if not self.leads:
            return cast("T", _heard(turn))
        with _told(turn) as said:
            said["result"] = result = work()
        return result

    def collect(self, work: Callable[[], T], go_on: Callable[[], None]) -> list[T]:
        """Let every worker do `work` beside training, and worker 0 wait for all of them.

        One thread of a worker does so, in the same order on all of them.

        Args:
            work: Its result is one that JSON can write.
            go_on: Called while worker 0 waits; what it raises ends the wait.

        Returns:
            On worker 0 the results of all, by rank; elsewhere nothing.

        Raises:
            LimaError: what `work` raised here; on worker 0 also what it raised elsewhere.

        """
        if self.size == 1:
            return [work()]
        turn = f"lima/beside/{next(self._turns_beside)}"
        with _told(f"{turn}/{self.rank}") as said:
            said["result"] = work()
        if not self.leads:
            return []
        return [_heard(f"{turn}/{rank}", go_on) for rank in range(self.size)]

    def _turn(self) -> str:
        """Return the key of the next wait: all workers come to the same ones in the same order."""
        return f"lima/{next(self._turns)}"

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Say of each flag whether any worker raises it; every worker gets the same answer."""
        if self.size == 1:
            return flags
        seen = torch.tensor([int(flag) for flag in flags], device=self.device)
        dist.all_reduce(seen, op=dist.ReduceOp.MAX)
        return tuple(bool(flag) for flag in seen.tolist())

    def sum(self, *values: float) -> list[float]:
        """Return the sums over all workers, in double precision."""
        if self.size == 1:
            return [float(v) for v in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(total)
        return [float(v) for v in total.tolist()]


@contextlib.contextmanager
def _told(key: str) -> Iterator[dict[str, Any]]:
    """Tell the other workers, under `key`, how this went: what is yielded, or our own error."""
    said: dict[str, Any] = {}
    try:
        yield said
    except LimaError as error:
        _store().set(key, json.dumps({"error": type(error).__name__, "message": str(error)}))
        raise
    _store().set(key, json.dumps(said))


def _heard(key: str, meanwhile: Callable[[], None] = lambda: None) -> Any:
    """Wait for what another worker tells; return its result, or raise its error."""
    store, pause = _store(), FIRST_POLL_S
    while not store.check([key]):
        meanwhile()
        time.sleep(pause)
        pause = min(2 * pause, LAST_POLL_S)
    said = json.loads(store.get(key))
    if "error" in said:
        raise getattr(errors, said["error"], LimaError)(said["message"])
    return said.get("result")


def _store() -> Any:
    """Return the store of keys that the group was made with; worker 0 has its server."""
    return dist.distributed_c10d._get_default_store()
