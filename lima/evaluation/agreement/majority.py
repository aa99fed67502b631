"""A judge against the majority of people, in the two settings of MT-bench (Zheng et al., 2023).

S1 takes all votes, where a verdict that changes with the order of the responses is a tie; S2 takes
the items on which neither side says tie. See `labels_of_most` for people who are divided evenly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from lima.evaluation.agreement.tie_discounted import DRAWS, Estimate, agreement, ratings_of
from lima.evaluation.labels.label_shares import HUMAN
from lima.rating.items import TIE
from lima.rating.labels import MODEL, VALUES, Asked, Label, answering, one_each
from lima.rating.most import labels_of_most

Setting = Literal["S1", "S2"]
PEOPLE = "people"


@dataclass(frozen=True)
class Majority:
    """How far a judge agrees with most people: as a share of the items, and beyond chance."""

    rater: str
    setting: Setting
    items: int
    agreement: Estimate
    kappa: Estimate


def majorities(
    labels: Sequence[Label], asked: Asked, *, draws: int = DRAWS, seed: int = 0
) -> list[Majority]:
    """Return every judge against the majority of crowd and authors, in both settings.

    Args:
        labels: as read, of any kind, failures and second showings included.
        asked: the question whose labels are compared.
        draws: of the bootstrap.
        seed: of the bootstrap.

    """
    counted = one_each(answering(labels, asked))
    people = {
        label.item_id: replace(label, rater=PEOPLE, group=PEOPLE)
        for label in labels_of_most(label for label in counted if label.group in HUMAN)
    }
    judges = sorted({label.rater for label in counted if label.group == MODEL})
    found = []
    for judge in judges:
        mine = [x for x in counted if x.rater == judge and x.group == MODEL]
        both = [x for x in mine if x.item_id in people]
        decided = [x for x in both if TIE not in (x.value, people[x.item_id].value)]
        settings: dict[Setting, list[Label]] = {"S1": both, "S2": decided}
        for setting, chosen in settings.items():
            sides = [*chosen, *(people[label.item_id] for label in chosen)]
            ratings = ratings_of(sides, (MODEL, PEOPLE), VALUES[asked])
            if chosen:
                all_of_it = agreement(ratings, MODEL, PEOPLE, draws=draws, seed=seed)
                measures = (all_of_it.with_ties, all_of_it.kappa)
                found.append(Majority(judge, setting, len(chosen), *measures))
    return found
