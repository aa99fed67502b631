"""What a kind of source is: all that curation needs to know of one kind of files."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.damage import Damage
from lima.spec.curate import CurateSpec, SourceSpec

Read = Callable[[Sequence[str], SourceSpec, CurateSpec, Damage], Iterator[Candidate]]
"""Yields the candidates of files and folders as they are opened, in an order of their own, and
notes what cannot be read as damage. Raises a DataError where a path does not exist."""


@dataclass(frozen=True)
class SourceKind:
    """A kind of source.

    Args:
        name: What `curate.sources[].kind` says.
        suffixes: What the names of its files end with, without their compression.
        read: Reads them.
        licence: Of what this kind is, where its files name none; one that is declared stands in.

    """

    name: str
    suffixes: tuple[str, ...]
    read: Read
    licence: str = ""
