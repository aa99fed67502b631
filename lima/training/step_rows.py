"""The rows that a training run leaves, in step with its saved states."""

import logging
import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from lima.common.clock import now
from lima.runs.trackers.curves import Curves
from lima.spec import CellSpec
from lima.store.shards import RunTable, bad_shard
from lima.store.storage import Storage
from lima.store.tables import METRICS, STEPS
from lima.training.chain import Trace, link

log = logging.getLogger(__name__)
SHOWN = ("loss", "learning_rate", "gradient_norm", "epoch")
"""Of a step, that trackers show."""
_SHARD = re.compile(r"steps-(\d{8})-(\d{8})")


@dataclass(frozen=True)
class StepRecord:
    """What one optimizer step was; see `results.STEPS` for the units."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float | None
    examples: int
    tokens: int
    target_tokens: int
    seconds: float
    at: datetime
    workers: int
    draws: int
    chain: str = ""
    stall_seconds: float | None = None


class Records:
    """Collects rows and writes them as shards that match the saved states."""

    def __init__(self, storage: Storage, cell: CellSpec) -> None:
        """Write the rows of the run of `cell`."""
        self.storage = storage
        self.steps = RunTable(storage, STEPS, cell)
        self.metrics = RunTable(storage, METRICS, cell)
        self.curves = Curves(storage, cell)
        self.pending: list[StepRecord] = []
        self._chain = ""
        self._trace: Trace | None = None

    def rewind(self, step: int) -> None:
        """Drop the rows of steps after `step`: their work was lost and will be done again."""
        for shard in self.steps.shards():
            name = _SHARD.fullmatch(shard)
            if not name:
                raise bad_shard(self.storage, self.steps.path(shard), "not named by its steps")
            if int(name[1]) > step:
                log.warning("rows %s belong to work that was lost; they are written again", shard)
                self.storage.delete(self.steps.path(shard))
        kept = self.steps.read(["step", "chain"]).to_pylist()
        self._chain = next((r["chain"] or "" for r in kept if r["step"] == step), "")
        self.curves.rewind(step)

    def add(self, record: StepRecord) -> None:
        """Collect a step, with its link to the one before."""
        self._chain = link(self._chain, asdict(record))
        self.pending.append(replace(record, chain=self._chain))
        if self._trace is None:
            self._trace = Trace(self.storage, str(self.steps.identity["run_id"]))
        self._trace.add(asdict(self.pending[-1]))
        values = {name: getattr(record, name) for name in SHOWN}
        speed = record.tokens / record.seconds
        self.curves.add(record.step, {**values, "tokens_per_second": speed})

    def close(self, *, complete: bool) -> None:
        """Write what lost steps would be compared with, and the last of the curves.

        Args:
            complete: Whether training came to its last step.

        """
        if self._trace:
            self._trace.close()
        self.curves.close(complete=complete)

    def stalled(self, seconds: float) -> None:
        """Add to the last step what training stood still after it, in seconds."""
        if self.pending:
            last = self.pending[-1]
            whole = (last.stall_seconds or 0.0) + seconds
            self.pending[-1] = replace(last, stall_seconds=whole)

    def take(self) -> list[StepRecord]:
        """Return the collected steps, and collect anew."""
        self.curves.flush()
        taken, self.pending = self.pending, []
        return taken

    def write(self, rows: list[StepRecord]) -> None:
        """Write steps as one shard; must precede the state after them."""
        if rows:
            name = f"steps-{rows[0].step:08d}-{rows[-1].step:08d}"
            self.steps.write(name, [asdict(row) for row in rows])

    def measured(self, epoch: int, step: int, values: dict[str, float], tokens: int) -> None:
        """Write the measurements of the checkpoint of an epoch as one shard."""
        common = {"epoch": epoch, "step": step, "tokens": tokens, "at": now()}
        rows = [{**common, "name": name, "value": value} for name, value in values.items()]
        self.metrics.write(f"epoch-{epoch:04d}", rows)
        self.curves.add(step, values)
