"""The rows that a training run leaves, in step with its saved states."""

import json
import logging
import re
from dataclasses import asdict, dataclass
from datetime import datetime

from lima.common.clock import now
from lima.model.checkpoint_manifest import checkpoints_path
from lima.runs.board import Board
from lima.spec import CellSpec
from lima.store.shards import RunTable, bad_shard
from lima.store.storage import Storage
from lima.store.tables import METRICS, STEPS

log = logging.getLogger(__name__)
CURVES = ("loss", "learning_rate", "gradient_norm", "epoch")
"""Of a step, that TensorBoard shows."""
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


class Records:
    """Collects rows and writes them as shards that match the saved states."""

    def __init__(self, storage: Storage, cell: CellSpec) -> None:
        """Write the rows of the run of `cell`."""
        self.storage = storage
        self.steps = RunTable(storage, STEPS, cell)
        self.metrics = RunTable(storage, METRICS, cell)
        self.board = Board(storage, cell)
        self.pending: list[StepRecord] = []

    def rewind(self, step: int) -> None:
        """Drop the rows of steps after `step`: their work was lost and will be done again."""
        for shard in self.steps.shards():
            name = _SHARD.fullmatch(shard)
            if not name:
                raise bad_shard(self.storage, self.steps.path(shard), "not named by its steps")
            if int(name[1]) > step:
                log.warning("rows %s belong to work that was lost; they are written again", shard)
                self.storage.delete(self.steps.path(shard))
        self.board.rewind(step)

    def stepped(self, record: StepRecord) -> None:
        """Note a step, which is written with the next state."""
        self.pending.append(record)
        self.board.add(
            record.step,
            {name: getattr(record, name) for name in CURVES}
            | {"tokens_per_second": record.tokens / record.seconds},
        )

    def flush(self) -> None:
        """Write the collected steps as one shard; must precede the saving of their state."""
        self.board.flush()
        if self.pending:
            first, last = self.pending[0].step, self.pending[-1].step
            self.steps.write(f"steps-{first:08d}-{last:08d}", [asdict(r) for r in self.pending])
            self.pending = []

    def measured(self, epoch: int, step: int, values: dict[str, float], tokens: int) -> None:
        """Write the measurements of the checkpoint of an epoch as one shard."""
        common = {"epoch": epoch, "step": step, "tokens": tokens, "at": now()}
        rows = [{**common, "name": name, "value": value} for name, value in values.items()]
        self.metrics.write(f"epoch-{epoch:04d}", rows)
        self.board.add(step, values)


def completion_path(run: str) -> str:
    """Return where the mark lies that says that a training run is complete."""
    return f"{checkpoints_path(run)}/complete.json"


def mark_complete(storage: Storage, run: str, steps: int) -> None:
    """Say that all steps are done and all rows and weights are on storage."""
    storage.write(completion_path(run), json.dumps({"steps": steps}).encode())
