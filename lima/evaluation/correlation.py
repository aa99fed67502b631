"""Perplexity against quality: rank correlation over checkpoints (appendix B)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from lima.evaluation.lineage import Chain
from lima.evaluation.measures import runs_of, summarise
from lima.evaluation.settings import settings
from lima.evaluation.study import Study

LEAST_POINTS = 4
"""Fewer points have no standard error."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation with its 95 % interval; None where there are too few points."""

    points: int
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint: its held-out perplexity and the mean score of its responses."""

    arm: str
    epoch: int
    perplexity: float
    score: float


def rank_correlation(points: Sequence[tuple[float, float]]) -> RankCorrelation:
    """Return Spearman's correlation of pairs; ties share the mean of their ranks.

    The interval is Fisher's with the standard error of Bonett and Wright (2000), which is that
    for ranks: sqrt((1 + r^2 / 2) / (n - 3)). A perfect order, which has none, is given that of
    the order with two neighbours swapped.
    """
    from scipy.stats import spearmanr

    n, xs, ys = len(points), [x for x, _ in points], [y for _, y in points]
    if min(len(set(xs)), len(set(ys))) < 2:
        return RankCorrelation(n, None, None, None)
    value = float(spearmanr(xs, ys).statistic)
    if n < LEAST_POINTS:
        return RankCorrelation(n, value, None, None)
    nearest = 1 - 12 / (n * (n**2 - 1))
    low, high = _ends(max(-nearest, min(nearest, value)), n)
    return RankCorrelation(n, value, min(low, value), max(high, value))


def checkpoints_of(study: Study, chains: Sequence[Chain]) -> list[Checkpoint]:
    """Return the checkpoints that have both a score and a perplexity, seeds averaged."""
    groups: dict[tuple[str, int], list[Chain]] = {}
    for chain in chains:
        heldout = study.perplexities.get(chain.runs.get("train", ""))
        last = heldout and int(heldout[-1][0])
        epoch = settings(chain, "generate").get("generate.model.epoch") or last
        if epoch:
            groups.setdefault((chain.arm, epoch), []).append(chain)
    found = []
    for (arm, epoch), members in sorted(groups.items()):
        score = summarise(study.results, members).get("score")
        runs = runs_of(members, "train", study.perplexities)
        at = [y for run in runs for x, y in study.perplexities[run] if x == epoch]
        if score is not None and at:
            found.append(Checkpoint(arm, epoch, sum(at) / len(at), score))
    return found


def _ends(value: float, n: int) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.975) * math.sqrt((1 + value**2 / 2) / (n - 3))
    return math.tanh(math.atanh(value) - z), math.tanh(math.atanh(value) + z)
