"""A run's own figures beside Ray's: what Prometheus reads at the metrics port of a pod.

Ray puts `ray_` before their names. Each process that knows something of a run says it: the largest
value of a run is the one that counts.
"""

import functools
import logging
import os
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lima.common.process import began
from lima.common.variables import SUBMITTED_AT
from lima.errors import LimaError
from lima.runs.effort import HOUR, effort_of, waited_seconds
from lima.spec import CellSpec, Stage, cell_stages, stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ATTEMPTS

log = logging.getLogger(__name__)
TAGS = ("experiment", "arm", "seed", "run", "stage")
STEP, STEPS, LOSS = "lima_step", "lima_steps", "lima_loss"
TOKENS, GPU_HOURS, QUEUE = "lima_tokens_per_second", "lima_gpu_hours", "lima_queue_seconds"
METRICS = {
    STEP: "Steps of the stage that are finished; of generation prompts, of judging responses.",
    STEPS: "Steps that the stage has.",
    LOSS: "Training loss of the last step, nats a token.",
    TOKENS: "Tokens a second that the stage reads or samples.",
    GPU_HOURS: "GPU hours that all attempts at the stage took so far.",
    QUEUE: "Seconds from the submission, or from the end of the last attempt, to this start.",
}
"""By their names, without Ray's `ray_`; tables have the same units."""


@functools.cache
def _gauge(name: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(name, METRICS[name], TAGS)


class RunMetrics:
    """Figures of one stage of a run, told to the Ray of this process; without one, to nobody."""

    def __init__(self, storage: Storage, cell: CellSpec, stage: Stage, gpus: int) -> None:
        """Tell of an attempt that begins now and holds so many GPUs."""
        self.storage, self.cell, self.stage = storage, cell, stage
        values = (cell.experiment, cell.arm, str(cell.seed), run_id(cell), stage)
        self.tags = dict(zip(TAGS, values, strict=True))
        self.gpus, self._started = gpus, time.monotonic()

    @functools.cached_property
    def _attempts(self) -> list[dict[str, Any]]:
        """Rows of the attempts at the stages up to this one, by their times."""
        own = stage_cell(self.cell, self.stage)
        tables = [RunTable(self.storage, ATTEMPTS, stage_cell(own, s)) for s in cell_stages(own)]
        try:
            rows = [row for table in tables for row in table.read().to_pylist()]
        except LimaError as error:  # a run does not fail for its figures
            log.warning("earlier attempts are not counted in the metrics: %s", error)
            return []
        return sorted(rows, key=lambda row: row["at"])

    @functools.cached_property
    def _spent(self) -> float:
        """GPU hours of the attempts at the stage that have ended."""
        return effort_of([row for row in self._attempts if row["stage"] == self.stage]).gpu_hours

    def tell_wait(self) -> None:
        """Say how long the run waited for this process to start."""
        if _is_heard():
            start = datetime.fromtimestamp(began(os.getpid()), UTC)
            self._tell({QUEUE: waited_seconds(self._attempts, _submitted(), start)})

    def __call__(self, done: int, total: int, figures: Mapping[str, Any]) -> None:
        """Say how far the stage is, as `Progress` is told."""
        # With a status the stage has not begun: neither number is one of its own.
        if "status" in figures or not _is_heard():
            return
        hours = (time.monotonic() - self._started) * self.gpus / HOUR
        self._tell(
            {
                STEP: done,
                STEPS: total,
                LOSS: figures.get("loss"),
                TOKENS: figures.get("tokens_per_second"),
                GPU_HOURS: self._spent + hours,
            }
        )

    def _tell(self, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None:
                _gauge(name).set(value, tags=self.tags)


def _is_heard() -> bool:
    """Say whether this process has a Ray; judging on this machine does without."""
    # Another thread may be importing it.
    is_initialized = getattr(sys.modules.get("ray"), "is_initialized", None)
    return is_initialized is not None and is_initialized()


def _submitted() -> datetime | None:
    """Return when the job was submitted; None: nobody has said, or not as a time."""
    try:
        return datetime.fromisoformat(os.environ[SUBMITTED_AT]).astimezone(UTC)
    except (KeyError, ValueError):
        return None
