"""Curation without Ray: the units of the stage one after the other, as the simplest job would."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lima.curation.stage import Curation, Unit
from lima.runs.inputs_record import SHARD, record_inputs
from lima.spec import CellSpec
from lima.spec.curate import CurateSpec
from lima.store.input_tables import INPUTS
from lima.store.shards import RunTable
from lima.store.storage import Storage

Order = Callable[[Sequence[Any]], Sequence[Any]]


def cell(spec: CurateSpec) -> CellSpec:
    """Return a run that does nothing but curate."""
    return CellSpec("test", "curation", curate=spec)


def curate(spec: CurateSpec, storage: Path, order: Order = list) -> dict[str, Any]:
    """Do what is left of a run and return its summary; `order` shuffles units and partitions."""
    opened = Storage(str(storage))
    curation = Curation(cell(spec), opened)
    units = curation.units()
    if not RunTable(opened, INPUTS, cell(spec)).has(SHARD):
        record_inputs(opened, cell(spec), "curate")
    for unit in order(units):
        if not curation.is_finished(unit):
            do_unit(curation, unit, order)
    return curation.assemble()


def do_unit(curation: Curation, unit: Unit, order: Order = list) -> None:
    """Write one unit."""
    if unit.dump is None:
        curation.read_source(unit)
        return
    with tempfile.TemporaryDirectory() as folder:
        site = curation.split(unit, Path(folder))
        shards = []
        for partition in order(site.partitions):
            curation.write_partition(unit, Path(folder), partition)
        shards = [curation.partition_shard(unit, p) for p in site.partitions]
        curation.finish(unit, shards, site.damage)


def contents(storage: Path) -> dict[str, bytes]:
    """Return all that a run wrote, by path; without what tells of attempts and progress.

    A process that is killed while it writes leaves a hidden file that nothing reads.
    """
    kinds = ("candidates", "examples", "curation", "datasets")
    return {
        str(path.relative_to(storage)): path.read_bytes()
        for kind in kinds
        for path in sorted((storage / kind).rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
