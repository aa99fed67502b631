"""Brings the inputs of a study to the storage that its runs on a cluster read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lima.errors import StorageError
from lima.spec import CellSpec
from lima.store.reachable import require_answer
from lima_k8s.study.inputs import look, progress, say_changes, say_unknown, settled, size
from lima_k8s.terminal.output import say

if TYPE_CHECKING:
    from lima.inputs.places import Kind
    from lima.preparing.bring import Parcel
    from lima.preparing.prepare import Prepared
    from lima.store.storage import Storage


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
    from lima.preparing.bring import FILES, parcels, relocated
    from lima.store.storage import Storage

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
        storage.exists("progress")  # whoever submits need not have the pods' rights
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
    from lima.preparing.bring import parcels, with_images_own

    files = [p.file.where for p in parcels(prepared, kinds) if not p.is_shipped]
    if files or delivery.adopt:
        wanted = f"{files[0]} cannot be brought" if files else "nothing can be adopted"
        raise StorageError(f"{wanted} to the storage: {error}")
    say(f"what has changed since earlier runs is not known: {error}")
    return with_images_own(prepared.cells)


def _bring(storage: "Storage", wanted: "Sequence[Parcel]") -> None:
    """Bring files of this machine to the storage; those that are there are not sent again."""
    from lima.preparing.bring import bring, missing, total

    left = missing(storage, wanted)
    for number, parcel in enumerate(left, start=1):
        say(
            f"bringing {parcel.file.where} to {storage.uri}/{parcel.path} "
            f"({number} of {len(left)}, {size(parcel.file.size)} of {size(total(left))})"
        )
        if there := bring(storage, parcel, progress("brought")):
            say(f"{parcel.file.where}: {size(there)} were there already, of an upload that was cut")


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
