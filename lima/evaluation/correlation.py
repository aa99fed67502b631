"""Perplexity against quality: rank correlation over checkpoints (appendix B)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

LEAST_POINTS = 4
"""Fewer points have no standard error."""


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's correlation with its 95 % interval; None where there are too few points."""

    points: int
    value: float | None
    low: float | None
    high: float | None


def rank_correlation(points: Sequence[tuple[float, float]]) -> RankCorrelation:
    """Return Spearman's correlation of pairs; ties share the mean of their ranks.

    The interval is Fisher's with the standard error of Bonett and Wright (2000), which is that
    for ranks: sqrt((1 + r^2 / 2) / (n - 3)). A perfect order, which has none, is given that of
    the order with two neighbours swapped.
    """
    n, xs, ys = len(points), [x for x, _ in points], [y for _, y in points]
    if min(len(set(xs)), len(set(ys))) < 2:
        return RankCorrelation(n, None, None, None)
    from scipy.stats import spearmanr  # a second's work that most studies do without

    value = float(spearmanr(xs, ys).statistic)
    if n < LEAST_POINTS:
        return RankCorrelation(n, value, None, None)
    nearest = 1 - 12 / (n * (n**2 - 1))
    low, high = _ends(max(-nearest, min(nearest, value)), n)
    return RankCorrelation(n, value, min(low, value), max(high, value))


def _ends(value: float, n: int) -> tuple[float, float]:
    z = NormalDist().inv_cdf(0.975) * math.sqrt((1 + value**2 / 2) / (n - 3))
    return math.tanh(math.atanh(value) - z), math.tanh(math.atanh(value) + z)
