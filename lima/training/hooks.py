"""What the surroundings of a training want to know and to say while it runs."""

from collections.abc import Callable
from dataclasses import dataclass

from lima.training.step_rows import StepRecord


@dataclass(frozen=True)
class Saved:
    """Something that is whole on storage: `state` or `weights` after a step."""

    kind: str
    step: int
    stall_seconds: float
    """That training stood still for it, and for what was saved with it."""
    seconds: float
    """From then until it was whole."""
    bytes: int


@dataclass(frozen=True)
class Hooks:
    """Calls of the training loop."""

    on_step: Callable[[StepRecord, int], None]
    """Called by worker 0 after each step, with the total of steps."""
    should_stop: Callable[[], bool]
    """Asked after each step: whether to save the state and stop."""
    on_saved: Callable[[Saved], None] = lambda _: None
    """Called by worker 0 when something is whole on storage, from another thread."""
    on_idle: Callable[[float], None] = lambda _: None
    """Called by worker 0 when training stood still for saving, with the seconds."""
