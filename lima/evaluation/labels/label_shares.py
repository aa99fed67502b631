"""Shares of labels: what people and models said of an arm, and what missing labels could change.

An item counts once for a group of raters, with what most of them said (see `labels_of_most`); how
far they agree is told elsewhere. An item without a label is missing, never a tie.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from lima.evaluation.statistics.intervals import clopper_pearson
from lima.rating.dialogues import ChatAnswer, chat_answers
from lima.rating.labels import Asked, Label
from lima.rating.most import labels_of_most
from lima.store.scan import Tables
from lima.store.tables import ITEMS

HUMAN = ("crowd", "author")
FIRST_TURNS = 3
"""Section 6: in 6 of 10 conversations, LIMA fails within 3 interactions."""
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
class Item:
    """Something that raters were asked about; `run_id` is the round of labelling, if it had one."""

    item_id: str
    asked: Asked
    arms: frozenset[str | None]
    run_id: str | None = None


@dataclass(frozen=True)
class Labelled:
    """All labels of a study, all items that raters were asked about, and all answers of chats."""

    labels: Sequence[Label]
    items: Sequence[Item] = ()
    answers: Sequence[ChatAnswer] = ()

    def of(self, asked: Asked, arm: str, groups: Iterable[str], other: str | None = None) -> Counts:
        """Count the labels of an arm, or of its pairs with another arm.

        For pairs the labels are win, tie and lose of `arm`.
        """
        about, wanted = (asked, frozenset((arm, other))), set(groups)
        mine = [x for x in self.about(asked, arm, other) if x.group in wanted]
        rounds = {None, *(x.run_id for x in mine)}
        planned = {i.item_id for i in self._items_about.get(about, ()) if i.run_id in rounds}
        one = labels_of_most(mine)
        said = Counter((x.for_arm(arm) if other else x.value) or "" for x in one)
        return Counts(said, len(planned | {x.item_id for x in mine}) - len(one))

    def failed_early(self, arm: str) -> Counts:
        """Count the conversations of an arm with and without a failed answer among the first.

        Without one, a conversation is missing as long as one of these answers has no label.
        """
        labels = [
            x
            for x in self._labels_about.get(("dialogue", _alone(arm)), ())
            if x.group in HUMAN and x.turn is not None and x.turn <= FIRST_TURNS
        ]
        said = {x.item_id: x.value for x in labels_of_most(labels)}
        items = {x.item_id: x.conversation_id for x in labels}
        items |= {
            a.item_id: a.conversation_id
            for a in self.answers
            if a.arm == arm and a.turn <= FIRST_TURNS
        }
        found: dict[str | None, set[str | None]] = {}
        for item, conversation in items.items():
            found.setdefault(conversation, set()).add(said.get(item))
        counts = Counter(
            "failed" if "fail" in values else "missing" if None in values else "not"
            for values in found.values()
        )
        return Counts(counts, counts.pop("missing", 0))

    def arms(self, asked: Asked) -> list[str]:
        """Return the arms with labels of single responses, sorted."""
        found = {arm for kind, arms in self._labels_about if kind == asked for arm in arms}
        return sorted(arm for arm in found if arm is not None)

    def about(self, asked: Asked, arm: str, other: str | None = None) -> list[Label]:
        """Return the labels of an arm, or of its pairs with another arm."""
        return self._labels_about.get((asked, frozenset((arm, other))), [])

    def of_experiment(self, experiment: str) -> "Labelled":
        """Return the labels of one study."""
        return replace(self, labels=[x for x in self.labels if x.experiment == experiment])

    def pairs(self, asked: Asked, hero: str | None = None) -> list[tuple[str, str]]:
        """Return all pairs of arms that were compared, sorted, the one that was asked about first.

        That is `hero` wherever it takes part, else the arm that most labels were asked about.
        """
        found = []
        for (kind, arms), labels in self._labels_about.items():
            if kind == asked and None not in arms:
                asked_about = Counter(label.subject for label in labels)
                most = max(sorted(asked_about), key=asked_about.__getitem__)
                first = hero if hero and hero in arms else most
                found.append((first, next((arm for arm in arms if arm and arm != first), first)))
        return sorted(found)

    def by(self, groups: Iterable[str], rater: str | None = None) -> "Labelled":
        """Return the labels of some groups of raters, or of one rater of them."""
        wanted = set(groups)
        kept = [x for x in self.labels if x.group in wanted and rater in (None, x.rater)]
        return replace(self, labels=kept)

    def raters(self, group: str, asked: Asked) -> list[str]:
        """Return the raters of a group that answered a question, sorted."""
        return sorted({x.rater for x in self.labels if x.group == group and x.asked == asked})

    def drawn(self) -> "Labelled":
        """Return all but the prompts that were added for being unlike the training examples.

        Section 4.3 labels 50 random prompts, some of which are out of distribution, and further
        ones that all are. So a marked item counts here only if a round drew it by its seed
        together with items that are not marked; imported labels tell of no round.
        """
        marked = self._marked
        rounds = {i.run_id for i in self.items if i.run_id}
        mixed = {x.run_id for x in self.labels if x.asked == "absolute" and x.item_id not in marked}
        kept = [x for x in self.labels if x.item_id not in marked or x.run_id in rounds & mixed]
        return replace(self, labels=kept)

    def out_of_distribution(self) -> "Labelled":
        """Return the items that a rater marked as unlike the training examples."""
        return self._only(self._marked)

    def malicious(self) -> "Labelled":
        """Return the items whose prompts a rater said to mean harm."""
        return self._only({x.item_id for x in self.labels if x.malicious})

    def _only(self, items: set[str]) -> "Labelled":
        return Labelled([x for x in self.labels if x.item_id in items])

    @cached_property
    def _marked(self) -> set[str]:
        return {x.item_id for x in self.labels if x.out_of_distribution}

    @cached_property
    def _labels_about(self) -> dict[tuple[Asked, frozenset[str | None]], list[Label]]:
        found: dict[tuple[Asked, frozenset[str | None]], list[Label]] = {}
        for label in self.labels:
            arms = frozenset((label.arm_1, label.arm_2))
            found.setdefault((label.asked, arms), []).append(label)
        return found

    @cached_property
    def _items_about(self) -> dict[tuple[Asked, frozenset[str | None]], list[Item]]:
        found: dict[tuple[Asked, frozenset[str | None]], list[Item]] = {}
        told = [Item(a.item_id, "dialogue", _alone(a.arm)) for a in self.answers]
        for item in (*self.items, *told):
            found.setdefault((item.asked, item.arms), []).append(item)
        return found


def _alone(arm: str) -> frozenset[str | None]:
    return frozenset((arm, None))


def read_labelled(tables: Tables, labels: Sequence[Label]) -> Labelled:
    """Return labels with all that raters were asked about."""
    rows = tables.read(ITEMS, _ITEM).to_pylist()
    return Labelled(labels, [_item(**row) for row in rows], chat_answers(tables))


def _item(run_id: str, item_id: str, kind: Asked, arm_1: str, arm_2: str | None) -> Item:
    asked: Asked = "dialogues" if kind == "dialogue" and arm_2 else kind
    return Item(item_id, asked, frozenset((arm_1, arm_2)), run_id)
