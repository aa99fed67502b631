"""How an answer is read: what its words say, as whoever asked wants to know it."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Reading:
    """What an answer says: a score, a label, or nothing beside its words."""

    score: float | None = None
    label: str | None = None


class Reader(Protocol):
    """Reads answers."""

    @property
    def wanted(self) -> str:
        """What an answer has to end with, in words."""
        ...

    def read(self, words: str) -> Reading | None:
        """Return what an answer says; None where it does not end as it was asked to."""
        ...
