"""The curate stage: sites and sources side by side, as Ray tasks (section 2).

A site is read once, by one task, which puts its rows aside on that machine; its partitions are
then cleaned by tasks on the same machine. Everything else is read by one task a source.
"""

import contextlib
import os
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from lima.curation.damage import Damage
from lima.curation.split import SplitSite
from lima.curation.stage import Curation, Unit
from lima.errors import Interrupted, LimaError
from lima.ledger import attempt
from lima.progress import Progress
from lima.spec import CellSpec, ComputeSpec
from lima.stop import stop_requested
from lima.storage import Storage

MAX_LOSSES = 5
"""Sites that may be lost with their machine before something else must be wrong."""
STOP_POLL_S = 1.0


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
        self.figures: Counter[str] = Counter()
        self.lost = 0
        self.slots = max(1, int(ray.cluster_resources().get("CPU", 1)))
        storage = curation.storage
        uri = storage.root if storage.is_local else storage.uri
        self.context = _Context(curation.cell, uri, str(Path.cwd()))

    def run(self) -> None:
        """Do everything that is left."""
        self._report()
        while self.waiting or self.partitions or self.busy:
            while len(self.busy) < self.slots and (self.partitions or self._may_begin()):
                self._start()
            if stop_requested():
                raise Interrupted("curation stopped on request; the same command resumes it")
            ready, _ = ray.wait(list(self.busy), timeout=STOP_POLL_S)
            for reference in ready:
                self._end(reference, self.busy.pop(reference))

    def close(self) -> None:
        """End all tasks and remove what was put aside."""
        for reference in self.busy:
            ray.cancel(reference, force=True)
        for site in list(self.aside.values()):
            self._remove(site)

    def _may_begin(self) -> bool:
        """Whether another unit may be begun: sites that are put aside take disk."""
        return bool(self.waiting) and len(self.aside) < self.slots

    def _start(self) -> None:
        if self.partitions:
            site, partition = self.partitions.popleft()
            on_node = NodeAffinitySchedulingStrategy(site.node, soft=False)
            reference = ray.remote(num_cpus=1, scheduling_strategy=on_node)(_write).remote(
                self.context, site.unit, site.folder, partition
            )
            self.busy[reference] = _Task(partial(self._written, site), site.unit)
            return
        unit = self.waiting.popleft()
        if unit.dump:
            reference = ray.remote(num_cpus=1)(_split).remote(self.context, unit)
            self.busy[reference] = _Task(lambda site: self._put_aside(unit, *site), unit)
        else:
            reference = ray.remote(num_cpus=1)(_read).remote(self.context, unit)
            self.busy[reference] = _Task(lambda _: self._report(), unit)

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
        self.aside.pop(unit.name, None)
        self.partitions = deque(p for p in self.partitions if p[0].unit != unit)
        if unit not in self.waiting:
            self.waiting.append(unit)

    def _remove(self, site: _PutAside) -> None:
        self.aside.pop(site.unit.name, None)
        on_node = NodeAffinitySchedulingStrategy(site.node, soft=True)
        remove = ray.remote(num_cpus=0, scheduling_strategy=on_node)(_remove_folder)
        ray.get(remove.remote(site.folder))

    def _report(self) -> None:
        running = {task.unit.name for task in self.busy.values()} | set(self.aside)
        done = self.total - len({unit.name for unit in self.waiting} | running)
        figures: dict[str, Any] = dict(self.figures)
        self.progress.update("curate", done, self.total, "sources", **figures)


def _read(context: _Context, unit: Unit) -> None:
    context.curation().read_source(unit)


def _split(context: _Context, unit: Unit) -> tuple[str, str, list[int], dict[str, Any]]:
    """Put a site aside; return the folder, the machine, the partitions and what was damaged."""
    curation = context.curation()
    # The name is that of the run, so that what a killed run left is found and replaced.
    folder = Path(tempfile.gettempdir()) / f"lima-curate-{curation.run}" / unit.name
    _remove_folder(str(folder))
    site: SplitSite = curation.split(unit, folder)
    node = ray.get_runtime_context().get_node_id()
    return str(folder), node, site.partitions, site.damage.to_json()


def _write(context: _Context, unit: Unit, folder: str, partition: int) -> dict[str, int]:
    """Write a partition; return what there is in it."""
    record = context.curation().write_partition(unit, Path(folder), partition)
    return {"shards": 1, "candidates": record.seen, "kept": record.kept}


def _remove_folder(folder: str) -> None:
    shutil.rmtree(folder, ignore_errors=True)
