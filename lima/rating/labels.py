"""The labels that count: of people from `annotations`, of models from `judgments`.

A label of a pair is oriented by the arms of the responses, not by how they were shown or by who
was compared with whom, so that all raters of a pair say the same thing in the same words.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, cast, get_args

import pyarrow as pa
import pyarrow.compute as pc

from lima.errors import DataError
from lima.rating.instructions import A_BETTER, Kind, instructions
from lima.rating.items import OURS_FIRST, TIE, winner
from lima.runs.lineage import PREFERENCE, read_spec
from lima.store.scan import Tables
from lima.store.tables import ANNOTATIONS, JUDGMENTS, RUNS

FIRST, SECOND = "1", "2"
Asked: TypeAlias = Kind | Literal["dialogues"]
"""What a label answers: its kind, but whole dialogues that are compared are told from turns."""
VALUES: dict[Asked, tuple[str, ...]] = {
    "preference": (FIRST, SECOND, TIE),
    "checkpoint": (FIRST, SECOND, TIE),
    "dialogues": (FIRST, SECOND, TIE),
    "absolute": ("fail", "pass", "excellent"),
    "dialogue": ("fail", "pass", "excellent"),
    "safety": ("safe", "unsafe"),
}
"""What a label can be."""
UNKNOWN_ORDER = "unknown"
LABELLED, SKIPPED, UNDONE = "labelled", "skipped", "undone"
MODEL = "model"
INCONSISTENT = "inconsistent"
"""The comment of a tie that stands for two verdicts, one in each order, that differ."""

_ANNOTATION = [
    "experiment",
    "run_id",
    "annotation_id",
    "event",
    "supersedes",
    "item_id",
    "presentation",
    "kind",
    "rater",
    "rater_group",
    "label",
    "shown",
    "prompt_key",
    "response_1",
    "response_2",
    "arm_1",
    "arm_2",
    "conversation_id",
    "turn",
    "malicious",
    "out_of_distribution",
    "comment",
]
_JUDGMENT = [
    "experiment",
    "run_id",
    "item_id",
    "presentation",
    "final",
    "status",
    "label",
    "shown",
    "judge",
    "prompt_key",
    "generation_key",
    "response_2",
    "arm",
    "arm_2",
]


@dataclass(frozen=True)
class Label:
    """The last word of a rater on a showing of an item; no value: there is none.

    For pairs, `value` is "1" or "2" for the response of `arm_1` or `arm_2`, or "tie", and the
    arms are in their order by name. `shown_first` is the value that A would have had, `ours` that
    of the response that was asked about, which the other one was set against.
    """

    item_id: str
    presentation: int
    kind: Kind
    rater: str
    group: str
    value: str | None
    status: str
    arm_1: str
    arm_2: str | None
    prompt_key: str
    shown_first: str | None = None
    conversation_id: str | None = None
    turn: int | None = None
    malicious: bool | None = None
    out_of_distribution: bool | None = None
    run_id: str = ""
    experiment: str = ""
    ours: str = FIRST
    responses: tuple[str, str | None] = ("", None)
    inconsistent: bool = False

    @property
    def asked(self) -> Asked:
        """What it answers; two answers of dialogues are compared as any two responses are."""
        if self.arm_2 is None or self.kind == "checkpoint":
            return self.kind
        whole = self.kind == "dialogue" or self.conversation_id is not None
        return "dialogues" if whole and self.turn is None else "preference"

    @property
    def side(self) -> str:
        """Where a winner stood: "A" or "B"; "tie", or "unknown"."""
        if self.value == TIE or self.value is None:
            return TIE
        if self.shown_first is None:
            return UNKNOWN_ORDER
        return "A" if self.value == self.shown_first else "B"

    @property
    def subject(self) -> str:
        """The arm that was asked about."""
        return self.arm_1 if self.ours == FIRST else self.arm_2 or ""

    def for_arm(self, arm: str) -> str | None:
        """Return what a label of a pair says of one of its arms: win, tie or lose.

        Of two responses of one arm, it says that of the one that was asked about.
        """
        if self.value in (TIE, None):
            return self.value
        return "win" if self.value == self.place(arm) else "lose"

    def place(self, arm: str) -> str:
        """Return which of the two responses is that of `arm`."""
        if self.arm_1 == self.arm_2:
            return self.ours
        return FIRST if arm == self.arm_1 else SECOND


def read_labels(tables: Tables) -> list[Label]:
    """Return the last word of every rater on every showing, those without a label included.

    Raises:
        DataError: a label is none that its question has, or a spec cannot be read.
        StorageError: storage cannot be reached.

    """
    rows = tables.read(ANNOTATIONS, _ANNOTATION).to_pylist()
    found = [_of_annotation(row) for row in standing(rows)]
    judged = tables.map(JUDGMENTS, _JUDGMENT, _compared, runs=set(_comparisons(tables)))
    found += [_of_judgment(row) for _, rows in judged for row in rows]
    return sorted(found, key=lambda x: (x.item_id, x.rater, *by_showing(x)))


def standing(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the events that nothing supersedes; an undone label leaves none."""
    listed = list(rows)
    gone = {row["supersedes"] for row in listed if row["supersedes"]}
    return [r for r in listed if r["annotation_id"] not in gone and r["event"] != UNDONE]


