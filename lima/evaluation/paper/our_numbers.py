"""What our tables hold on the numbers of the paper, and how a number of ours is made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeAlias

from lima.evaluation.agreement.tie_discounted import DRAWS, Agreement, all_agreements
from lima.evaluation.cells.checkpoint_choice import Checkpoint
from lima.evaluation.cells.measures import Results
from lima.evaluation.labels.label_shares import Labelled, Rate
from lima.evaluation.paper.arms import arms_by_spec, is_arm_of_paper
from lima.evaluation.paper.from_curation import Curated
from lima.evaluation.paper.numbers import Ours
from lima.evaluation.paper.used_settings import NotApplied
from lima.evaluation.statistics.intervals import CLOPPER_PEARSON, EXACT
from lima.runs.lineage import Chain

Found: TypeAlias = Ours | str
"""A number of ours, or why there is none."""


@dataclass(frozen=True)
class Evidence:
    """What the tables hold; `named` are our arms that a user says are the paper's, by its names."""

    labelled: Labelled
    chains: Sequence[Chain] = ()
    results: Results | None = None
    curated: Curated = field(default_factory=Curated)
    checkpoints: Sequence[Checkpoint] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    not_applied: NotApplied = field(default_factory=dict)
    draws: int = DRAWS
    seed: int = 0
    _agreements: list[Agreement] = field(default_factory=list)

    def arm(self, name: str) -> str | None:
        """Return our name of an arm of the paper: as a user says, else as its spec does."""
        return self.named.get(name) or self._by_spec.get(name)

    def name_of(self, arm: str) -> str | None:
        """Return which arm of the paper one of ours is; None: none of them."""
        names = (*self.named, *self._by_spec)
        return next((name for name in names if self.arm(name) == arm), None)

    def arms(self) -> list[str]:
        """Return all our arms, those that only have labels too."""
        labels = self.labelled.labels
        arms = {c.arm for c in self.chains} | {x.arm_1 for x in labels}
        return sorted(arms | {x.arm_2 for x in labels if x.arm_2})

    def cells(self, name: str) -> list[Chain]:
        """Return the cells of an arm of the paper."""
        arm = self.arm(name)
        return [
            chain
            for chain in self.chains
            if chain.arm == arm
            and (name in self.named or is_arm_of_paper(name, chain.spec, chain.examples))
        ]

    def agreements(self) -> list[Agreement]:
        """Return the agreement of all groups on pairs, worked out once."""
        if not self._agreements:
            self._agreements.extend(
                all_agreements(self.labelled.labels, "preference", draws=self.draws, seed=self.seed)
            )
        return self._agreements

    @cached_property
    def _by_spec(self) -> dict[str, str]:
        return arms_by_spec(self.chains)

    def about(self, labelled: Labelled) -> "Evidence":
        """Return the same with some of the labels."""
        return replace(self, labelled=labelled)


def no_arm(name: str) -> str:
    """Say that nothing here is what the paper calls `name`."""
    return f"no arm is {name!r} by its spec; say which one is with --as ARM={name}"


def share(rate: Rate | None) -> Found:
    """Return a share of labels with its exact interval and bounds."""
    if rate is None:
        return "no labels"
    low, high = rate.interval
    return Ours(rate.value, low, high, CLOPPER_PEARSON, rate.total, rate.missing, *rate.bounds)


def exact(values: Sequence[Any], what: str) -> Found:
    """Return a number without chance; what differs between runs is no number."""
    different = sorted({v for v in values if v is not None})
    if not different:
        return f"no {what}"
    if len(different) > 1:
        return f"runs differ: {', '.join(map(str, different))}"
    value = float(different[0])
    return Ours(value, value, value, EXACT, sum(v is not None for v in values))
