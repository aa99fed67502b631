"""What a storage holds that nothing needs any more, and its removal.

Never what a running run or a result needs: states of runs that are complete, checkpoints of runs
of which people chose another one, inputs that no run names, and what killed jobs left. A kind of
its own is one function here and its place in `FINDERS`.
"""

import json
import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from lima.errors import DataError
from lima.evaluation.cells.checkpoint_choice import read_choices
from lima.inputs.copies import FOLDER as COPIES
from lima.model.loading import EARLIER_STAGES, RUN
from lima.runs.lease import is_held
from lima.runs.ledger import completed_runs
from lima.store.s3 import Bucket, RefusedError
from lima.store.scan import Tables
from lima.store.storage import Entry, Storage
from lima.store.tables import RUNS

log = logging.getLogger(__name__)
STATES, CHECKPOINTS, INPUTS, LEFTOVERS = "states", "checkpoints", "inputs", "leftovers"
KINDS = (STATES, CHECKPOINTS, INPUTS, LEFTOVERS)
FORMER_KEEP_STATES = 2
"""What specs say that were recorded when this was the default: no wish of anybody's."""
WRITING_NS = 24 * 3600 * 10**9
"""Age from which on an unfinished object is nobody's work in progress."""
QUEUED_NS = 7 * 24 * 3600 * 10**9
"""Age from which on an input is not that of a run in a queue, which nothing here tells of."""
FOLDER = "run_id="


@dataclass(frozen=True)
class Removable:
    """Objects that can go together.

    Args:
        kind: one of `KINDS`.
        run: the run they belong to.
        path: what they are below, in the storage.
        why: nothing needs them.
        size: bytes.
        modified: when the youngest was written, in nanoseconds since 1970; 0: unknown.
        first: objects that say that the others count, and so go first.
        upload: id of an upload to a bucket that was never finished, whose object would be `path`.

    """

    kind: str
    run: str
    path: str
    why: str
    size: int
    modified: int
    first: tuple[str, ...] = ()
    upload: str = ""


@dataclass(frozen=True)
class _Run:
    """A row of `runs`: `spec` is that of its stage, of a chat the whole."""

    run: str
    stage: str
    parent: str | None
    spec: dict[str, Any]
    text: str
    """All that is recorded of its spec."""


class Study:
    """What the finders look at; everything is read once."""

    def __init__(self, storage: Storage) -> None:
        """Look at a storage."""
        self.storage = storage

    @cached_property
    def objects(self) -> dict[str, dict[str, list[Entry]]]:
        """Objects below checkpoints/, by run and by what follows, as `state/step=00000031`."""
        found: dict[str, dict[str, list[Entry]]] = {}
        for entry in self.storage.entries("checkpoints"):
            _, run, *rest = entry.path.split("/")
            if run.startswith(FOLDER) and rest:
                parts = found.setdefault(run.removeprefix(FOLDER), {})
                parts.setdefault("/".join(rest[:2]), []).append(entry)
        return found

    @cached_property
    def runs(self) -> dict[str, _Run]:
        """The table of runs, by id.

        Raises:
            DataError: a shard cannot be read, so that nobody can say what is needed.

        """
        tables = Tables(self.storage)
        rows = tables.read(RUNS, ["run_id", "stage", "parent_run_id", "spec"]).to_pylist()
        tables.require_readable()
        return {r["run_id"]: _run(r) for r in rows}

    @cached_property
    def completed(self) -> set[str]:
        """Runs of which an attempt came to its end."""
        return completed_runs(self.storage)

    def is_complete(self, run: str) -> bool:
        """Say whether a run of training has done all of its steps."""
        return "complete.json" in self.objects.get(run, ())

    def exported(self, run: str) -> list[int]:
        """Return the epochs whose weights are whole, in order."""
        parts = self.objects.get(run, ())
        names = [part.partition("weights/epoch=")[2] for part in parts]
        return sorted(int(n.removesuffix(".json")) for n in names if n.endswith(".json"))


def find(
    storage: Storage, kinds: Sequence[str] = KINDS, before: int | None = None
) -> list[Removable]:
    """Return what can go, sorted by run and path.

    Args:
        storage: Where to look.
        kinds: Only these.
        before: Only what was not written since; in nanoseconds since 1970.

    Raises:
        DataError: shards of the table of runs cannot be read.
        StorageError: storage cannot be reached.

    """
    study = Study(storage)
    found = [item for kind in kinds for item in FINDERS[kind](study)]
    held = {run: bool(run) and is_held(storage, run) for run in {item.run for item in found}}
    old = [i for i in found if before is None or 0 < i.modified < before]
    return sorted((i for i in old if not held[i.run]), key=lambda i: (i.run, i.path))


def remove(storage: Storage, items: Iterable[Removable]) -> Iterator[Removable]:
    """Remove items; yields those that are gone. What a job has taken up meanwhile stays.

    Raises:
        StorageError: storage cannot be reached, or refuses.

    """
    for item in items:
        if item.run and is_held(storage, item.run):
            continue
        _remove(storage, item)
        yield item


def _remove(storage: Storage, item: Removable) -> None:
    if item.upload and storage.bucket:
        storage.bucket.give_up(item.path, item.upload)
        return
    for path in item.first:
        storage.delete(path)
    storage.delete_tree(item.path)
    storage.delete(item.path)


def _states(study: Study) -> Iterator[Removable]:
    """Find states of runs that are complete."""
    for run, parts in study.objects.items():
        if not study.is_complete(run):
            continue
        saved = sorted(p for p in parts if p.startswith("state/") and p.endswith(".json"))
        gone = saved[: max(len(saved) - _asked(study.runs.get(run)), 0)]
        for manifest in gone:
            part = manifest.removesuffix(".json")
            yield _item(STATES, run, part, "the run is complete", study)


