"""What the steps of a training compute, by the lengths that its examples have.

The steps of one epoch are laid out as the trainer lays them (`lima.training.batches`), over the
same workers, in one order of the many that seeds give.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass

from lima.spec import TrainSpec
from lima.training.packing import pack


@dataclass(frozen=True)
class StepLoad:
    """A step of training, the mean over an epoch unless said otherwise.

    Args:
        tokens: of its examples: what the step learns from.
        computed: with the padding.
        pairs: sum of the squares of the lengths of its rows of attention: what attention costs.
        passes: micro-steps, of which each gathers all weights.
        waited: tokens that all workers together have time for while the slowest one of each
            micro-step computes.
        longest: tokens of the largest micro-batch of the epoch.

    """

    tokens: float
    computed: float
    pairs: float
    passes: float
    waited: float
    longest: int

    @property
    def padding(self) -> float:
        """Share of the computed tokens that are none of an example."""
        return 1 - self.tokens / self.computed if self.computed else 0.0

    @property
    def idle(self) -> float:
        """Share of the workers' time that they wait for the slowest of a micro-step."""
        return 1 - self.computed / self.waited if self.waited else 0.0


def step_load(lengths: Sequence[int], spec: TrainSpec, workers: int) -> StepLoad:
    """Return what a step computes.

    Args:
        lengths: Tokens of each example of an epoch; longer ones than `max_length` are trimmed.
        spec: Of the stage.
        workers: Among whom a step is divided.

    """
    trimmed = [min(length, spec.max_length) for length in lengths]
    random.Random(spec.data.seed).shuffle(trimmed)
    steps = [
        _step(trimmed[at : at + spec.batch_size], spec, workers)
        for at in range(0, len(trimmed), spec.batch_size)
    ]
    count = len(steps)
    return StepLoad(
        tokens=sum(trimmed) / count,
        computed=sum(s.computed for s in steps) / count,
        pairs=sum(s.pairs for s in steps) / count,
        passes=sum(s.passes for s in steps) / count,
        waited=sum(s.waited for s in steps) / count,
        longest=max(s.longest for s in steps),
    )


def _step(lengths: Sequence[int], spec: TrainSpec, workers: int) -> StepLoad:
    packed = spec.compute.batching != "padded"  # what others add is taken to waste as little
    micro = spec.compute.micro_batch_size
    if packed:
        groups = pack(lengths, micro * spec.max_length, workers)
        parts = [[[lengths[i] for i in mine] for mine in group] for group in groups]
    else:
        dealt = [list(lengths[rank::workers]) for rank in range(workers)]
        count = math.ceil(spec.batch_size / (workers * micro))
        parts = [[d[i * micro : (i + 1) * micro] for d in dealt] for i in range(count)]

    def size(part: Sequence[int]) -> int:
        return sum(part) if packed else len(part) * max(part, default=0)

    sizes = [[size(part) for part in group] for group in parts]
    rows = [length for group in parts for part in group for length in part]
    widest = [max(part) for group in parts for part in group for _ in part]
    return StepLoad(
        tokens=sum(rows),
        computed=sum(map(sum, sizes)),
        pairs=sum(length**2 for length in (rows if packed else widest)),
        passes=len(parts),
        waited=sum(max(group) * workers for group in sizes),
        longest=max(map(max, sizes)),
    )
