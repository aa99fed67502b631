"""Means of scores with 95 % intervals clustered by prompt, and what unscored rows could change.

Section 5 reports the mean score with a 95 % two-sided interval. Several responses to one prompt
are not independent, so the prompt, not the response, is the unit that was drawn.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import stdtrit

LOWEST_SCORE, HIGHEST_SCORE = 1.0, 6.0
"""Ends of the six-point scale (appendix D)."""


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval; None where too little is known to say."""

    mean: float | None
    low: float | None
    high: float | None


def clustered_interval(sums: ArrayLike, counts: ArrayLike, level: float = 0.95) -> Interval:
    """Return the mean over all rows with its cluster-robust two-sided interval.

    The mean is `sum(sums) / sum(counts)`. Its standard error sums the residuals within each
    cluster before squaring them, with the small-sample factor G / (G - 1) for G clusters; the
    quantile is Student's with G - 1 degrees of freedom. With equal cluster sizes this is the
    textbook interval of the mean of the cluster means.

    Args:
        sums: sum of the values of each cluster, shape (G,).
        counts: number of values of each cluster, shape (G,); clusters of none are passed over.
        level: coverage, between 0 and 1.

    """
    n = np.asarray(counts, dtype=np.float64)
    s = np.asarray(sums, dtype=np.float64)[n > 0]
    n = n[n > 0]
    if not len(n):
        return Interval(None, None, None)
    mean = float(s.sum() / n.sum())
    if len(n) == 1:
        return Interval(mean, None, None)
    residuals = s - mean * n
    variance = len(n) / (len(n) - 1) * np.square(residuals).sum() / n.sum() ** 2
    reach = float(stdtrit(len(n) - 1, (1 + level) / 2) * np.sqrt(variance))
    return Interval(mean, mean - reach, mean + reach)


def mean_bounds(
    total: float,
    scored: int,
    unscored: int,
    lowest: float = LOWEST_SCORE,
    highest: float = HIGHEST_SCORE,
) -> tuple[float, float] | None:
    """Return how low and how high the mean could be, whatever the unscored rows deserve.

    Args:
        total: sum of the `scored` values.
        scored: rows with a value.
        unscored: rows without one: failures and rows that are not judged yet.
        lowest: least value of the scale, given to all unscored rows for the lower bound.
        highest: greatest value of the scale.

    """
    rows = scored + unscored
    if not rows:
        return None
    return (total + unscored * lowest) / rows, (total + unscored * highest) / rows
