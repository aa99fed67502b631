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


def combined(parts: Sequence[RankCorrelation]) -> RankCorrelation:
    """Return the correlation that several series have in common; they are never pooled.

    Where pooled, a difference between series counts as a trend within them and may turn the
    sign (Simpson's paradox). So it is the mean of Fisher's z, each with the weight n - 3 as in
    Hedges and Olkin (1985), with the standard errors of `rank_correlation`; `points` are those
    of the series that have one.
    """
    usable = [p for p in parts if p.value is not None and p.low is not None]
    if len(usable) == 1:
        return usable[0]
    points, weight = sum(p.points for p in usable), sum(p.points - 3 for p in usable)
    if not usable:
        return RankCorrelation(max((p.points for p in parts), default=0), None, None, None)
    values = [(_inner(p.value or 0.0, p.points), p.points - 3) for p in usable]
    z = sum(math.atanh(r) * w for r, w in values) / weight
    # The variance of a part is (1 + r^2 / 2) / w, and its share of the mean w / weight.
    error = math.sqrt(sum((1 + r**2 / 2) * w for r, w in values)) / weight
    return RankCorrelation(points, math.tanh(z), *_around(z, error))


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
    inner = _inner(value, n)
    low, high = _around(math.atanh(inner), math.sqrt((1 + inner**2 / 2) / (n - 3)))
    return RankCorrelation(n, value, min(low, value), max(high, value))


def _inner(value: float, n: int) -> float:
    """Return a correlation that has a z: a perfect order is given that of the nearest one."""
    nearest = 1 - 12 / (n * (n**2 - 1))
    return max(-nearest, min(nearest, value))


def _around(z: float, error: float) -> tuple[float, float]:
    reach = NormalDist().inv_cdf(0.975) * error
    return math.tanh(z - reach), math.tanh(z + reach)
