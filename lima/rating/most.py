"""What most of several raters said, as one label an item."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from lima.rating.items import TIE
from lima.rating.labels import VALUES, Label, one_each

WORST_FIRST = {"safety": ("unsafe", "safe")}
"""Labels from the worst on, where `VALUES` has them otherwise."""


def labels_of_most(labels: Iterable[Label]) -> list[Label]:
    """Return one label an item: what most of its raters said, each once (see `one_each`).

    Where raters are divided evenly, two responses are a tie, and one response has the worse of the
    labels. Which rater is which makes no difference.
    """
    by_item: dict[str, list[Label]] = {}
    for label in one_each(labels):
        by_item.setdefault(label.item_id, []).append(label)
    return [_of_most(mine) for mine in by_item.values()]


def _of_most(labels: Sequence[Label]) -> Label:
    if len(labels) == 1:
        return labels[0]
    said = Counter(label.value for label in labels)
    most = [value for value, count in said.items() if count == max(said.values())]
    asked = labels[0].asked
    order = WORST_FIRST.get(asked, VALUES[asked])
    tie = TIE in order and len(most) > 1
    value = TIE if tie else min((str(value) for value in most), key=order.index)
    return replace(min(labels, key=lambda label: label.rater), value=value)
