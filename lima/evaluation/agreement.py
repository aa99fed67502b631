"""How far raters agree (section 4.1): tie-discounted accuracy, kappa and alpha with intervals.

The paper's accuracy gives a point where two raters agree, half a point where exactly one of them
labelled a tie, and none otherwise. All measures here are functions of sums over items, so that a
bootstrap over items needs each item's summands only once: items with the same summands are drawn
together, by how many of them a sample has (a multinomial), which is the same distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, combinations_with_replacement
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lima.evaluation.items import TIE
from lima.evaluation.labels import VALUES, Asked, Label, answering, groups_of, one_each

DRAWS = 10_000
LEVEL = 0.95
CHUNK_NUMBERS = 20_000_000
"""Numbers of one matrix of draws; more are drawn in several."""

Floats: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A measure and its interval by bootstrap over items; None where it has no value."""

    value: float | None
    low: float | None = None
    high: float | None = None


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
    ends = _bootstrap(summands, size, tie, draws, seed) if shared > 1 else None
    estimates = [
        Estimate(
            _finite(point),
            *((_finite(ends[0][i]), _finite(ends[1][i])) if ends is not None else (None, None)),
        )
        for i, point in enumerate(points)
    ]
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


def _summands(
    first: NDArray[np.int64], second: NDArray[np.int64], *, same: bool
) -> tuple[Floats, int]:
    """Return each shared item's pairs and coincidences by value, shape (items, 2 * values^2)."""
    pairs = np.einsum("iv,iw->ivw", first, second).astype(np.float64)
    if same:
        pairs = _without_self(pairs, first) / 2
    shared = pairs.sum(axis=(1, 2)) > 0
    pairs = pairs[shared]
    together = (first if same else first + second)[shared].astype(np.float64)
    every = _without_self(np.einsum("iv,iw->ivw", together, together), together)
    coincidences = every / (together.sum(axis=1) - 1)[:, np.newaxis, np.newaxis]
    both = np.concatenate([pairs, coincidences], axis=1)
    return both.reshape(len(both), 2 * first.shape[1] ** 2), len(both)


def _without_self(pairs: Floats, counts: NDArray[Any]) -> Floats:
    """Take away the pairs of a label with itself."""
    return pairs - counts[:, np.newaxis] * np.eye(counts.shape[1])


def _measures(sums: Floats, size: int, tie: int | None) -> Floats:
    """Return accuracy, agreement with and without ties, kappa and alpha; shape (draws, 5)."""
    values = round(size**0.5)
    pairs = sums[:, :size].reshape(-1, values, values)
    coincidences = sums[:, size:].reshape(-1, values, values)
    decided = pairs if tie is None else np.delete(np.delete(pairs, tie, axis=1), tie, axis=2)
    with np.errstate(invalid="ignore", divide="ignore"):
        agree = _diagonal(pairs) / _total(pairs)
        half = np.zeros_like(agree)
        if tie is not None:
            one_tie = pairs[:, tie].sum(axis=1) + pairs[:, :, tie].sum(axis=1)
            half = (one_tie - 2 * pairs[:, tie, tie]) / _total(pairs) / 2
        columns = [
            agree + half,
            agree,
            _diagonal(decided) / _total(decided),
            _kappa(pairs),
            _alpha(coincidences),
        ]
    return np.stack(columns, axis=1)


def _kappa(pairs: Floats) -> Floats:
    """Return Cohen's kappa (1960) of tables of pairs, shape (draws, values, values)."""
    total = _total(pairs)
    chance = (pairs.sum(axis=1) * pairs.sum(axis=2)).sum(axis=1) / total**2
    kappa: Floats = (_diagonal(pairs) / total - chance) / (1 - chance)
    return kappa


def _alpha(coincidences: Floats) -> Floats:
    """Return Krippendorff's alpha for nominal data from coincidence matrices (2011)."""
    total, by_value = _total(coincidences), coincidences.sum(axis=1)
    observed = total - _diagonal(coincidences)
    expected = (total**2 - (by_value**2).sum(axis=1)) / (total - 1)
    alpha: Floats = 1 - observed / expected
    return alpha


def _bootstrap(
    summands: Floats, size: int, tie: int | None, draws: int, seed: int
) -> tuple[Floats, Floats]:
    """Return both ends of the percentile intervals."""
    kinds, counts = np.unique(summands, axis=0, return_counts=True)
    rng, items = np.random.default_rng(seed), len(summands)
    chunk = max(1, CHUNK_NUMBERS // len(kinds))
    found = [
        _measures(rng.multinomial(items, counts / items, n) @ kinds, size, tie)
        for start in range(0, draws, chunk)
        for n in [min(chunk, draws - start)]
    ]
    low, high = np.array([_ends(column) for column in np.concatenate(found).T]).T
    return low, high


def _ends(drawn: Floats) -> tuple[float, float]:
    """Return both ends of the percentile interval, of the draws in which the measure exists."""
    there = drawn[np.isfinite(drawn)]
    if not len(there):
        return np.nan, np.nan
    low, high = np.quantile(there, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _total(matrices: Floats) -> Floats:
    total: Floats = matrices.sum(axis=(1, 2))
    return total


def _diagonal(matrices: Floats) -> Floats:
    diagonal: Floats = np.trace(matrices, axis1=1, axis2=2)
    return diagonal


def _finite(value: np.float64) -> float | None:
    return float(value) if np.isfinite(value) else None
