"""What certifies a training: a chain of hashes over its steps, and what lost attempts had found.

STORAGE/checkpoints/run_id=R/traces/20261130T120000000000Z-1a2b3c4d.json    one a start

A step's link is the hash of its row and of the link before. The rows of steps whose work was lost
go; the trace of the attempt that took them stays, so that the steps can be compared with those that
were taken in their place.
"""

import hashlib
import json
import threading
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import msgspec

from lima.common.clock import now
from lima.common.typed_json import DamagedJsonError, decoded
from lima.errors import StorageError
from lima.model.checkpoint_manifest import checkpoints_path
from lima.runs.progress import INTERVAL_S
from lima.spec.codec import canonical_json
from lima.store.storage import Storage

LINKED = (
    "step",
    "epoch",
    "loss",
    "learning_rate",
    "gradient_norm",
    "examples",
    "tokens",
    "target_tokens",
    "workers",
    "draws",
)
"""Columns of `steps` that a link stands for: all but times."""


class _Step(msgspec.Struct):
    """A step of a trace: the columns of `LINKED`, and its link."""

    step: int
    epoch: float
    loss: float
    learning_rate: float
    gradient_norm: float | None
    examples: int
    tokens: int
    target_tokens: int
    workers: int
    draws: int
    chain: str


class _Steps(msgspec.Struct):
    steps: list[_Step]


def link(before: str, row: Mapping[str, Any]) -> str:
    """Return the link of a step.

    Args:
        before: Link of the step before; empty: there is none.
        row: Of the step, with the columns of `LINKED`.

    """
    values = {name: row[name] for name in LINKED}
    return hashlib.sha256(f"{before}\n{canonical_json(values)}".encode()).hexdigest()


def traces_path(run: str) -> str:
    """Return the folder of a run's traces."""
    return f"{checkpoints_path(run)}/traces"


class Trace:
    """The steps of one attempt, written beside training; losing a write never fails the run."""

    def __init__(self, storage: Storage, run: str) -> None:
        """Name the trace of an attempt that begins now."""
        name = f"{now():%Y%m%dT%H%M%S%fZ}-{uuid.uuid4().hex[:8]}"
        self.storage, self.path = storage, f"{traces_path(run)}/{name}.json"
        self._steps: list[dict[str, Any]] = []
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, "trace")
        self._writing: Future[None] | None = None
        self._next = 0.0

    def add(self, row: Mapping[str, Any]) -> None:
        """Add a step; it is written at once, or with a later one if the last write is young."""
        with self._lock:
            self._steps.append({name: row[name] for name in (*LINKED, "chain")})
        due = time.monotonic() >= self._next
        if due and (self._writing is None or self._writing.done()):
            self._next = time.monotonic() + INTERVAL_S
            self._writing = self._pool.submit(self._write)

    def _write(self) -> None:
        with self._lock:
            content = json.dumps({"steps": self._steps}).encode()
        try:
            self.storage.write(self.path, content, replace=True)
        except StorageError:
            return

    def close(self) -> None:
        """Write what is left, if there is a step at all."""
        if self._steps:
            self._pool.submit(self._write)
        self._pool.shutdown(wait=True)


def read_traces(storage: Storage, run: str) -> dict[str, list[dict[str, Any]]]:
    """Return the steps of each attempt, by its name, oldest first; a damaged trace has none."""
    found = {}
    for entry in storage.entries(traces_path(run)):
        name = entry.path.rsplit("/", 1)[-1].removesuffix(".json")
        try:
            steps = decoded(storage.read(entry.path), _Steps).steps
            found[name] = [msgspec.structs.asdict(step) for step in steps]
        except DamagedJsonError:
            found[name] = []
    return found
