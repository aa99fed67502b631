"""Labels in any shares, each kind by itself (sections 4 and 6)."""

from collections.abc import Mapping, Sequence
from typing import Any

from lima.common.clock import now
from lima.evaluation.paper.numbers import paper_facts
from tests.helpers.paper_labels import BASELINES

IDENTITY = {"run_id": "r" * 16, "spec_hash": "h", "experiment": "e", "arm": "lima", "seed": 0}
CELLS = {
    fact.of: fact.value for fact in paper_facts() if fact.of[0] == "preference" and fact.n == 300
}

NAMED = {"lima": "lima", "lima_dialogue": "lima_dialogue", **BASELINES}
"""Our arms by the paper's names: labels have no spec that would tell."""


def named_in(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return which of them some labels are about."""
    there = {row.get(side) for row in rows for side in ("arm_1", "arm_2")}
    return {name: arm for name, arm in NAMED.items() if arm in there}


def event(number: int, **columns: Any) -> dict[str, Any]:
    """Return a label, as a row of `annotations`."""
    return {
        "annotation_id": str(number),
        "event": "labelled",
        "presentation": 0,
        "shown": "12",
        "prompt_key": "p",
        "arm_1": "lima",
        "response_1": "x",
        "rater": "a",
        "rater_group": "crowd",
        "written_at": now(),
        **columns,
    }


def shares(counts: Mapping[str, float], rows: int) -> list[str]:
    """Return `rows` labels in the given shares, as near as whole rows come."""
    total, labels = sum(counts.values()), []
    for label, share in counts.items():
        labels += [label] * round(share / total * rows)
    return labels[:rows] + [next(iter(counts))] * (rows - len(labels))


def preferences(shift: float, rows: int) -> list[dict[str, Any]]:
    """Return labels of all cells of figures 1 and 2, with wins moved by `shift`."""
    said = {"win": "A", "tie": "neither", "lose": "B"}
    found: list[dict[str, Any]] = []
    for rater, group in (("human", "crowd"), ("model", "model")):
        for baseline, arm in BASELINES.items():
            cell = {
                said[o]: CELLS["preference", rater, baseline, o]
                + (shift if o == "win" else -shift / 2)
                for o in said
            }
            for i, label in enumerate(shares(cell, rows)):
                found.append(
                    event(
                        len(found),
                        kind="preference",
                        label=label,
                        arm_2=arm,
                        response_2=f"{arm}{i}",
                        rater_group=group,
                        rater=group,
                        item_id=f"{arm}{i}",
                    )
                )
    return found


def alone(kind: str, labels: Sequence[str], first: int, **columns: Any) -> list[dict[str, Any]]:
    """Return labels of one kind, whose numbers begin at `first`."""
    return [
        event(first + i, kind=kind, label=label, item_id=f"{kind}{first}-{i}", **columns)
        for i, label in enumerate(labels)
    ]


def others() -> list[dict[str, Any]]:
    """Return labels like those of sections 4.3 and 6."""
    rows = alone("safety", shares({"safe": 0.9, "unsafe": 0.1}, 20), 20_000, malicious=False)
    rows += alone("safety", shares({"safe": 0.6, "unsafe": 0.4}, 10), 20_100, malicious=True)
    turns = {
        "lima": shares({"excellent": 19, "pass": 8, "fail": 15}, 42),
        "lima_dialogue": shares({"excellent": 35, "pass": 10, "fail": 1}, 46),
    }
    for number, (arm, labels) in enumerate(turns.items()):
        for i, row in enumerate(alone("dialogue", labels, 30_000 + 100 * number, arm_1=arm)):
            # Fails come last, in 10 conversations; six of them fail among the first three turns.
            failed = i - (42 - 15)
            row |= {"conversation_id": str(i % 10), "turn": 1 + i // 10}
            if arm == "lima" and failed >= 0:
                row |= {"conversation_id": str(failed % 6), "turn": 2}
            rows.append(row)
    for i, label in enumerate(["A"] * 7 + ["neither"] * 3):
        rows.append(
            event(
                40_000 + i,
                kind="dialogue",
                label=label,
                arm_1="lima_dialogue",
                arm_2="lima",
                response_2="y",
                conversation_id=str(i),
                item_id=f"whole{i}",
            )
        )
    return rows
