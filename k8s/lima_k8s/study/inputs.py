"""What commands do with the inputs of a study: look at them, and say what they see."""

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lima.spec import CellSpec
from lima_k8s.terminal.output import say

if TYPE_CHECKING:
    from lima.inputs.content import Contents
    from lima.lint import Finding
    from lima.preparing.prepare import Prepared, Seen
    from lima.store.storage import Storage

LARGE = 256 << 20
"""Bytes of a file from which on it is said how far its reading is."""
SAY_EVERY_S = 2.0
LARGEST_COPY = 100 << 20
"""Bytes of the largest file that a study on this machine keeps a copy of."""


def look(
    cells: Sequence[CellSpec],
    home: str | None = None,
    *,
    storage: "Storage | None" = None,
    brief: bool = False,
) -> "Prepared":
    """Return a study with the fingerprints of its inputs.

    Args:
        cells: The study.
        home: URI of the storage of its runs on a cluster; None: they are on this machine.
        storage: Of its results, if it may be asked for baselines of its judges.
        brief: Whether to ask buckets only for what they tell in seconds, and to read none.

    Raises:
        ChangedInputError: an input is not what the study says.
        StorageError: an object store does not answer, where the runs are on this machine.

    """
    from lima.preparing.prepare import prepare

    return prepare(cells, _contents(home, brief), storage=storage, patient=home is not None)


def _contents(home: str | None, brief: bool) -> "Contents":
    from lima.inputs.content import Contents

    watch = progress("read for its fingerprint")
    return Contents(home=home, brief=brief, watch=watch)


def progress(what: str) -> Callable[[str, int, int], None]:
    """Return what says how far the reading or the sending of a large file is."""
    said: dict[str, float] = {}

    def watch(where: str, done: int, total: int) -> None:
        now = time.monotonic()
        if total >= LARGE and now - said.setdefault(where, now) >= SAY_EVERY_S:
            said[where] = now
            say(f"{where}: {100 * done // total} % of {size(total)} {what}")

    return watch


def say_unknown(prepared: "Prepared") -> None:
    """Say which fingerprints are not known, and what follows from it."""
    for place, why in prepared.unknown:
        say(
            f"{place.role}: fingerprint unknown: {', '.join(place.paths)}: {why}; the run is named "
            "by the path, keeps to what it finds there when it first starts, and is not looked at "
            "again once it is finished"
        )


def settled(
    storage: "Storage", cells: Sequence[CellSpec], prepared: "Prepared", *, adopt: bool
) -> tuple[CellSpec, ...]:
    """Return the cells to run: where older runs were adopted, those are meant.

    Raises:
        InputError: with `adopt`: an older run was made of something else than what is there now.
        StorageError: storage cannot be reached.

    """
    from lima.preparing.adopt import standing_for

    return standing_for(storage, cells, prepared.cells, adopt=adopt)


def say_changes(storage: "Storage", cells: Sequence[CellSpec]) -> None:
    """Say which inputs are others than in earlier runs of the same cells."""
    from lima.preparing.history import changes

    for change in changes(storage, cells):
        say(change.told(storage))


def keep_copies(storage: "Storage", prepared: "Prepared") -> None:
    """Keep copies of the examples, prompts and responses of a study, as far as they are small."""
    from lima.preparing.bring import TEXTS, bring, missing, parcels

    for parcel in missing(storage, parcels(prepared, TEXTS)):
        if parcel.file.size <= LARGEST_COPY:
            bring(storage, parcel)


def study_of(uri: str, run: str) -> tuple[CellSpec, ...]:
    """Return the study of a run, which reads the copies of its inputs that the storage keeps.

    Args:
        uri: Of the storage.
        run: Id of the run, or how it begins.

    Raises:
        InputError: no run has that id, or several begin like it.
        StorageError: storage cannot be reached.

    """
    from lima.preparing.bring import copied
    from lima.runs.recorded_spec import cell_of
    from lima.store.storage import Storage

    storage = Storage(uri)
    return copied([cell_of(storage, run)], storage)


def documents(prepared: "Prepared") -> list[dict[str, Any]]:
    """Return the inputs of a study as plain data, for machines.

    `there` is null where nobody could be asked, and so are `fingerprint` and `bytes`.
    """
    return [_document(seen) for seen in prepared.inputs]


def _document(seen: "Seen") -> dict[str, Any]:
    from lima.inputs.memory import Unknown

    found, entry = seen.content, {"role": seen.place.role, "path": ", ".join(seen.place.paths)}
    if isinstance(found, Unknown):
        is_there = True if found.size is not None else False if found.is_absent else None
        facts = {"there": is_there, "fingerprint": seen.place.fingerprint, "bytes": found.size}
        return {**entry, **facts, "unknown": found.why}
    return {**entry, "there": True, "fingerprint": found.fingerprint, "bytes": found.size}


def promised(cell: CellSpec | None) -> list[dict[str, Any]]:
    """Return the inputs of a run as its spec names them, as plain data; nothing is looked at."""
    from lima.inputs.places import places

    return [
        {
            "role": place.role,
            "path": ", ".join(place.paths),
            "fingerprint": place.fingerprint,
            "bytes": None,
        }
        for place in (places(cell) if cell else ())
    ]


def input_findings(prepared: "Prepared") -> list["Finding"]:
    """Return a note on each input: whether it is there, its size, its fingerprint.

    An error on those that are not in their bucket: of files and folders of this machine the
    checks of the stages say it.
    """
    from lima.lint import Finding

    found = []
    for entry in documents(prepared):
        is_gone = entry["there"] is False and "://" in entry["path"]
        fix = "put it there, or name another" if is_gone else ""
        found.append(Finding("error" if is_gone else "note", entry["role"], told(entry), fix))
    return found


def told(document: dict[str, Any]) -> str:
    """Return an input of `documents` in words."""
    from lima.inputs.fingerprint import short

    big = "" if document["bytes"] is None else f", {size(document['bytes'])}"
    why = f": {document['unknown']}" if "unknown" in document else ""
    if document.get("there") is False:
        return f"{document['path']}, not there{why}"
    return f"{document['path']}{big}, {short(document['fingerprint'])}{why}"


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
