"""The curate stage: sites and sources side by side, as Ray tasks (section 2).

A site is read once, by one task, which puts its rows aside on that machine; its partitions are
then cleaned by tasks on the same machine. Everything else is read by one task a source.
"""

import contextlib
import logging
import os
import shutil
import tempfile
import uuid
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lima.common.paths import own_folder
from lima.curation.candidates.table import counts
from lima.curation.reading.damage import Damage
from lima.curation.stackexchange.posts_by_question import SplitSite
from lima.curation.stage import Curation, Unit
from lima.errors import Interrupted, LimaError
from lima.runs.ledger import attempt
from lima.runs.progress import Progress
from lima.runs.stop import stop_requested
from lima.spec import CellSpec, ComputeSpec
from lima.spec.codec import run_id, sha256_key
from lima.store.storage import Storage
from lima_jobs.ownray import private_folder

log = logging.getLogger(__name__)
MAX_LOSSES = 5
"""Sites that may be lost with their machine before something else must be wrong."""
STOP_POLL_S = 1.0
REMOVAL_S = 60.0
"""Longest wait until a machine has removed what was put aside on it."""


def run_curate(cell: CellSpec, storage: Storage, progress: Progress) -> None:
    """Write all candidates and all data sets that storage lacks. Ray is running.

    Raises:
        Interrupted: a stop was requested; finished shards are kept.
        InputError: a source cannot be read, or an arm cannot be filled.
        LimaError: too many tasks were lost.

    """
    curation = Curation(cell, storage)
    if curation.done:
        return
    with attempt(storage, cell, "curate", ComputeSpec(device="cpu"), progress.run):
        with contextlib.closing(_Work(curation, progress)) as work:
            work.run()
        summary = curation.assemble()
    counts = {arm["name"]: arm["examples"] for arm in summary["arms"]}
    progress.update("curate", 1, 1, "data sets", force=True, **counts)


@dataclass(frozen=True)
class _Context:
    """What every task needs to know."""

    cell: CellSpec
    storage_uri: str
    home: str
    """The driver's working folder: workers need not share it, and paths may be relative to it."""
    attempt: str
    """Name of this attempt, below which sites are put aside."""

    def curation(self) -> Curation:
        """Open the stage within a task."""
        if Path(self.home).is_dir():
            os.chdir(self.home)
        return Curation(self.cell, Storage(self.storage_uri))


@dataclass
class _PutAside:
    """A site whose rows lie on a machine, and how many partitions are not written yet."""

    unit: Unit
    folder: str
    node: str
    shards: list[str]
    damage: Damage
    left: int


@dataclass(frozen=True)
class _Task:
    """A running task: what becomes of its result, and the site it is about."""

    then: Callable[[Any], None]
    unit: Unit


