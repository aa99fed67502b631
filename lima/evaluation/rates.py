"""Shares of labels: what people and models said of an arm, and what missing labels could change.

An item counts once for a group of raters, with the label that was given first; the labels of
other raters of the group serve agreement. An item without a label is missing, never a tie.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from lima.evaluation.intervals import clopper_pearson
from lima.evaluation.labels import Label
from lima.evaluation.scan import Tables
from lima.judging.instructions import Kind
from lima.results import ITEMS

HUMAN = ("crowd", "author")
_ITEM = ["run_id", "item_id", "kind", "arm_1", "arm_2"]


@dataclass(frozen=True)
class Rate:
    """A share of the labelled items.

    Args:
        count: items with the label.
        total: items with any label.
        missing: items that were asked about and have none.

    """

    count: int
    total: int
    missing: int = 0

    @property
    def value(self) -> float:
        """The share."""
        return self.count / self.total

    @property
    def interval(self) -> tuple[float, float]:
        """Its exact 95 % interval (Clopper and Pearson)."""
        return clopper_pearson(self.count, self.total)

    @property
    def bounds(self) -> tuple[float, float]:
        """How low and how high it could be, whatever the missing items deserve."""
        rows = self.total + self.missing
        return self.count / rows, (self.count + self.missing) / rows


@dataclass(frozen=True)
class Counts:
    """Labelled items by label, and items without a label."""

    counts: Counter[str]
    missing: int = 0

    @property
    def total(self) -> int:
        """Items with a label."""
        return self.counts.total()

    def rate(self, *labels: str) -> Rate | None:
        """Return the share of items with one of some labels; None without any."""
        if not self.total:
            return None
        return Rate(sum(self.counts[label] for label in labels), self.total, self.missing)


@dataclass(frozen=True)
class Labelled:
    """All labels of a study, and all items that raters were asked about."""

    labels: Sequence[Label]
    items: Sequence[dict[str, Any]]

    def of(self, kind: Kind, arm: str, groups: Iterable[str], other: str | None = None) -> Counts:
        """Count the labels of an arm, or of its pairs with another arm.

        For pairs the labels are win, tie and lose of `arm`.
        """
        arms, wanted = {arm, other}, set(groups)
        mine = [
            x
            for x in self.labels
            if x.kind == kind
            and {x.arm_1, x.arm_2} == arms
            and x.group in wanted
            and x.conversation_id is None
        ]
        runs = {x.run_id for x in mine}
        asked = {x.item_id for x in mine} | {
            row["item_id"]
            for row in self.items
            if row["run_id"] in runs
            and row["kind"] == kind
            and {row["arm_1"], row["arm_2"]} == arms
        }
        first = first_labels(mine)
        said = Counter((x.for_arm(arm) if other else x.value) or "" for x in first)
        return Counts(said, len(asked) - len(first))


def read_labelled(tables: Tables, labels: Sequence[Label]) -> Labelled:
    """Return labels with the items that raters were asked about."""
    return Labelled(labels, tables.read(ITEMS, _ITEM).to_pylist())


def first_labels(labels: Iterable[Label]) -> list[Label]:
    """Return one label an item: the one that was given first."""
    kept: dict[str, Label] = {}
    for label in sorted(labels, key=lambda x: (x.presentation, x.at or 0, x.rater)):
        if label.value is not None:
            kept.setdefault(label.item_id, label)
    return list(kept.values())