def _checkpoints(study: Study) -> Iterator[Removable]:
    """Find weights of epochs that people did not choose.

    The last one stays, since runs that name no epoch take it, and so do those that a run which
    is not finished, or a conversation, names.
    """
    for run, choice in read_choices(study.storage).items():
        epochs = study.exported(run)
        needed = {choice["epoch"], *epochs[-1:], *_named(study, run)}
        if not study.is_complete(run) or choice["epoch"] not in epochs:
            continue
        why = f"epoch {choice['epoch']} was chosen"
        for epoch in sorted(set(epochs) - needed):
            yield _item(CHECKPOINTS, run, f"weights/epoch={epoch:02d}", why, study)


def _inputs(study: Study) -> Iterator[Removable]:
    """Find copies of inputs that no run names: specs hold the digits that their folders have."""
    named = "\n".join(run.text for run in study.runs.values())
    for digits, copies in groupby(study.storage.entries(COPIES), lambda e: e.path.split("/")[1]):
        item = _sized(INPUTS, "", f"{COPIES}/{digits}", "no run names it", list(copies))
        if digits not in named and _is_older(item, QUEUED_NS):
            yield item


def _leftovers(study: Study) -> Iterator[Removable]:
    """Find what killed jobs began, and what Ray Train noted of runs that are complete."""
    for run, parts in study.objects.items():
        whole = {part.removesuffix(".json") for part in parts if part.endswith(".json")}
        for part in sorted(parts):
            if part.startswith(("weights/", "state/")) and part.removesuffix(".json") not in whole:
                yield _item(LEFTOVERS, run, part, "a killed job began it", study)
    for run, notes in groupby(study.storage.entries("ray"), lambda e: e.path.split("/")[1]):
        if study.is_complete(run):
            yield _sized(LEFTOVERS, run, f"ray/{run}", "Ray Train's notes, of no use", list(notes))
    # What is younger may still be finished.
    yield from (item for item in _partials(study) if _is_older(item, WRITING_NS))


def _partials(study: Study) -> Iterator[Removable]:
    """Find objects that were never finished, of folders and of buckets."""
    for entry in study.storage.unfinished():
        run = _run_in(entry.path)
        yield _sized(LEFTOVERS, run, entry.path, "a killed job was writing it", [entry])
    if study.storage.bucket:
        yield from _cut_uploads(study.storage.bucket)


def _cut_uploads(bucket: Bucket) -> Iterator[Removable]:
    try:
        begun = bucket.uploads()
    except RefusedError as error:
        log.warning("uploads that were cut are not looked for: %s", error)
        return
    for upload in begun:
        (size, last), run = bucket.weight(upload), _run_in(upload.path)
        written = int(last.timestamp() * 10**9)
        why = "an upload that was cut"
        yield Removable(LEFTOVERS, run, upload.path, why, size, written, upload=upload.id)


def _is_older(item: Removable, age_ns: int) -> bool:
    """Say whether nothing of it was written for so long."""
    return 0 < item.modified < time.time_ns() - age_ns


def _run_in(path: str) -> str:
    named = re.search(r"run_id=(\w+)", path)
    return named[1] if named else ""


FINDERS: dict[str, Callable[[Study], Iterator[Removable]]] = {
    STATES: _states,
    CHECKPOINTS: _checkpoints,
    INPUTS: _inputs,
    LEFTOVERS: _leftovers,
}


def _asked(run: _Run | None) -> int:
    """Return how many states a complete run is to keep."""
    checkpoints = run.spec.get("checkpoints") if run else None
    asked = (checkpoints or {}).get("keep_states")
    return asked if isinstance(asked, int) and asked != FORMER_KEEP_STATES else 0


def _named(study: Study, trained: str) -> set[int]:
    """Return the epochs of a run of training that others still need."""
    return {
        epoch
        for run in study.runs.values()
        if (run.run not in study.completed or run.stage == "chat")
        and (epoch := _epoch(run, trained)) is not None
    }


def _epoch(run: _Run, trained: str) -> int | None:
    model = run.spec.get("model")
    if not isinstance(model, dict):  # of a judge, a name
        return None
    name = str(model.get("path", "")).removeprefix(RUN)
    own = name in EARLIER_STAGES and run.parent == trained
    return model.get("epoch") if own or name == trained else None


def _run(row: dict[str, Any]) -> _Run:
    try:
        spec = json.loads(row["spec"])
    except ValueError:
        raise DataError(f"runs: run {row['run_id']}: its spec is not JSON") from None
    own = spec if row["stage"] == "chat" else spec.get(row["stage"]) or {}
    return _Run(row["run_id"], row["stage"], row["parent_run_id"], own, row["spec"])


def _item(kind: str, run: str, part: str, why: str, study: Study) -> Removable:
    """Return a folder of a run's checkpoints with the manifest beside it, if there is one."""
    parts, manifest = study.objects[run], f"{part}.json"
    entries = [*parts.get(part, ()), *parts.get(manifest, ())]
    path = f"checkpoints/{FOLDER}{run}/{part}"
    first = (f"{path}.json",) if manifest in parts else ()
    return replace(_sized(kind, run, path, why, entries), first=first)


def _sized(kind: str, run: str, path: str, why: str, entries: Sequence[Entry]) -> Removable:
    size, modified = sum(e.size for e in entries), max((e.modified for e in entries), default=0)
    return Removable(kind, run, path, why, size, modified)
