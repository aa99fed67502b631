"""What commands do with the inputs of a study: look at them, say it, bring them to the storage."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lima.errors import StorageError
from lima.reachable import require_answer
from lima.spec import CellSpec
from lima_k8s.output import say

if TYPE_CHECKING:
    from lima.inputs.bring import Parcel
    from lima.inputs.content import Contents
    from lima.inputs.places import Kind
    from lima.inputs.prepare import Prepared
    from lima.lint import Finding
    from lima.storage import Storage

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
    offline: bool = False,
) -> "Prepared":
    """Return a study with the fingerprints of its inputs.

    Args:
        cells: The study.
        home: URI of the storage of its runs on a cluster; None: they are on this machine.
        storage: Of its results, if it may be asked for baselines of its judges.
        offline: Whether to ask neither object stores nor a hub.

    Raises:
        ChangedInputError: an input is not what the study says.
        StorageError: an object store does not answer, where the runs are on this machine.

    """
    from lima.inputs.prepare import prepare

    return prepare(cells, _contents(home, offline), storage=storage, patient=home is not None)


def _contents(home: str | None, offline: bool) -> "Contents":
    from lima.inputs.content import Contents

    watch = _progress("read for its fingerprint")
    return Contents(home=home, offline=offline, watch=watch)


def _progress(what: str) -> Callable[[str, int, int], None]:
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
    from lima.inputs.adopt import standing_for

    return standing_for(storage, cells, prepared.cells, adopt=adopt)


def say_changes(storage: "Storage", cells: Sequence[CellSpec]) -> None:
    """Say which inputs are others than in earlier runs of the same cells."""
    from lima.inputs.history import changes

    for change in changes(storage, cells):
        say(change.told(storage))


def keep_copies(storage: "Storage", prepared: "Prepared") -> None:
    """Keep copies of the examples, prompts and responses of a study, as far as they are small."""
    from lima.inputs.bring import TEXTS, bring, missing, parcels

    for parcel in missing(storage, parcels(prepared, TEXTS)):
        if parcel.file.size <= LARGEST_COPY:
            bring(storage, parcel)


@dataclass(frozen=True)
class Delivery:
    """How a study goes to a cluster.

    Args:
        storage: URI of its storage.
        adopt: Whether to take runs of before fingerprints for its own.
        models: Whether to bring folders of models too.
        dry_run: Whether to bring nothing, and not to look into the storage.

    """

    storage: str
    adopt: bool = False
    models: bool = False
    dry_run: bool = False


def deliver(cells: Sequence[CellSpec], delivery: Delivery) -> tuple[CellSpec, ...]:
    """Return a study whose runs read copies in the storage, and bring what is not there yet.

    Raises:
        InputError: an input is not what the study says, or changes while it is brought.
        StorageError: an input must be brought, and the storage does not take it.

    """
    from lima.inputs.bring import FILES, parcels, relocated
    from lima.storage import Storage

    prepared = look(cells, delivery.storage)
    say_unknown(prepared)
    storage = Storage(delivery.storage)
    kinds: tuple[Kind, ...] = (*FILES, "model") if delivery.models else FILES
    if not delivery.models:
        _say_models_that_stay(prepared)
    if delivery.dry_run:
        return relocated(prepared.cells, prepared, storage, kinds)
    try:
        require_answer(delivery.storage)
    except StorageError as error:
        return _unreached(prepared, kinds, delivery, error)
    chosen = settled(storage, cells, prepared, adopt=delivery.adopt)
    say_changes(storage, chosen)
    _bring(storage, parcels(prepared, kinds))
    return relocated(chosen, prepared, storage, kinds)


def _unreached(
    prepared: "Prepared", kinds: "Sequence[Kind]", delivery: Delivery, error: StorageError
) -> tuple[CellSpec, ...]:
    """Return a study for a storage that only the cluster reaches.

    Raises:
        StorageError: a file of this machine must be brought there, or a run adopted.

    """
    from lima.inputs.bring import parcels, with_images_own

    files = [p.file.where for p in parcels(prepared, kinds) if not p.is_shipped]
    if files or delivery.adopt:
        wanted = f"{files[0]} cannot be brought" if files else "nothing can be adopted"
        raise StorageError(f"{wanted} to the storage: {error}")
    say(f"what has changed since earlier runs is not known: {error}")
    return with_images_own(prepared.cells)


def _bring(storage: "Storage", wanted: "Sequence[Parcel]") -> None:
    """Bring files of this machine to the storage; those that are there are not sent again."""
    from lima.inputs.bring import bring, missing, total

    left = missing(storage, wanted)
    for number, parcel in enumerate(left, start=1):
        say(
            f"bringing {parcel.file.where} to {storage.uri}/{parcel.path} "
            f"({number} of {len(left)}, {size(parcel.file.size)} of {size(total(left))})"
        )
        bring(storage, parcel, _progress("brought"))


def _say_models_that_stay(prepared: "Prepared") -> None:
    """Say which models of this machine the pods have to have themselves."""
    from lima.inputs.memory import Unknown

    for seen in prepared.inputs:
        if seen.place.kind == "model" and not isinstance(seen.content, Unknown):
            here = [f for f in seen.content.files.values() if "://" not in f.where]
            if here:
                say(
                    f"{seen.place.role}: pods must have {seen.place.paths[0]} themselves; "
                    f"--upload-models brings it ({size(sum(f.size for f in here))})"
                )


def study_of(uri: str, run: str) -> tuple[CellSpec, ...]:
    """Return the study of a run, which reads the copies of its inputs that the storage keeps.

    Args:
        uri: Of the storage.
        run: Id of the run, or how it begins.

    Raises:
        InputError: no run has that id, or several begin like it.
        StorageError: storage cannot be reached.

    """
    from lima.inputs.bring import copied
    from lima.inputs.history import cell_of
    from lima.storage import Storage

    storage = Storage(uri)
    return copied([cell_of(storage, run)], storage)


def documents(prepared: "Prepared") -> list[dict[str, Any]]:
    """Return the inputs of a study as plain data, for machines."""
    from lima.inputs.memory import Unknown

    found = []
    for seen in prepared.inputs:
        known = None if isinstance(seen.content, Unknown) else seen.content
        fingerprint = known.fingerprint if known else seen.place.fingerprint
        entry: dict[str, Any] = {
            "role": seen.place.role,
            "path": ", ".join(seen.place.paths),
            "fingerprint": fingerprint,
            "bytes": known.size if known else None,
        }
        if isinstance(seen.content, Unknown):
            entry["unknown"] = seen.content.why
        found.append(entry)
    return found


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
    """Return a note on each input: whether it is there, its size, its fingerprint."""
    from lima.lint import Finding

    return [Finding("note", entry["role"], told(entry)) for entry in documents(prepared)]


def told(document: dict[str, Any]) -> str:
    """Return an input of `documents` in words."""
    from lima.inputs.fingerprint import short

    big = "" if document["bytes"] is None else f", {size(document['bytes'])}"
    why = f": {document['unknown']}" if "unknown" in document else ""
    return f"{document['path']}{big}, {short(document['fingerprint'])}{why}"


def size(count: int) -> str:
    """Return a number of bytes as people write it."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} bytes"
