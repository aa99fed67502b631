"""What a judge can be asked for: the wording by its hash, and how a verdict is read."""

from collections.abc import Callable
from dataclasses import dataclass

from lima.judging.likert import RUBRIC_HASH, parse_score
from lima.judging.preference import PREFERENCE_HASH, TOLD, parse_label

LIKERT, PREFERENCE = "likert-6", "preference"


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


def _score(verdict: str) -> Reading | None:
    score = parse_score(verdict)
    return None if score is None else Reading(score=float(score))


def _label(verdict: str) -> Reading | None:
    label = parse_label(verdict)
    return None if label is None else Reading(label=label)


RUBRICS = {
    rubric.name: rubric
    for rubric in (
        Rubric(LIKERT, RUBRIC_HASH, _score, "a grade"),
        Rubric(PREFERENCE, PREFERENCE_HASH, _label, "a label", told=TOLD.hash),
    )
}
