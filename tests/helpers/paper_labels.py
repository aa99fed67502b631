"""Labels of the paper's own shares, of others, or of ten rows (sections 4 and 6)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from lima.common.clock import now
from lima.evaluation.paper.numbers import paper_facts

LIMA, DIALOGUE = "lima-1000", "dialogue-1030"
BASELINES = {
    "alpaca_65b": "alpaca",
    "davinci003": "text-davinci-003",
    "bard": "Bard",
    "claude": "claude",
    "gpt-4": "gpt4",
}
LABELS = {"run_id": "f" * 16, "spec_hash": "h", "experiment": "labels", "arm": LIMA, "seed": 0}


@dataclass(frozen=True)
class Case:
    """What is fed in; `moved`: away from the paper's values; `few`: ten rows, or three of ten."""

    moved: bool = False
    few: bool = False

    def pick(self, same: Any, moved: Any, few: Any) -> Any:
        """Return what this case takes."""
        return moved if self.moved else few if self.few else same


def facts(*of: str) -> dict[tuple[Any, ...], float]:
    """Return the paper's values whose names begin so, by the rest of their names."""
    return {_plain(f.of)[len(of) :]: f.value for f in paper_facts() if f.of[: len(of)] == of}


def _plain(of: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(tuple(part) if isinstance(part, list) else part for part in of)


def labels(case: Case) -> list[dict[str, Any]]:
    """Return all labels, as rows of `annotations`."""
    rows = [
        *_preferences(case),
        *_agreement(case),
        *_absolute(case),
        *_safety(case),
        *_turns(case),
        *_dialogues(case),
    ]
    common = {
        "event": "labelled",
        "presentation": 0,
        "shown": "12",
        "prompt_key": "p",
        "arm_1": LIMA,
        "response_1": "x",
        "rater": "a",
        "rater_group": "crowd",
        "written_at": now(),
    }
    return [
        {**common, "annotation_id": str(n), "item_id": str(n), **row} for n, row in enumerate(rows)
    ]


def _shares(shares: Mapping[str, float], rows: int) -> list[str]:
    """Return `rows` labels in the given shares, as near as whole rows come."""
    labels = [label for label, share in shares.items() for _ in range(round(share * rows))]
    return labels[:rows] + [next(iter(shares))] * (rows - len(labels))


def _preferences(case: Case) -> list[dict[str, Any]]:
    said = {"win": "A", "tie": "neither", "lose": "B"}
    rows = []
    for rater, group in (("human", "crowd"), ("model", "model")):
        for baseline, arm in BASELINES.items():
            cell = {key[0]: value for key, value in facts("preference", rater, baseline).items()}
            shift = 0.17 if case.moved else 0.0
            shares = {
                label: cell[outcome] + (shift if outcome == "win" else -shift / 2)
                for outcome, label in said.items()
            }
            rows += [
                {
                    "kind": "preference",
                    "label": label,
                    "arm_2": arm,
                    "response_2": "y",
                    "rater": group,
                    "rater_group": group,
                }
                for label in _shares(shares, case.pick(300, 300, 10))
            ]
    return rows


def _agreement(case: Case) -> list[dict[str, Any]]:
    """Return the labels of two people of each group and a model about pairs of other arms."""
    raters = ("c0", "c1", "a0", "a1", "m")
    groups = {"c": "crowd", "a": "author", "m": "model"}
    # Counted out so that all five figures are the paper's.
    same = [
        *["AAAAA"] * 26,
        *["AAAAB"] * 5,
        "ABABA",
        *["ABAAA"] * 8,
        *["AAABA"] * 8,
        "AAABB",
        "AAABn",
    ]
    few = [*["AAAAA"] * 6, "AAAAB", "ABABA", "ABABA", "AABBA"]
    patterns = case.pick(same, ["AAAAA"] * 50, few)
    words = {"A": "A", "B": "B", "n": "neither"}
    return [
        {
            "kind": "preference",
            "item_id": f"shared{i}",
            "label": words[letter],
            "rater": rater,
            "rater_group": groups[rater[0]],
            "arm_1": "one",
            "arm_2": "two",
            "response_2": "y",
        }
        for i, pattern in enumerate(patterns)
        for rater, letter in zip(raters, pattern, strict=True)
    ]


def _absolute(case: Case) -> list[dict[str, Any]]:
    grades = ("excellent", "pass", "fail")
    moved = {"excellent": 0.1, "pass": 0.1, "fail": 0.8}
    rows = []
    for of, size, marked in (("absolute", 50, None), ("out_of_distribution", 20, True)):
        told = {grade: facts(of)[grade,] for grade in grades}
        shares = case.pick(told, moved if marked is None else {"fail": 1.0}, told)
        rows += [
            {"kind": "absolute", "label": label, "out_of_distribution": marked}
            for label in _shares(shares, 10 if case.few else size)
        ]
    return rows


def _safety(case: Case) -> list[dict[str, Any]]:
    """Return the labels of harmless prompts and of malicious ones, safe ones first."""
    harmless, malicious = case.pick(((18, 20), (6, 10)), ((2, 20), (0, 10)), ((6, 7), (2, 3)))
    return [
        {"kind": "safety", "label": "safe" if i < safe else "unsafe", "malicious": harm}
        for harm, (safe, size) in ((False, harmless), (True, malicious))
        for i in range(size)
    ]


def _turns(case: Case) -> list[dict[str, Any]]:
    """Return the labels of answers; of LIMA's ten conversations six fail within three answers."""
    e, p, f = "excellent", "pass", "fail"
    zero_shot = case.pick(
        [
            *[[p, f, e, f, f]] * 3,
            *[[e, f, e, f]] * 3,
            *[[e, e, p]] * 2,
            [e, e, e, p],
            [e, e, e, p, p],
        ],
        [[f, f, f, f]] * 10,
        [[p, f, f], [f, e, e], [e, p, e, f]],
    )
    tuned = case.pick(
        [*[[e, e, e, e, p]] * 6, *[[e, e, e, p]] * 3, [e, p, e, f]],
        [[f, f, f, f]] * 10,
        [[e, e, e, p], [e, e, p], [e, e, e]],
    )
    return [
        {
            "kind": "dialogue",
            "label": label,
            "arm_1": arm,
            "turn": turn,
            "conversation_id": str(c),
            "item_id": f"{arm}/{c}/{turn}",
        }
        for arm, conversations in ((LIMA, zero_shot), (DIALOGUE, tuned))
        for c, labels in enumerate(conversations)
        for turn, label in enumerate(labels, 1)
    ]


def _dialogues(case: Case) -> list[dict[str, Any]]:
    labels = case.pick(["A"] * 7 + ["neither"] * 3, ["B"] * 20, ["A", "A", "neither"])
    return [
        {
            "kind": "dialogue",
            "label": label,
            "arm_1": DIALOGUE,
            "arm_2": LIMA,
            "response_2": "y",
            "conversation_id": str(i),
        }
        for i, label in enumerate(labels)
    ]
