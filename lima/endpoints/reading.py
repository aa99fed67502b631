"""How an answer is read: what its words say, as whoever asked wants to know it."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Reading:
    """What a verdict says: a score, or a label."""

    score: float | None = None
    label: str | None = None


@dataclass(frozen=True)
class Rubric:
    """A way to judge.

    Args:
        name: what `judge.rubric` says.
        hash: sha256 of its whole wording.
        read: reads a verdict; None where it does not end as it was asked to.
        wanted: what a verdict ends with, in words.
        told: sha256 of what people are told, where they can be asked too.

    """

    name: str
    hash: str
    read: Callable[[str], Reading | None]
    wanted: str
    told: str | None = None
