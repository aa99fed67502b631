"""Every number of the paper that our tables can speak to, and who looks it up."""

from collections.abc import Callable
from functools import partial
from typing import TypeAlias

from lima.evaluation.paper import from_labels as labels
from lima.evaluation.paper import from_runs as runs
from lima.evaluation.paper.numbers import Compared, Fact, judge_fact, paper_facts
from lima.evaluation.paper.our_numbers import Evidence, Found

Finder: TypeAlias = Callable[..., Found]

FINDERS: dict[str, Finder] = {
    "preference": labels.preference,
    "agreement": labels.agreement,
    "absolute": labels.absolute,
    "out_of_distribution": labels.out_of_distribution,
    "safety": labels.safety,
    "dialogue": labels.dialogue,
    "dialogue_failed": labels.dialogue_failed,
    "dialogue_preference": labels.dialogue_preference,
    "score": runs.score,
    "score_by_quantity": runs.score,
    "score_difference": runs.score_difference,
    "setting": runs.setting,
    "count": runs.count,
    "total": runs.count,  # of pools that other facts count one by one
    "categories": runs.categories,
    "exchanges": runs.exchanges,
    "tokens": runs.tokens,
    "examples": runs.examples,
    "steps": runs.steps,
    "steps_per_epoch": runs.steps_per_epoch,
    "perplexity_sign": runs.perplexity_sign,
    "perplexity": partial(runs.checkpoint_range, which=0),
    "checkpoint_score": partial(runs.checkpoint_range, which=1),
}
"""By the first word of what a fact is of; the others are arguments."""


def find(has: Evidence, fact: Fact) -> Found:
    """Return what we have on a fact."""
    what, *rest = fact.of
    return FINDERS[what](has, *rest)


def compared(has: Evidence) -> list[Compared]:
    """Return every number of the paper beside ours, in the paper's order."""
    return [judge_fact(fact, find(has, fact)) for fact in paper_facts()]
