"""Which examples each step sees, and at which learning rate (section 3).

The epochs form one stream that is cut into batches, so that 1,000 examples in batches of 32
make 31.25 steps an epoch and 469 steps in 15 epochs. Only the last batch may be smaller.
"""

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from lima.spec import OptimizerSpec, TrainSpec


@dataclass(frozen=True)
class Plan:
    """The steps of a training run over `examples` examples."""

    examples: int
    epochs: int
    batch_size: int
    seed: int

    @property
    def total_steps(self) -> int:
        """Optimizer steps of the whole run."""
        return math.ceil(self.epochs * self.examples / self.batch_size)

    @property
    def steps_per_epoch(self) -> float:
        """Optimizer steps an epoch; need not be whole."""
        return self.examples / self.batch_size

    def epochs_ending_at(self, step: int) -> list[int]:
        """Return the epochs that end with `step` (several if a batch spans epochs)."""
        before = (step - 1) * self.batch_size // self.examples
        seen = min(step * self.batch_size, self.epochs * self.examples)
        return list(range(before + 1, seen // self.examples + 1))

    def epoch_after(self, step: int) -> float:
        """Return how many passes over the data are done after `step`."""
        return min(step * self.batch_size / self.examples, float(self.epochs))

    def batch(self, step: int) -> list[int]:
        """Return the indices of the examples of `step` (1 is the first)."""
        start = (step - 1) * self.batch_size
        stop = min(start + self.batch_size, self.epochs * self.examples)
        return [self._at(position) for position in range(start, stop)]

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, self.examples)
        return _order(self.examples, self.seed, epoch)[offset]


@lru_cache(maxsize=4)
def _order(examples: int, seed: int, epoch: int) -> tuple[int, ...]:
    """Return the order of the examples in an epoch."""
    order = list(range(examples))
    random.Random(f"{seed}/{epoch}").shuffle(order)
    return tuple(order)


def exported_epochs(spec: TrainSpec) -> range:
    """Return the epochs whose weights are exported: those asked for, as far as there are any.

    A run that ends before the first of them exports its last epoch, never nothing.
    """
    last = min(spec.checkpoints.last_epoch, spec.epochs)
    return range(min(spec.checkpoints.first_epoch, last), last + 1)


def exports_after(spec: TrainSpec, plan: Plan, step: int) -> list[int]:
    """Return the epochs that end with `step` and whose weights are exported."""
    ended = plan.epochs_ending_at(step) if step else []
    return [epoch for epoch in ended if epoch in exported_epochs(spec)]


def state_is_due(spec: TrainSpec, plan: Plan, step: int) -> bool:
    """Say whether the state is saved after `step`: as asked for, before exports, and at the end."""
    every = spec.checkpoints.state_every_steps
    due = step % every == 0 if every else bool(plan.epochs_ending_at(step))
    return due or bool(exports_after(spec, plan, step)) or step == plan.total_steps


def learning_rate(spec: OptimizerSpec, step: int, total_steps: int) -> float:
    """Return the learning rate of `step`: exactly `lr_start` at 1, exactly `lr_end` at the last."""
    if total_steps == 1:
        return spec.lr_start
    done = (step - 1) / (total_steps - 1)
    return spec.lr_start * (1 - done) + spec.lr_end * done
