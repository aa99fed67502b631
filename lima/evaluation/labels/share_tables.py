"""The tables of labels: shares of everything that people and models said, and conversations."""

from collections.abc import Mapping, Sequence
from typing import Any

from lima.evaluation.labels.contests import OUTCOMES, contests
from lima.evaluation.labels.label_shares import FIRST_TURNS, HUMAN, Counts, Labelled
from lima.rating.dialogues import ChatAnswer
from lima.rating.labels import Asked

GRADES = ("excellent", "pass", "fail")


def rate_rows(labelled: Labelled, heroes: Mapping[str, str | None]) -> list[dict[str, Any]]:
    """Return the shares of every kind of labels, with intervals and what is missing.

    Args:
        labelled: all labels.
        heroes: for questions about pairs, the arm that is named first wherever it takes part.

    """
    drawn, unlike = labelled.drawn(), labelled.out_of_distribution()
    early = f"failed within {FIRST_TURNS} answers"
    rows = [
        *_pair_rows(labelled, "preference", "{} against {}", heroes),
        *_single_rows(drawn, "absolute", "{}, absolute", GRADES),
        *_single_rows(unlike, "absolute", "{}, out of distribution", GRADES),
        *_single_rows(labelled, "safety", "{}, safety", ("safe", "unsafe")),
        *_single_rows(labelled.malicious(), "safety", "{}, malicious", ("safe", "unsafe")),
        *_single_rows(labelled, "dialogue", "{}, answers in dialogues", GRADES),
        *(
            _rate_row(
                f"{arm}, dialogues",
                "people",
                labelled.failed_early(arm),
                {"failed": early, "not": "not"},
            )
            for arm in labelled.arms("dialogue")
        ),
        *_pair_rows(labelled, "dialogues", "{} against {}, whole dialogues", heroes),
    ]
    return [row for row in rows if row["n"]]


def chat_rows(labelled: Labelled) -> list[dict[str, Any]]:
    """Return the runs of conversations: who answered, how often, and how much is labelled."""
    labels = {x.item_id for x in labelled.labels if x.value is not None}
    by_run: dict[str, list[ChatAnswer]] = {}
    for answer in labelled.answers:
        by_run.setdefault(answer.run_id, []).append(answer)
    return [
        {
            "run": run,
            "arm": answers[0].arm,
            "model": answers[0].model,
            "conversations": len({a.conversation_id for a in answers}),
            "answers": len(answers),
            "labelled": sum(a.item_id in labels for a in answers),
        }
        for run, answers in sorted(by_run.items(), key=lambda found: (found[1][0].arm, found[0]))
    ]


def _pair_rows(
    labelled: Labelled, asked: Asked, what: str, heroes: Mapping[str, str | None]
) -> list[dict[str, Any]]:
    words = dict(zip(OUTCOMES, OUTCOMES, strict=True))
    return [
        _rate_row(what.format(found.arm, found.other), found.raters, found.counts, words)
        for found in contests(labelled, asked, heroes.get(asked))
    ]


def _single_rows(
    labelled: Labelled, asked: Asked, what: str, labels: Sequence[str]
) -> list[dict[str, Any]]:
    words = dict(zip(labels, labels, strict=True))
    return [
        _rate_row(what.format(arm), "people", labelled.of(asked, arm, HUMAN), words)
        for arm in labelled.arms(asked)
    ]


def _rate_row(what: str, raters: str, counts: Counts, words: dict[str, str]) -> dict[str, Any]:
    """Return a row of shares; `words` are what the labels are called on the page."""
    shares = []
    for label, word in words.items():
        rate = counts.rate(label)
        if rate:
            shares.append((word, rate.count, rate.value, *rate.interval, *rate.bounds))
    row = {"what": what, "raters": raters, "n": counts.total, "missing": counts.missing}
    return {**row, "shares": shares}
