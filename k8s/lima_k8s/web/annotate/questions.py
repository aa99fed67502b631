"""What a page asks about an item of each kind, and how answers become columns."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lima.errors import InputError
from lima.rating.instructions import Choice, Kind, instructions

LABEL = "label"
YES, NO = "yes", "no"


@dataclass(frozen=True)
class Question:
    """A question, the column that its answer fills, and whether there must be an answer."""

    column: str
    words: str
    choices: tuple[Choice, ...]
    required: bool = True


_BESIDE: dict[Kind, Question] = {
    "absolute": Question(
        "out_of_distribution",
        "Only if you know the training examples:",
        (Choice(YES, "None of them is like this prompt.", "o"),),
        required=False,
    ),
    "safety": Question(
        "malicious",
        "Does the prompt mean harm?",
        (Choice(YES, "It means harm.", "y"), Choice(NO, "It does not.", "n")),
    ),
}
"""What is asked beside the label: section 4.3's flags, which are no part of the instructions."""


def questions(kind: Kind, *, pair: bool) -> tuple[Question, ...]:
    """Return what is asked about an item, the label last: to give it ends the task."""
    asked = instructions(kind, pair=pair)
    label = Question(LABEL, asked.question, asked.choices)
    return (_BESIDE[kind], label) if kind in _BESIDE else (label,)


def for_page(asked: Sequence[Question]) -> list[dict[str, Any]]:
    """Return questions as a page reads them."""
    return [asdict(question) for question in asked]


def check_answers(questions: Sequence[Question], answers: Mapping[str, str]) -> None:
    """Refuse answers to other questions, other choices, and missing ones.

    Raises:
        InputError: they do not fit what is asked.

    """
    asked = {question.column: question for question in questions}
    for column, answer in answers.items():
        if column not in asked or answer not in [c.label for c in asked[column].choices]:
            raise InputError(f"{answer!r} is no answer to {column!r} here")
    missing = [c for c, question in asked.items() if question.required and c not in answers]
    if missing:
        raise InputError(f"no answer to {', '.join(missing)}")


def columns(answers: Mapping[str, str]) -> dict[str, Any]:
    """Return answers as columns of `annotations`."""
    flags = {column: answer == YES for column, answer in answers.items() if column != LABEL}
    return {LABEL: answers.get(LABEL), **flags}
