"""What a judge can be asked for: the wording by its hash, and how a verdict is read."""

from lima.endpoints.reading import Reading, Rubric
from lima.judging.likert import RUBRIC_HASH, parse_score
from lima.judging.preference import PREFERENCE_HASH, TOLD, parse_label

LIKERT, PREFERENCE = "likert-6", "preference"


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
