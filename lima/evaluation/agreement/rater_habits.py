"""What each rater does beside the items: favours a side, changes its mind, leaves items out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from lima.evaluation.statistics.intervals import bounded_interval
from lima.rating.items import TIE
from lima.rating.labels import Label, by_showing, first_showings, one_each


@dataclass(frozen=True)
class Share:
    """A share of showings; None where there are none.

    Its interval is Clopper and Pearson's of items: several showings of one are not independent.
    """

    count: int
    total: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Rater:
    """The habits of a rater.

    Args:
        rater: its name.
        group: its group.
        items: items that it was asked about.
        labelled: items that it gave a label.
        ties: share of ties among its labels of pairs, as they count (see `one_each`).
        position: share of A among its decided labels; half of them without a bias.
        turned: share of pairs, decided in both orders, in which the same response won both times.
        repeated: share of items, labelled again as they were shown before, with the same label.
        inconsistent: share of pairs, asked about in both orders, of which it said two things.

    """

    rater: str
    group: str
    items: int
    labelled: int
    ties: Share
    position: Share
    turned: Share
    repeated: Share
    inconsistent: Share


def share(told: Iterable[tuple[str, bool]]) -> Share:
    """Return the share of what is told of items that is true, with its interval.

    Args:
        told: of each showing, or pair of them: its item, and whether it has the property.

    """
    by_item: dict[str, list[bool]] = {}
    for item, true in told:
        by_item.setdefault(item, []).append(true)
    if not by_item:
        return Share(0, 0, None, None, None)
    showings = [len(mine) for mine in by_item.values()]
    count, total = sum(sum(mine) for mine in by_item.values()), sum(showings)
    shares = [sum(mine) / len(mine) for mine in by_item.values()]
    found = bounded_interval(shares, showings)
    return Share(count, total, count / total, found.low, found.high)


def raters_of(labels: Iterable[Label]) -> list[Rater]:
    """Return the habits of all raters, by group and name."""
    ordered = sorted(labels, key=lambda x: (x.group, x.rater))
    grouped = groupby(ordered, key=lambda x: (x.group, x.rater))
    return [_rater(rater, group, list(mine)) for (group, rater), mine in grouped]


def _rater(rater: str, group: str, labels: Sequence[Label]) -> Rater:
    first = first_showings(labels)
    given = [x for x in labels if x.value is not None]
    pairs = [x for x in one_each(labels) if x.arm_2 is not None]
    decided = [x for x in given if x.side in ("A", "B")]
    again = [(x, y) for x, y in _showings(given) if x.shown_first == y.shown_first]
    both = [(x, y) for x, y in _showings(decided) if x.shown_first != y.shown_first]
    return Rater(
        rater,
        group,
        items=len({x.item_id for x in labels}),
        labelled=len(first),
        ties=share((x.item_id, x.value == TIE) for x in pairs),
        position=share((x.item_id, x.side == "A") for x in decided),
        turned=share((x.item_id, x.value == y.value) for x, y in both),
        repeated=share((x.item_id, x.value == y.value) for x, y in again),
        inconsistent=_inconsistent(first, given),
    )


def _inconsistent(first: Sequence[Label], given: Sequence[Label]) -> Share:
    """Return how often a verdict changed with the order, ties included.

    Votes that were brought tell it themselves: one vote stands for both orders then.
    """
    if any(x.inconsistent for x in first):
        return share((x.item_id, x.inconsistent) for x in first if x.arm_2 is not None)
    both = [(x, y) for x, y in _showings(given) if x.arm_2 and x.shown_first != y.shown_first]
    return share((x.item_id, x.value != y.value) for x, y in both)


def _showings(labels: Sequence[Label]) -> list[tuple[Label, Label]]:
    """Return the first showing of each item with each later one."""
    ordered = sorted(labels, key=lambda x: (x.item_id, *by_showing(x)))
    found = []
    for _, group in groupby(ordered, key=lambda x: x.item_id):
        first, *later = group
        found += [(first, other) for other in later]
    return found
