"""How far raters agree (section 4.1): tie-discounted accuracy, kappa and alpha with intervals.

The paper's accuracy gives a point where two raters agree, half a point where exactly one of them
labelled a tie, and none otherwise. All measures here are functions of sums over items, so that a
bootstrap over items needs each item's summands only once: items with the same summands are drawn
together, by how many of them a sample has (a multinomial), which is the same distribution.

Of few items, or of items that are all alike, a bootstrap does not see how much others would vary.
There the interval is Clopper and Pearson's of the items' shares (see `bounded_interval`); that of
kappa and alpha follows from it with chance agreement as it was estimated.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lima.evaluation.statistics.intervals import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    ROUNDING,
    bounded_interval,
)
from lima.evaluation.statistics.pair_matrices import (
    Floats,
    chance_of,
    decided_of,
    diagonal_of,
    expected_of,
    half_points,
    total_of,
    without_self,
)
from lima.rating.items import TIE
from lima.rating.labels import VALUES, Asked, Label, answering, groups_of, one_each

DRAWS = 10_000
LEVEL = 0.95
FEW_ITEMS = 200
"""Of fewer items the bootstrap's intervals miss the true value too often: where nine of ten pairs
agree, in one of ten draws of 20 items, and of two items in half of them."""
CHUNK_NUMBERS = 20_000_000
"""Numbers of one matrix of draws; more are drawn in several."""

Ends: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """A measure, its 95 % interval and how that was made; None where it has no value."""

    value: float | None
    low: float | None = None
    high: float | None = None
    method: str = CLOPPER_PEARSON


@dataclass(frozen=True)
class Agreement:
    """The agreement of two groups of raters, or of the raters of one group."""

    between: tuple[str, str]
    items: int
    pairs: int
    raters: int
    accuracy: Estimate
    with_ties: Estimate
    without_ties: Estimate
    kappa: Estimate
    alpha: Estimate


@dataclass(frozen=True)
class Ratings:
    """Labels as numbers, one an item and rater.

    Args:
        counts: labels of each value that each group gave each item, shape (groups, items, values).
        groups: names of the groups.
        values: names of the values.
        raters: how many there are in each group.

    """

    counts: NDArray[np.int64]
    groups: tuple[str, ...]
    values: tuple[str, ...]
    raters: tuple[int, ...]


def ratings_of(
    labels: Sequence[Label], groups: Sequence[str], values: Sequence[str], *, by_rater: bool = False
) -> Ratings:
    """Count labels by group (or by rater), item and value; see `one_each` for what to count."""
    items: dict[str, int] = {}
    item = np.fromiter((items.setdefault(x.item_id, len(items)) for x in labels), np.int64)
    place = {name: number for number, name in enumerate(groups)}
    group = np.fromiter((place[x.rater if by_rater else x.group] for x in labels), np.int64)
    value = np.fromiter((values.index(x.value or "") for x in labels), np.int64)
    shape = (len(groups), len(items), len(values))
    cell = np.ravel_multi_index((group, item, value), shape) if len(labels) else item
    counts = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)
    members: list[set[str]] = [set() for _ in groups]
    for number, label in zip(group.tolist(), labels, strict=True):
        members[number].add(label.rater)
    return Ratings(counts, tuple(groups), tuple(values), tuple(map(len, members)))


def agreement(
    ratings: Ratings, first: str, second: str, *, draws: int = DRAWS, seed: int = 0
) -> Agreement:
    """Return how far `first` and `second` agree on the items that both labelled.

    Every pair of labels of different raters counts once. Kappa takes chance agreement from the
    two groups' own frequencies; within one group, whose raters have no order, a pair counts both
    ways round, half each. Alpha is Krippendorff's for nominal data, over all raters of both
    groups, each item weighted by its labels.

    Args:
        ratings: labels of all groups.
        first: a group.
        second: another, or the same for the raters of one group among themselves.
        draws: of the bootstrap.
        seed: of the bootstrap.

    """
    a, b = (ratings.groups.index(name) for name in (first, second))
    summands, shared = _summands(ratings.counts[a], ratings.counts[b], same=a == b)
    size = len(ratings.values) ** 2
    tie = ratings.values.index(TIE) if TIE in ratings.values else None
    total = summands.sum(axis=0)
    points = _measures(total[np.newaxis], size, tie)[0]
    exact = _exact(summands, size, tie) if shared > 1 else [None] * len(points)
    drawn = _bootstrap(summands, size, tie, draws, seed) if shared >= FEW_ITEMS else exact
    estimates = [_estimate(*of) for of in zip(points.tolist(), drawn, exact, strict=True)]
    return Agreement(
        (first, second),
        items=shared,
        pairs=round(float(total[:size].sum())),
        raters=ratings.raters[a] + (ratings.raters[b] if a != b else 0),
        accuracy=estimates[0],
        with_ties=estimates[1],
        without_ties=estimates[2],
        kappa=estimates[3],
        alpha=estimates[4],
    )


def all_agreements(
    labels: Sequence[Label],
    asked: Asked,
    *,
    by_rater: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
) -> list[Agreement]:
    """Return the agreement of all pairs of groups that share items, each with itself too.

    Args:
        labels: as read, of any kind, failures and second showings included.
        asked: the question whose labels are compared.
        by_rater: every rater is a group of its own.
        draws: of the bootstrap.
        seed: of the bootstrap.

    """
    counted = one_each(answering(labels, asked))
    names = sorted({x.rater for x in counted}) if by_rater else groups_of(counted)
    ratings = ratings_of(counted, names, VALUES[asked], by_rater=by_rater)
    pairs = combinations(names, 2) if by_rater else combinations_with_replacement(names, 2)
    every = [agreement(ratings, a, b, draws=draws, seed=seed) for a, b in pairs]
    return [found for found in every if found.pairs]


def _estimate(point: float, drawn: Ends | None, exact: Ends | None) -> Estimate:
    """Return a measure with the interval that can see how it varies."""
    if not np.isfinite(point) or drawn is None or exact is None:
        return Estimate(point if np.isfinite(point) else None)
    if drawn is exact or drawn[1] - drawn[0] < ROUNDING:
        return Estimate(point, *exact, CLOPPER_PEARSON)
    return Estimate(point, *drawn, BOOTSTRAP)


def _exact(summands: Floats, size: int, tie: int | None) -> list[Ends | None]:
    """Return both ends of the intervals that few items have, in the order of the measures."""
    values = round(size**0.5)
    pairs = summands[:, :size].reshape(-1, values, values)
    coincidences = summands[:, size:].reshape(-1, values, values)
    with_ties = _share(pairs)
    chance = chance_of(pairs.sum(axis=0, keepdims=True))[0]
    expected = expected_of(coincidences.sum(axis=0, keepdims=True))[0] / coincidences.sum()
    return [
        _share(pairs, tie),
        with_ties,
        _share(decided_of(pairs, tie)),
        _beyond_chance(with_ties, chance),
        _beyond_chance(_share(coincidences), 1 - expected),
    ]


def _share(matrices: Floats, tie: int | None = None) -> Ends | None:
    """Return the ends of the share of pairs that agree, with half of those with one tie."""
    there = matrices[total_of(matrices) > 0]
    if not len(there):
        return None
    weights = total_of(there)
    points = diagonal_of(there) + half_points(there, tie)
    found = bounded_interval(points / weights, weights)
    return (found.low or 0.0, 1.0 if found.high is None else found.high)


def _beyond_chance(share: Ends | None, chance: float) -> Ends | None:
    """Return the ends of a share as kappa and alpha tell it: 1 is all, 0 is what chance gives."""
    if share is None or not chance < 1:
        return None
    low, high = ((end - chance) / (1 - chance) for end in share)
    return max(-1.0, low), min(1.0, high)


def _summands(
    first: NDArray[np.int64], second: NDArray[np.int64], *, same: bool
) -> tuple[Floats, int]:
    """Return each shared item's pairs and coincidences by value, shape (items, 2 * values^2)."""
    pairs = np.einsum("iv,iw->ivw", first, second).astype(np.float64)
    if same:
        pairs = without_self(pairs, first) / 2
    shared = pairs.sum(axis=(1, 2)) > 0
    pairs = pairs[shared]
    together = (first if same else first + second)[shared].astype(np.float64)
    every = without_self(np.einsum("iv,iw->ivw", together, together), together)
    coincidences = every / (together.sum(axis=1) - 1)[:, np.newaxis, np.newaxis]
    both = np.concatenate([pairs, coincidences], axis=1)
    return both.reshape(len(both), 2 * first.shape[1] ** 2), len(both)


