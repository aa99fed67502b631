"""What a worker saves while training goes on: states to resume from, and weights.

Training stands still only while they are copied to the memory of the host. One thread a worker
writes what was copied, one thing after another, so that

* whenever a state counts, the weights of all epochs before it do;
* a state that is due while something is on its way is put off to the next step at which nothing
  is, unless states are to be kept, which are then waited for.
"""

import time
from concurrent.futures import Future, wait
from typing import Any

from lima.common.temporary import temporary_folder
from lima.model.checkpoint_manifest import commit_weights, weights_epochs, weights_path
from lima.training.aside import Aside, EngineState
from lima.training.background import Background
from lima.training.export import Trained
from lima.training.hooks import Hooks, Saved
from lima.training.sharding import FILE_BYTES, INDEX, Shards, gather_shards
from lima.training.state import StateStore
from lima.training.step_rows import Records
from lima.training.tensorfiles import pieces
from lima.training.world import World

KEPT_STATES = 2
"""While a run trains: one to resume from, and one before it, should that be damaged."""


class Saver:
    """One worker's part in saving; every worker does the same in the same order."""

    def __init__(
        self, records: Records, world: World, hooks: Hooks, *, run: str, keep: int | None
    ) -> None:
        """Save what `run` trains, beside its rows; keep the last `keep` states while it trains."""
        self.storage, self.world, self.records = records.storage, world, records
        self.run, self.hooks = run, hooks
        self.states = StateStore(self.storage, run, world, keep or KEPT_STATES)
        self.background = Background()
        self.file_bytes = FILE_BYTES
        self._put_off = False
        self._exporting: Future[None] | None = None

    def equip(self, engine: Any, trained: Trained) -> None:
        """Say what is trained: its DeepSpeed engine, and the model with what belongs to it."""
        self.engine, self.trained = engine, trained
        self.state = EngineState(engine, self.world)

    def restore(self) -> int:
        """Load the last state that is whole, and drop the rows of later steps; return its step."""
        step = self.states.restore(lambda: self.state.aside, self.state.give_back)
        self.world.led(lambda: self.records.rewind(step))
        return step

    def save(self, step: int, epochs: list[int], *, due: bool, must: bool, busy: bool) -> None:
        """Begin to save the state and the weights of `epochs`, both after `step`.

        Args:
            step: Steps that are done.
            epochs: Those that end with it and whose weights are exported.
            due: Whether the state is to be saved now, or soon.
            must: Whether it is to be saved now, whatever is on its way.
            busy: Whether something is, on any worker.

        """
        self._put_off = self._put_off or due
        epochs = self._missing(epochs)
        saves = must or (self._put_off and not busy)
        if not saves and not epochs:
            return
        started = time.perf_counter()
        # Waits are never in a collective, which has a time limit.
        if busy and saves:
            self.world.each(self.background.drain)
        elif epochs:  # the host has memory for the weights of one
            self.world.each(self._await_export)
        aside = self.state.take() if saves else None
        gathered = [gather_shards(self.engine, self.world, self.file_bytes) for _ in epochs]
        stall = time.perf_counter() - started
        self._stood_still(stall)
        if aside is not None:
            self._put_off = False
            self._add_state(step, aside, started, stall)
        for epoch, shards in zip(epochs, gathered, strict=True):
            self._add_weights(step, epoch, shards, started, stall)

    def _await_export(self) -> None:
        if self._exporting:
            wait([self._exporting])
            self.background.check()

    def _stood_still(self, seconds: float) -> None:
        if self.world.leads:
            self.records.stalled(seconds)
            self.hooks.on_idle(seconds)

    def _missing(self, epochs: list[int]) -> list[int]:
        """Return the epochs whose weights are not there yet."""
        if not epochs:
            return []
        there = self.world.led(lambda: weights_epochs(self.storage, self.run))
        return [epoch for epoch in epochs if epoch not in there]

    def _add_state(self, step: int, aside: Aside, started: float, stall: float) -> None:
        rows = self.records.take() if self.world.leads else []

        def write() -> None:
            # A state without the rows of its steps must not count.
            self.records.write(rows)
            size = self.states.save(aside, step, self.background.go_on)
            self._tell("state", step, started, stall, size)

        self.background.add(write)

    def _add_weights(
        self, step: int, epoch: int, shards: Shards, started: float, stall: float
    ) -> None:
        def write() -> None:
            parts = self.world.collect(lambda: self._write(epoch, shards), self.background.go_on)
            if self.world.leads:
                files = {name: size for part in parts for name, size in part.items()}
                commit_weights(self.storage, self.run, epoch, files)
                self._tell("weights", step, started, stall, sum(files.values()))

        self._exporting = self.background.add(write)

    def _write(self, epoch: int, shards: Shards) -> dict[str, int]:
        """Write this worker's files of weights; return the bytes of each."""
        path = weights_path(self.run, epoch)
        sizes: dict[str, int] = {}
        for name in sorted(shards.files):
            self.background.go_on()
            tensors = shards.files.pop(name)  # its memory is free once it is written
            self.storage.write_pieces(f"{path}/{name}", pieces(tensors))
            entry = self.storage.entry(f"{path}/{name}")
            sizes[name] = entry.size if entry else 0
        return sizes | self._describe(path, shards) if self.world.leads else sizes

    def _describe(self, path: str, shards: Shards) -> dict[str, int]:
        """Write what transformers reads beside the weights."""
        with temporary_folder("lima-weights-") as folder:
            self.trained.save(folder)
            if shards.index:
                (folder / INDEX).write_bytes(shards.index)
            entries = self.storage.upload_folder(folder, path)
        return {entry.path.removeprefix(f"{path}/"): entry.size for entry in entries}

    def _tell(self, kind: str, step: int, started: float, stall: float, size: int) -> None:
        if self.world.leads:
            seconds = time.perf_counter() - started
            self.hooks.on_saved(Saved(kind, step, stall, seconds, size))

    def check(self) -> None:
        """Raise, on every worker, what went wrong with saving on any of them."""
        self.world.each(self.background.check)

    def finish(self) -> None:
        """Wait until all is saved.

        Raises:
            LimaError: on every worker, what went wrong with it on any of them.

        """
        started = time.perf_counter()
        self.world.each(self.background.drain)
        self._stood_still(time.perf_counter() - started)

    def close(self) -> None:
        """Give up what is on its way, and give the memory of copies back."""
        self.background.close()
        self.state.close()
