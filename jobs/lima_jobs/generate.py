"""Generation by a pool of Ray actors, one model each, over shards of prompts (section 4.1)."""

import contextlib
import logging
import os
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from lima.data.examples import load_examples
from lima.errors import EngineDiedError, Interrupted, LimaError
from lima.generation.baseline import run_baseline
from lima.generation.run import (
    PromptShard,
    generate_shard,
    generate_spec,
    load_engine,
    pending_shards,
    plan_shards,
    shards_together,
)
from lima.runs.ledger import attempt
from lima.runs.progress import Progress
from lima.runs.stop import busy, stop_requested
from lima.runs.trackers.curves import Curves
from lima.spec import CellSpec, is_baseline, stage_cell
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS
from lima_jobs.machines import (
    DEPARTURE_S,
    in_cluster,
    machines,
    missing_machines,
    out_of_patience,
    wait_minutes,
)

log = logging.getLogger(__name__)
MAX_DEATHS = 5
"""Deaths with no shard finished in between. Enough for some reclaimed machines; a prompt or a
model that kills its worker kills it again."""
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
        ClusterError: nobody works, since machines have been missing for LIMA_WAIT_MINUTES.
        LimaError: workers died more than `MAX_DEATHS` times with no shard finished in between;
            finished shards are kept.
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
        with (
            Curves(storage, cell) as curves,
            contextlib.closing(_Pool(cell, storage, pending)) as pool,
        ):
            for shard, sampled in pool.run():
                done, tokens = done + len(shard.prompts), tokens + sampled
                rate = round(tokens / (time.monotonic() - started), 1)
                progress.update("generate", done, total, "prompts", tokens_per_second=rate)
                each = sampled / len(shard.prompts) / spec.decoding.samples
                curves.add(done, {"tokens_per_second": rate, "tokens_a_response": each})


class GenerateWorker:
    """An actor: holds the model, and writes the shards that it is handed, some at a time."""

    def __init__(self, cell: CellSpec, storage_uri: str) -> None:
        self.cell, self.storage = cell, Storage(storage_uri)
        self.table = RunTable(self.storage, GENERATIONS, cell)

    def load(self) -> str:
        """Load the model; return Ray's id of this machine.

        Not part of `__init__`, where an error would look like a death.
        """
        with _dying_with_its_engine():
            self.loaded = load_engine(self.cell, self.storage)
        return str(ray.get_runtime_context().get_node_id())

    def generate(self, shard: PromptShard) -> int | None:
        """Write a shard, unless another worker did meanwhile; return the tokens sampled.

        None: this machine must go, and the shard is for another one.
        """
        if stop_requested():
            return None
        with busy(), _dying_with_its_engine():
            rows = generate_shard(self.loaded, self.cell, shard)
            self.table.write(shard.name, rows)
        return int(sum(row["response_tokens"] for row in rows))


@contextlib.contextmanager
def _dying_with_its_engine() -> Iterator[None]:
    """End this process, as if it had been killed, if that of its engine ends: it is replaced."""
    try:
        yield
    except EngineDiedError:
        log.exception("this worker ends with its engine")
        logging.shutdown()
        os._exit(1)


@dataclass(frozen=True)
class _Worker:
    actor: Any
    number: int
    """How many were started before it."""
    machine: str = ""
    """Ray's id of it; empty until the model is loaded."""


