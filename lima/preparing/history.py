"""Which runs of a study were made of other content: what has changed since, and how much of it."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lima.common.paths import file_name
from lima.data.examples import parse_examples, read_files
from lima.errors import LimaError
from lima.inputs.copies import copy_of
from lima.inputs.fingerprint import short
from lima.inputs.places import Place, map_places, places
from lima.spec import STAGES, CellSpec, Stage, cell_stages, stage_cell
from lima.spec.codec import decode, encode, run_id, sha256_key
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS

RUN_DIGITS = 8
"""Of a run id, where people read it."""


@dataclass(frozen=True)
class Change:
    """An input that is not what it was in an earlier run of the same study.

    Args:
        now: The input of the study.
        before: The same of the earlier run; its fingerprint is None where nobody knows it.
        run: Id of that run.

    """

    now: Place
    before: Place
    run: str

    def told(self, storage: Storage) -> str:
        """Return what has changed, in words."""
        run = f"{self.run[:RUN_DIGITS]}…"
        if self.before.fingerprint is None:
            return (
                f"{self.now.name}: run {run} is from before fingerprints (fingerprint unknown), "
                "and is not taken for this study: a new run; --adopt takes it, if it fits"
            )
        how = _difference(storage, self) or (
            f"{short(self.before.fingerprint)} is now {short(self.now.fingerprint)}"
        )
        return f"{self.now.name} has changed since run {run} ({how}): a new run"


def changes(storage: Storage, cells: Sequence[CellSpec]) -> list[Change]:
    """Return the inputs that differ from those of earlier runs of the same cells, each once.

    Runs that are there already as they are asked for say nothing.

    Raises:
        StorageError: storage cannot be reached.

    """
    earlier: dict[str, list[_Earlier]] = {}
    for experiment in {cell.experiment for cell in cells}:
        for run in _runs(storage, experiment):
            earlier.setdefault(run.alike, []).append(run)
    known = {run.id for runs in earlier.values() for run in runs}
    found: dict[tuple[str, str | None], Change] = {}
    for cell in cells:
        for stage in cell_stages(cell):
            if run_id(cell, stage) in known:
                continue
            alike = earlier.get(_alike(stage_cell(cell, stage)), [])
            for change in _compared(cell, stage, alike):
                found.setdefault((change.now.role, change.now.fingerprint), change)
    return list(found.values())


@dataclass(frozen=True)
class _Earlier:
    id: str
    alike: str
    cell: CellSpec
    created: Any


def _runs(storage: Storage, experiment: str) -> Iterator[_Earlier]:
    """Yield the runs of an experiment, the latest first; those of other versions are left out."""
    columns = ["run_id", "stage", "spec", "created_at"]
    rows = Tables(storage, experiment).read(RUNS, columns).to_pylist()
    for row in sorted(rows, key=lambda row: row["created_at"], reverse=True):
        if row["stage"] not in STAGES:
            continue
        try:
            cell = decode(CellSpec, json.loads(row["spec"]))
        except (LimaError, ValueError):
            continue
        yield _Earlier(row["run_id"], _alike(cell), cell, row["created_at"])


def _alike(cell: CellSpec) -> str:
    """Return the same for cells that differ in the content of their inputs alone."""

    def named(place: Place) -> Place:
        paths = tuple(file_name(path) for path in place.paths)
        return replace(place, paths=paths, fingerprint=None)

    return sha256_key(encode(map_places(cell, named), operational=False))


def _compared(cell: CellSpec, stage: Stage, earlier: Sequence[_Earlier]) -> Iterator[Change]:
    """Yield what differs from the latest run that is alike."""
    if not earlier:
        return
    before = {place.role: place for place in places(earlier[0].cell)}
    for now in places(stage_cell(cell, stage)):
        was = before.get(now.role)
        if was and was.fingerprint != now.fingerprint:
            yield Change(now, was, earlier[0].id)


def _difference(storage: Storage, change: Change) -> str:
    """Return how many examples differ; empty where the earlier ones are not kept."""
    if change.now.kind != "data" or change.before.fingerprint is None:
        return ""
    kept = copy_of(storage, change.before)
    try:
        if kept is None:
            return ""
        before = _keys({kept: storage.read(kept)})
        now = _keys(read_files(change.now.paths[0]))
    except (LimaError, OSError):
        return ""
    size = max(before.total(), now.total())
    return f"{size - (before & now).total()} of {size} examples differ"


def _keys(files: Mapping[str, bytes]) -> Counter[str]:
    return Counter(
        example.key for name, data in files.items() for example in parse_examples(data, name)
    )