class _Work:
    """Hands out what is to be done; as many tasks as there are CPUs."""

    def __init__(self, curation: Curation, progress: Progress) -> None:
        self.curation, self.progress = curation, progress
        units = curation.units()
        self.total = len(units)
        self.waiting = deque(unit for unit in units if not curation.is_finished(unit))
        self.partitions: deque[tuple[_PutAside, int]] = deque()
        self.aside: dict[str, _PutAside] = {}
        self.busy: dict[Any, _Task] = {}
        # A source that is read again is counted again, as a whole.
        again = tuple(f"{unit.name}-" for unit in self.waiting if unit.dump is None)
        known = (r for r in curation.store.records() if not r.shard.startswith(again))
        self.figures: Counter[str] = Counter(counts(known))
        self.lost = 0
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1)))
        storage = curation.storage
        uri = storage.root if storage.is_local else storage.uri
        self.context = _Context(curation.cell, uri, str(Path.cwd()), uuid.uuid4().hex[:8])

    def run(self) -> None:
        """Do everything that is left."""
        self._report()
        while self.waiting or self.partitions or self.busy:
            while len(self.busy) < self.slots and self._start():
                pass
            if stop_requested():
                raise Interrupted("curation stopped on request; the same command resumes it")
            ready, _ = ray.wait(list(self.busy), timeout=STOP_POLL_S)
            for reference in ready:
                self._end(reference, self.busy.pop(reference))

    def close(self) -> None:
        """End all tasks and remove what was put aside, on every machine."""
        for reference in self.busy:
            ray.cancel(reference, force=True)
        machines = [machine["NodeID"] for machine in ray.nodes() if machine["Alive"]]
        self._await([self._on(m, _remove_all).remote(self.context) for m in machines])

    def _start(self) -> bool:
        """Start a task, if there is one that may be started."""
        if self.partitions:
            self._start_partition(*self.partitions.popleft())
        elif unit := self._next_unit():
            self._start_unit(unit)
        else:
            return False
        return True

    def _next_unit(self) -> Unit | None:
        """Take the next unit that may be begun: sites that are put aside take disk."""
        if len(self.aside) >= self.slots:
            return None
        # One that was lost may still be read by other tasks, and is put aside anew after them.
        busy = {task.unit.name for task in self.busy.values()}
        unit = next((unit for unit in self.waiting if unit.name not in busy), None)
        if unit:
            self.waiting.remove(unit)
        return unit

    def _start_partition(self, site: _PutAside, partition: int) -> None:
        on_node = NodeAffinitySchedulingStrategy(site.node, soft=False)
        reference = ray.remote(num_cpus=1, scheduling_strategy=on_node)(_write).remote(
            self.context, site.unit, site.folder, partition
        )
        self.busy[reference] = _Task(partial(self._written, site), site.unit)

    def _start_unit(self, unit: Unit) -> None:
        if unit.dump:
            reference = ray.remote(num_cpus=1)(_split).remote(self.context, unit, self.lost)
            self.busy[reference] = _Task(lambda site: self._put_aside(unit, *site), unit)
        else:
            reference = ray.remote(num_cpus=1)(_read).remote(self.context, unit)
            self.busy[reference] = _Task(self._read_whole, unit)

    def _end(self, reference: Any, task: _Task) -> None:
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            raise error.cause from error
        except RayError as error:
            self._lose(task.unit, error)
            return
        task.then(result)

    def _put_aside(
        self, unit: Unit, folder: str, node: str, partitions: list[int], damage: dict[str, Any]
    ) -> None:
        shards = [self.curation.partition_shard(unit, p) for p in partitions]
        left = [
            p for p, s in zip(partitions, shards, strict=True) if not self.curation.store.has(s)
        ]
        log = Damage.from_json(damage)
        site = _PutAside(unit, folder, node, shards, log, len(left))
        self.aside[unit.name] = site
        self.partitions.extend((site, partition) for partition in left)
        if not left:
            self._finish(site)

    def _written(self, site: _PutAside, counts: dict[str, int]) -> None:
        if self.aside.get(site.unit.name) is not site:
            return  # the site was lost meanwhile and is read again
        site.left -= 1
        self.figures.update(counts)
        if site.left == 0:
            self._finish(site)
        self._report()

    def _read_whole(self, counts: dict[str, int]) -> None:
        self.figures.update(counts)
        self._report()

    def _finish(self, site: _PutAside) -> None:
        self.curation.finish(site.unit, site.shards, site.damage)
        self._remove(site)
        self._report()

    def _lose(self, unit: Unit, error: RayError) -> None:
        """Read a unit again whose worker or machine has gone."""
        self.lost += 1
        if self.lost > MAX_LOSSES:
            raise LimaError(
                f"curation: {self.lost} tasks were lost, the last one of {unit.name}: {error}. "
                "Often disk or memory runs out; the same command goes on from here"
            ) from error
        log.warning("%s is read again: %s", unit.name, str(error).strip().partition("\n")[0])
        self.aside.pop(unit.name, None)
        self.partitions = deque(p for p in self.partitions if p[0].unit != unit)
        if unit not in self.waiting:
            self.waiting.append(unit)

    def _remove(self, site: _PutAside) -> None:
        del self.aside[site.unit.name]
        self._await([self._on(site.node, _remove_folder).remote(site.folder)])

    def _await(self, removals: Sequence[Any]) -> None:
        """Wait until something is removed, but not for machines that have gone, or hang."""
        with contextlib.suppress(RayError):  # a machine that went took its disk with it
            ray.get(list(removals), timeout=REMOVAL_S)

    def _on(self, node: str, function: Callable[..., None]) -> Any:
        """Return a task that needs no CPU, on a machine if it is still there."""
        strategy = NodeAffinitySchedulingStrategy(node, soft=True)
        return ray.remote(num_cpus=0, scheduling_strategy=strategy)(function)

    def _report(self) -> None:
        running = {task.unit.name for task in self.busy.values()} | set(self.aside)
        done = self.total - len({unit.name for unit in self.waiting} | running)
        figures: dict[str, Any] = dict(self.figures)
        self.progress.update("curate", done, self.total, "sources", **figures)


def _read(context: _Context, unit: Unit) -> dict[str, int]:
    return context.curation().read_source(unit)


def _split(
    context: _Context, unit: Unit, number: int
) -> tuple[str, str, list[int], dict[str, Any]]:
    """Put a site aside; return the folder, the machine, the partitions and what was damaged."""
    curation = context.curation()
    # No folder is used again: a task that is taken for lost may live on, and must find its own
    # rows or none. One attempt runs at a time, so that what others left is of no use.
    own = _put_aside_in(context)
    own_folder(own.parent)
    for left in [*own.parent.glob("*"), *(own / unit.name).glob("*")]:
        if left != own:
            _remove_folder(str(left))
    folder = own / unit.name / str(number)
    site: SplitSite = curation.split(unit, folder)
    node = ray.get_runtime_context().get_node_id()
    return str(folder), node, site.partitions, site.damage.to_json()


def _put_aside_in(context: _Context) -> Path:
    """Return the folder of this attempt, below that of the run on this storage.

    A job's own Ray takes it away with its folder, even after a kill: no other attempt need come.
    """
    run = f"{run_id(context.cell)}-{sha256_key(context.storage_uri)[:8]}"
    place = private_folder() or Path(tempfile.gettempdir())
    return place / f"lima-curate-{run}" / context.attempt


def _write(context: _Context, unit: Unit, folder: str, partition: int) -> dict[str, int]:
    """Write a partition; return what there is in it."""
    return counts([context.curation().write_partition(unit, Path(folder), partition)])


def _remove_folder(folder: str) -> None:
    """Remove a folder: for a task that reads it, all at once."""
    gone = f"{folder}.{uuid.uuid4().hex[:8]}.removed"
    with contextlib.suppress(OSError):  # it is not there
        Path(folder).rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _remove_all(context: _Context) -> None:
    own = _put_aside_in(context)
    _remove_folder(str(own))
    with contextlib.suppress(OSError):
        own.parent.rmdir()