def first_showings(labels: Iterable[Label]) -> list[Label]:
    """Return the label of the first showing of each item which has one, of each rater."""
    kept: dict[tuple[str, str], Label] = {}
    for label in sorted(labels, key=by_showing):
        if label.value is not None:
            kept.setdefault((label.item_id, label.rater), label)
    return list(kept.values())


def one_each(labels: Iterable[Label]) -> list[Label]:
    """Return one label an item and rater; it does not depend on when labels were given.

    That is the one of the first showing which has one. A pair that a rater saw both ways round, at
    two showings or asked about from each of its arms, has one label all the same: where the first
    of each order differ, it is a tie (MT-bench's inconsistent verdicts). Further showings measure
    drift; a rater must not count twice.
    """
    listed = list(labels)
    ways: dict[tuple[str, str], dict[str, str | None]] = {}
    for label in sorted(listed, key=by_showing):
        if label.shown_first and label.value is not None:
            said = ways.setdefault((label.item_id, label.rater), {})
            said.setdefault(label.shown_first, label.value)
    torn = {showing for showing, said in ways.items() if len(set(said.values())) > 1}
    return [
        replace(x, value=TIE, inconsistent=True) if (x.item_id, x.rater) in torn else x
        for x in first_showings(listed)
    ]


def by_showing(label: Label) -> tuple[int, str]:
    """Return the key that orders the showings of an item to a rater; of several runs, by their ids.

    When they were labelled says nothing: a run that is computed again must count the same.
    """
    return label.presentation, label.run_id


def answering(labels: Iterable[Label], asked: Asked) -> list[Label]:
    """Return the labels that answer one question."""
    return [label for label in labels if label.asked == asked]


def groups_of(labels: Sequence[Label]) -> list[str]:
    """Return the groups of raters, in the paper's order."""
    known = ["crowd", "author", MODEL]
    found = {label.group for label in labels}
    return [g for g in known if g in found] + sorted(found.difference(known))


def known_groups(tables: Tables) -> dict[str, set[str]]:
    """Return the groups in which each rater has labelled: of people, and of judges of pairs."""
    rows = tables.read(ANNOTATIONS, ["rater", "rater_group"]).to_pylist()
    pairs = {(row["rater"], row["rater_group"]) for row in rows}
    pairs |= {(spec["judge"].get("model") or "", MODEL) for spec in _comparisons(tables).values()}
    found: dict[str, set[str]] = {}
    for rater, group in pairs:
        found.setdefault(rater, set()).add(group)
    return found


