"""Means of scores with 95 % intervals clustered by prompt, and what unscored rows could change.

Section 5 reports the mean score with a 95 % two-sided interval. Several responses to one prompt
are not independent, so the prompt, not the response, is the unit that was drawn. No interval of
something that has a scale leaves it, and none has the width zero because a sample is too small to
vary.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike

LOWEST_SCORE, HIGHEST_SCORE = 1.0, 6.0
SCORES = (LOWEST_SCORE, HIGHEST_SCORE)
"""Ends of the six-point scale (appendix D)."""
CLOPPER_PEARSON = "Clopper-Pearson"
BOOTSTRAP = "bootstrap over items"
CLUSTERED = "Student's t, clustered by prompt"
STUDENT = "Student's t"
EXACT = "exact"
"""How intervals are made."""
MANY_CLUSTERS = 100
"""From here on the quantile needs no scipy, whose import takes longer than reading a study."""
ROUNDING = 1e-9
"""Share of a scale below which values differ by rounding alone."""


@dataclass(frozen=True)
class Interval:
    """A mean and the ends of its interval; None where too little is known to say."""

    mean: float | None
    low: float | None
    high: float | None


def clustered_interval(
    sums: ArrayLike,
    counts: ArrayLike,
    level: float = 0.95,
    scale: tuple[float, float] | None = None,
) -> Interval:
    """Return the mean over all rows with its cluster-robust two-sided interval.

    The mean is `sum(sums) / sum(counts)`. Its standard error sums the residuals within each
    cluster before squaring them, with the small-sample factor G / (G - 1) for G clusters; the
    quantile is Student's with G - 1 degrees of freedom. With equal cluster sizes this is the
    textbook interval of the mean of the cluster means.

    On a scale the interval ends where the scale does, which costs it no coverage. Clusters that
    do not differ say nothing of how means vary: they are given `bounded_interval`'s.

    Args:
        sums: sum of the values of each cluster, shape (G,).
        counts: number of values of each cluster, shape (G,); clusters of none are passed over.
        level: coverage, between 0 and 1.
        scale: least and greatest possible value; None: there are none.

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
    reach = student_quantile((1 + level) / 2, len(n) - 1) * float(np.sqrt(variance))
    if scale is None or not scale[0] <= mean <= scale[1]:
        return Interval(mean, mean - reach, mean + reach)
    if reach < (scale[1] - scale[0]) * ROUNDING:
        return bounded_interval(s / n, n, scale, level)
    return Interval(mean, max(scale[0], mean - reach), min(scale[1], mean + reach))


def bounded_interval(
    values: ArrayLike,
    weights: ArrayLike,
    scale: tuple[float, float] = (0.0, 1.0),
    level: float = 0.95,
) -> Interval:
    """Return a weighted mean with an interval for any values of a scale, however few or alike.

    It is Clopper and Pearson's of the mean's place on the scale, as a share of as many rows as the
    weights are worth (Kish, 1965). For values that are all at an end of the scale and weigh the
    same this is the exact interval of a share; other values of the same mean vary less.

    Args:
        values: of the units that were drawn, shape (N,), N at least 1.
        weights: their weights, positive, shape (N,).
        scale: least and greatest possible value.
        level: coverage, between 0 and 1.

    """
    w = np.asarray(weights, dtype=np.float64)
    rows = float(w.sum() ** 2 / np.square(w).sum())
    mean = float((np.asarray(values, dtype=np.float64) * w).sum() / w.sum())
    start, width = scale[0], scale[1] - scale[0]
    share = min(1.0, max(0.0, (mean - start) / width))
    low, high = (start + width * end for end in clopper_pearson(share * rows, rows, level))
    return Interval(mean, min(low, mean), max(high, mean))


def student_quantile(probability: float, freedom: int) -> float:
    """Return the quantile of Student's t for a probability near one, as 0.975.

    For many degrees of freedom by its series in their inverse (Abramowitz and Stegun, 26.7.5),
    which is then exact to 1e-9.
    """
    if freedom < MANY_CLUSTERS:
        from scipy.special import stdtrit

        return float(stdtrit(freedom, probability))
    z = NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return float(sum(term / freedom**power for power, term in enumerate(terms)))


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


def clopper_pearson(count: float, total: float, level: float = 0.95) -> tuple[float, float]:
    """Return the exact two-sided interval of a share (Clopper and Pearson, 1934).

    Args:
        count: rows that have the property; a fraction where rows have it in part.
        total: all rows; without any, nothing is known.
        level: coverage, between 0 and 1.

    """
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = betaincinv(count, total - count + 1, tail) if count > 0 else 0.0
    high = betaincinv(count + 1, total - count, 1 - tail) if count < total else 1.0
    return float(low), float(high)


def rows_for_width(share: float, width: float, level: float = 0.95) -> int:
    """Return how many rows an exact interval of a share needs to be no wider than `width`."""

    def wide(rows: int) -> bool:
        low, high = clopper_pearson(round(share * rows), rows, level)
        return high - low > width

    most = 1
    while wide(most):
        most *= 2
    least = most // 2
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if wide(middle) else (least, middle)
    return most
