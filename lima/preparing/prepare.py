"""Prepares a study to be run: finds out what its inputs contain, and names its runs by that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lima.errors import ChangedInputError, StorageError
from lima.inputs.content import Content, Contents
from lima.inputs.fingerprint import OBJECTS, TREE
from lima.inputs.memory import Unknown
from lima.inputs.places import Place, map_places
from lima.preparing.judged import with_judged
from lima.spec import CellSpec

if TYPE_CHECKING:
    from lima.store.storage import Storage


@dataclass(frozen=True)
class Seen:
    """An input of a study, as it was found."""

    place: Place
    content: Content | Unknown


@dataclass(frozen=True)
class Prepared:
    """A study whose inputs are known, as far as they can be.

    Args:
        cells: With the fingerprints of their inputs.
        inputs: All of them, each once.

    """

    cells: tuple[CellSpec, ...]
    inputs: tuple[Seen, ...]

    @property
    def unknown(self) -> list[tuple[Place, str]]:
        """The inputs that nothing is known of, and why."""
        return [
            (seen.place, seen.content.why)
            for seen in self.inputs
            if isinstance(seen.content, Unknown) and seen.place.fingerprint is None
        ]


def prepare(
    cells: Sequence[CellSpec],
    contents: Contents,
    *,
    storage: "Storage | None" = None,
    patient: bool = False,
) -> Prepared:
    """Return a study with the fingerprints of its inputs.

    A fingerprint that the study has already is a promise.

    Args:
        cells: The study.
        contents: What looks at its inputs.
        storage: Of its results, where baselines of its judges may lie; None: not asked.
        patient: Whether storage that does not answer leaves its inputs unknown: a cluster may
            reach what this machine cannot.

    Raises:
        ChangedInputError: an input is not what the study says.
        StorageError: an object store does not answer.

    """
    seen: dict[Place, Content | Unknown] = {}

    def look(place: Place) -> Place:
        if place not in seen:
            seen[place] = _look(place, contents, patient)
        found = seen[place]
        if isinstance(found, Unknown) or _told_otherwise(place, found):
            return place
        _keep_promise(place, found)
        return replace(place, fingerprint=found.fingerprint)

    prepared = with_judged([map_places(cell, look) for cell in cells], storage)
    return Prepared(prepared, tuple(Seen(place, found) for place, found in seen.items()))


def _look(place: Place, contents: Contents, patient: bool) -> Content | Unknown:
    try:
        return contents.of(place)
    except StorageError as error:
        if not patient:
            raise
        return Unknown(str(error))


def _told_otherwise(place: Place, found: Content) -> bool:
    """Say whether an input was promised by its bytes and is too large to be read for them here.

    Its worker reads them anyway, and checks them.
    """
    promised = place.fingerprint or ""
    return promised.startswith(TREE) and found.fingerprint.startswith(OBJECTS)


def _keep_promise(place: Place, found: Content) -> None:
    if place.fingerprint not in (None, found.fingerprint):
        raise ChangedInputError(
            f"{place.role}: {', '.join(place.paths)} is not what this study was written for: it "
            f"names {place.fingerprint}, and there is {found.fingerprint} now; put the old content "
            f"back, or take the fingerprint out of the study to run it on what is there"
        )