class _Pool:
    """Hands pending shards to workers that are ready, and replaces workers that die."""

    def __init__(self, cell: CellSpec, storage: Storage, pending: Sequence[PromptShard]) -> None:
        self.compute = generate_spec(cell).compute
        self.together = shards_together(generate_spec(cell))
        gpus = self.compute.gpus_per_worker if self.compute.device == "cuda" else 0
        self.needs = {"CPU": 1, "GPU": gpus}
        self.missing_since: float | None = None
        self.actor = ray.remote(num_cpus=1, num_gpus=gpus, max_concurrency=self.together)(
            GenerateWorker
        )
        # Workers need not share the driver's working folder.
        self.arguments = (cell, storage.root if storage.is_local else storage.uri)
        self.waiting = deque(pending)
        self.busy: dict[Any, tuple[_Worker, PromptShard | None]] = {}
        self.leaving: list[tuple[str, float]] = []
        """For each worker still to be replaced: its machine, and until when that must be gone."""
        self.parting: set[int] = set()
        """Workers that were told to go, while shards of theirs are on the way."""
        self.died_with: Counter[str] = Counter()
        """For each shard how many workers died with it; after two it is sampled alone, so that it
        is known which one kills."""
        self.started = self.deaths = 0
        self.counted: dict[str, int] = {}
        """For each machine with a death that counted: how many workers were started by then."""

    def run(self) -> Iterator[tuple[PromptShard, int]]:
        """Yield every shard when it is written, and how many tokens were sampled for it."""
        for _ in range(min(self.compute.workers, len(self.waiting))):
            self._start()
        while self.waiting or any(shard for _, shard in self.busy.values()):
            if stop_requested():
                raise Interrupted("generation stopped on request; the same command resumes it")
            self._replace_leavers()
            task = self._next_task()
            if task is None:
                self._require_machines()
                continue
            worker, shard = self.busy.pop(task)
            try:
                said = ray.get(task)
            except RayTaskError as error:
                ray.kill(worker.actor)
                raise error.cause from error
            except RayError as error:
                self._replace(worker, shard, error)
                continue
            if not shard:
                worker = replace(worker, machine=said)
            elif said is None:
                self.waiting.appendleft(shard)
                self.parting.add(worker.number)
            self._go_on(worker)
            if shard and said is not None:
                self.deaths = 0
                yield shard, said

    def close(self) -> None:
        """End all workers."""
        for worker, _ in self.busy.values():
            ray.kill(worker.actor)

    def _next_task(self) -> Any:
        """Return a task that has ended; None if there is none for a while."""
        if not self.busy:  # all have left
            time.sleep(STOP_POLL_S)
            return None
        ready, _ = ray.wait(list(self.busy), timeout=STOP_POLL_S)
        return ready[0] if ready else None

    def _require_machines(self) -> None:
        """Give up if nobody works, and the machine for a worker has been missing for too long."""
        works = any(shard for _, shard in self.busy.values())
        missing = missing_machines(self.needs) if in_cluster() and not works else ""
        if not missing:
            self.missing_since = None
            return
        now = time.monotonic()
        self.missing_since = self.missing_since or now
        if now - self.missing_since > 60 * wait_minutes():
            raise out_of_patience(missing)

    def _start(self) -> None:
        worker = _Worker(self.actor.remote(*self.arguments), self.started)
        self.started += 1
        self.busy[worker.actor.load.remote()] = (worker, None)

    def _go_on(self, worker: _Worker) -> None:
        """Hand a worker what it can take, or end it if it has no more to do."""
        if worker.number not in self.parting:
            self._hand_out(worker)
        if self._shards_of(worker):
            return
        ray.kill(worker.actor)
        if worker.number in self.parting:
            self._leave(worker)

    def _leave(self, worker: _Worker) -> None:
        """Have a worker whose machine must go replaced later: nothing has failed."""
        self.leaving.append((worker.machine, time.monotonic() + DEPARTURE_S))

    def _hand_out(self, worker: _Worker) -> None:
        unfinished = len(self.waiting) + sum(1 for _, shard in self.busy.values() if shard)
        workers = {worker.number, *(w.number for w, _ in self.busy.values())}
        share = min(self.together, -(-unfinished // len(workers)))
        while self.waiting and len(has := self._shards_of(worker)) < share:
            if has and any(self.died_with[s.name] > 1 for s in (has[0], self.waiting[0])):
                return
            shard = self.waiting.popleft()
            self.busy[worker.actor.generate.remote(shard)] = (worker, shard)

    def _shards_of(self, worker: _Worker) -> list[PromptShard]:
        """Return what a worker has been handed and not ended yet."""
        return [s for w, s in self.busy.values() if s and w.number == worker.number]

    def _replace_leavers(self) -> None:
        """Replace workers that left, once their machine is gone: Ray would use it again."""
        if not self.leaving:
            return
        there, now, left = machines(), time.monotonic(), len(self.leaving)
        self.leaving = [(m, until) for m, until in self.leaving if m in there and now < until]
        for _ in range(min(left - len(self.leaving), len(self.waiting))):
            self._start()

    def _replace(self, worker: _Worker, shard: PromptShard | None, error: RayError) -> None:
        ray.kill(worker.actor)
        held = [shard, *self._shards_of(worker)] if shard else []
        self.busy = {t: (w, s) for t, (w, s) in self.busy.items() if w.number != worker.number}
        if worker.number in self.parting:
            self.waiting.extendleft(held)
            self._leave(worker)
            return
        names = " and ".join(s.name for s in held)
        work = f"at shard {names}" if held else "while it loaded the model"
        self._count(worker, work, error)
        log.warning("a worker died %s and is replaced (%d of %d)", work, self.deaths, MAX_DEATHS)
        # Last: if one of them is what kills, the others are done by then.
        self.waiting.extend(held)
        self.died_with.update(s.name for s in held)
        self._start()

    def _count(self, worker: _Worker, work: str, error: RayError) -> None:
        """Count a death, but once for all that a machine held: it may be the machine that died."""
        if worker.number < self.counted.get(worker.machine, 0):
            return
        self.counted[worker.machine] = self.started
        self.deaths += 1
        if self.deaths > MAX_DEATHS:
            raise LimaError(
                f"generation: workers died {self.deaths} times with no shard finished in between, "
                f"the last one {work}: {error}. Often memory runs out: set generate.batch_tokens "
                "or lower generate.batch_size, then start again; finished shards are kept"
            ) from error
