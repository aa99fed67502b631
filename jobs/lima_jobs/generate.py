"""Generation by a pool of Ray actors, one model each, over shards of prompts (section 4.1)."""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from lima.curation.dataset import load_examples
from lima.errors import Interrupted, LimaError
from lima.generation.baseline import run_baseline
from lima.generation.run import (
    PromptShard,
    generate_shard,
    generate_spec,
    load_engine,
    pending_shards,
    plan_shards,
)
from lima.ledger import attempt
from lima.progress import Progress
from lima.results import GENERATIONS
from lima.shards import RunTable
from lima.spec import CellSpec, is_baseline, stage_cell
from lima.stop import busy, stop_requested
from lima.storage import Storage

log = logging.getLogger(__name__)
MAX_DEATHS = 5
"""Enough for some reclaimed machines; a prompt or a model that kills its worker kills it again."""
STOP_POLL_S = 1.0
"""Seconds within which a request to stop is seen."""


def run_generate(cell: CellSpec, storage: Storage, progress: Progress) -> None:
    """Write every shard of responses that storage lacks. Ray is running.

    Args:
        cell: The cell; its later stages do not matter.
        storage: Holds the weights and receives the table `generations`.
        progress: Told about finished prompts and sampled tokens per second.

    Raises:
        Interrupted: a stop was requested; finished shards are kept.
        LimaError: more workers died than `MAX_DEATHS`; finished shards are kept.
        Exception: what a worker raised, as it is.

    """
    cell = stage_cell(cell, "generate")
    spec = generate_spec(cell)
    if is_baseline(spec.model):
        run_baseline(cell, storage, progress)
        return
    shards = plan_shards(load_examples(spec.prompts), spec.shard_prompts)
    pending = pending_shards(shards, RunTable(storage, GENERATIONS, cell))
    total = sum(len(shard.prompts) for shard in shards)
    done = total - sum(len(shard.prompts) for shard in pending)
    progress.update("generate", done, total, "prompts")
    if not pending:
        return
    with attempt(storage, cell, "generate", spec.compute, progress.run):
        tokens, started = 0, time.monotonic()
        with contextlib.closing(_Pool(cell, storage, pending)) as pool:
            for shard, sampled in pool.run():
                done, tokens = done + len(shard.prompts), tokens + sampled
                rate = round(tokens / (time.monotonic() - started), 1)
                progress.update("generate", done, total, "prompts", tokens_per_second=rate)


class GenerateWorker:
    """An actor: holds the model, and writes the shards that it is handed."""

    def __init__(self, cell: CellSpec, storage_uri: str) -> None:
        self.cell, self.storage = cell, Storage(storage_uri)
        self.table = RunTable(self.storage, GENERATIONS, cell)

    def load(self) -> None:
        """Load the model. Not part of `__init__`, where an error would look like a death."""
        self.loaded, self.engine = load_engine(self.cell, self.storage)

    def generate(self, shard: PromptShard) -> int | None:
        """Write a shard, unless another worker did meanwhile; return the tokens sampled.

        None: this machine must go, and the shard is for another one.
        """
        if stop_requested():
            return None
        with busy():
            rows = generate_shard(
                self.engine, self.loaded.tokenizer, self.loaded.eot_id, self.cell, shard
            )
            self.table.write(shard.name, rows)
        return int(sum(row["response_tokens"] for row in rows))


class _Pool:
    """Hands pending shards to workers that are ready, and replaces workers that die."""

    def __init__(self, cell: CellSpec, storage: Storage, pending: Sequence[PromptShard]) -> None:
        self.compute = generate_spec(cell).compute
        gpus = self.compute.gpus_per_worker if self.compute.device == "cuda" else 0
        self.actor = ray.remote(num_cpus=1, num_gpus=gpus)(GenerateWorker)
        # Workers need not share the driver's working folder.
        self.arguments = (cell, storage.root if storage.is_local else storage.uri)
        self.waiting = deque(pending)
        self.busy: dict[Any, tuple[Any, PromptShard | None]] = {}
        self.deaths = 0

    def run(self) -> Iterator[tuple[PromptShard, int]]:
        """Yield every shard when it is written, and how many tokens were sampled for it."""
        for _ in range(min(self.compute.workers, len(self.waiting))):
            self._start()
        while self.waiting or any(shard for _, shard in self.busy.values()):
            if stop_requested():
                raise Interrupted("generation stopped on request; the same command resumes it")
            ready, _ = ray.wait(list(self.busy), timeout=STOP_POLL_S)
            if not ready:
                continue
            task = ready[0]
            actor, shard = self.busy.pop(task)
            try:
                sampled = ray.get(task)
            except RayTaskError as error:
                ray.kill(actor)
                raise error.cause from error
            except RayError as error:
                self._replace(actor, shard, error)
                continue
            if shard and sampled is None:
                self._leave(actor, shard)
                continue
            self._hand_out(actor)
            if shard:
                yield shard, sampled

    def close(self) -> None:
        """End all workers."""
        for actor, _ in self.busy.values():
            ray.kill(actor)

    def _start(self) -> None:
        actor = self.actor.remote(*self.arguments)
        self.busy[actor.load.remote()] = (actor, None)

    def _hand_out(self, actor: Any) -> None:
        if not self.waiting:
            ray.kill(actor)
            return
        shard = self.waiting.popleft()
        self.busy[actor.generate.remote(shard)] = (actor, shard)

    def _leave(self, actor: Any, shard: PromptShard) -> None:
        """Replace a worker whose machine must go: nothing has failed."""
        ray.kill(actor)
        self.waiting.appendleft(shard)
        self._start()

    def _replace(self, actor: Any, shard: PromptShard | None, error: RayError) -> None:
        ray.kill(actor)
        self.deaths += 1
        work = f"at shard {shard.name}" if shard else "while it loaded the model"
        if self.deaths > MAX_DEATHS:
            raise LimaError(
                f"generation: {self.deaths} workers died, the last one {work}: {error}. Often "
                "memory runs out: lower generate.batch_size, then start the command again; "
                "finished shards are kept"
            ) from error
        log.warning("a worker died %s and is replaced (%d of %d)", work, self.deaths, MAX_DEATHS)
        if shard:
            self.waiting.appendleft(shard)
        self._start()