def _comparisons(tables: Tables) -> dict[str, dict[str, Any]]:
    """Return the specs of runs whose judge compares responses; others may have a million scores."""
    rows = tables.read(RUNS, ["run_id", "stage", "spec"]).to_pylist()
    specs = {r["run_id"]: read_spec(r["run_id"], r["spec"]) for r in rows if r["stage"] == "judge"}
    return {
        run: spec
        for run, spec in specs.items()
        if (spec.get("judge") or {}).get("rubric") == PREFERENCE
    }


def _compared(part: pa.Table) -> list[dict[str, Any]]:
    """Return the final judgments of pairs; scores are no labels."""
    rows: list[dict[str, Any]] = part.filter(
        pc.and_(part["final"], pc.is_valid(part["item_id"]))
    ).to_pylist()
    return rows


def _of_annotation(row: dict[str, Any]) -> Label:
    label = row["label"] if row["event"] == LABELLED else None
    pair = row["arm_2"] is not None
    _refuse_other(ANNOTATIONS.name, row["run_id"], label, _answers(row["kind"], pair=pair))
    found = Label(
        **{k: row[k] for k in ("item_id", "presentation", "kind", "rater", "arm_1", "arm_2")},
        **{k: row[k] for k in ("prompt_key", "conversation_id", "turn", "malicious", "run_id")},
        experiment=row["experiment"],
        out_of_distribution=row["out_of_distribution"],
        group=row["rater_group"],
        value=winner(label, row["shown"]) if pair and label else label,
        status="ok" if label else row["event"],
        shown_first=_shown_first(row["shown"]) if pair else None,
        responses=(row["response_1"], row["response_2"]),
        inconsistent=row["comment"] == INCONSISTENT,
    )
    return _oriented(found, row["response_1"], row["response_2"])


def _of_judgment(row: dict[str, Any]) -> Label:
    label = row["label"] if row["status"] == "ok" else None
    _refuse_other(JUDGMENTS.name, row["run_id"], label, _answers("preference", pair=True))
    found = Label(
        **{k: row[k] for k in ("item_id", "presentation", "status", "prompt_key", "run_id")},
        experiment=row["experiment"],
        responses=(row["generation_key"], row["response_2"]),
        kind="preference",
        rater=row["judge"],
        group=MODEL,
        value=winner(label, row["shown"]) if label else None,
        arm_1=row["arm"],
        arm_2=row["arm_2"],
        shown_first=_shown_first(row["shown"]),
    )
    return _oriented(found, row["generation_key"], row["response_2"])


def _answers(kind: str, *, pair: bool) -> tuple[str, ...]:
    """Return what can be said of an item; nothing where its kind is not known, or not of pairs."""
    if kind not in get_args(Kind):
        return ()
    allowed = instructions(cast("Kind", kind), pair=pair).labels
    return allowed if (A_BETTER in allowed) == pair else ()


def _refuse_other(table: str, run: str, label: str | None, allowed: Sequence[str]) -> None:
    """Refuse a label that is none: for a pair, it would be taken for a tie."""
    if label is not None and label not in allowed:
        raise DataError(
            f"{table}: run {run}: {label!r} is none of the labels of its kind "
            f"({', '.join(allowed) or 'not known, or of a pair that is none'}); move its shard out "
            "of the table"
        )


def _shown_first(shown: str) -> str | None:
    return None if shown == UNKNOWN_ORDER else FIRST if shown == OURS_FIRST else SECOND


def _oriented(label: Label, first: str, second: str | None) -> Label:
    """Put the responses in the order of their arms; of one arm, in that of their keys."""
    if second is None or (label.arm_1, first) <= (label.arm_2 or "", second):
        return label
    return replace(
        label,
        arm_1=label.arm_2 or "",
        arm_2=label.arm_1,
        value=_other(label.value),
        shown_first=_other(label.shown_first),
        ours=SECOND,
        responses=(second, first),
    )


def _other(value: str | None) -> str | None:
    return {FIRST: SECOND, SECOND: FIRST}.get(value or "", value)