def _measures(sums: Floats, size: int, tie: int | None) -> Floats:
    """Return accuracy, agreement with and without ties, kappa and alpha; shape (draws, 5)."""
    values = round(size**0.5)
    pairs = sums[:, :size].reshape(-1, values, values)
    coincidences = sums[:, size:].reshape(-1, values, values)
    decided = decided_of(pairs, tie)
    with np.errstate(invalid="ignore", divide="ignore"):
        agree = diagonal_of(pairs) / total_of(pairs)
        columns = [
            agree + half_points(pairs, tie) / total_of(pairs),
            agree,
            diagonal_of(decided) / total_of(decided),
            _kappa(pairs),
            _alpha(coincidences),
        ]
    return np.stack(columns, axis=1)


def _kappa(pairs: Floats) -> Floats:
    """Return Cohen's kappa (1960) of tables of pairs, shape (draws, values, values)."""
    total = total_of(pairs)
    chance = chance_of(pairs)
    kappa: Floats = (diagonal_of(pairs) / total - chance) / (1 - chance)
    return kappa


def _alpha(coincidences: Floats) -> Floats:
    """Return Krippendorff's alpha for nominal data from coincidence matrices (2011)."""
    observed = total_of(coincidences) - diagonal_of(coincidences)
    alpha: Floats = 1 - observed / expected_of(coincidences)
    return alpha


def _bootstrap(
    summands: Floats, size: int, tie: int | None, draws: int, seed: int
) -> list[Ends | None]:
    """Return both ends of the percentile intervals; None where no draw has the measure."""
    kinds, counts = np.unique(summands, axis=0, return_counts=True)
    rng, items = np.random.default_rng(seed), len(summands)
    chunk = max(1, CHUNK_NUMBERS // len(kinds))
    found = [
        _measures(rng.multinomial(items, counts / items, n) @ kinds, size, tie)
        for start in range(0, draws, chunk)
        for n in [min(chunk, draws - start)]
    ]
    return [_ends(column) for column in np.concatenate(found).T]


def _ends(drawn: Floats) -> Ends | None:
    """Return both ends of the percentile interval, of the draws in which the measure exists."""
    there = drawn[np.isfinite(drawn)]
    if not len(there):
        return None
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)
