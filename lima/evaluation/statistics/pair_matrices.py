"""Matrices of pairs of labels, value by value, shape (N, values, values): what measures are of."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float64]


def without_self(pairs: Floats, counts: NDArray[Any]) -> Floats:
    """Take away the pairs of a label with itself."""
    return pairs - counts[:, np.newaxis] * np.eye(counts.shape[1])


def chance_of(pairs: Floats) -> Floats:
    """Return the share of pairs that would agree by chance."""
    chance: Floats = (pairs.sum(axis=1) * pairs.sum(axis=2)).sum(axis=1) / total_of(pairs) ** 2
    return chance


def expected_of(coincidences: Floats) -> Floats:
    """Return how many coincidences would disagree by chance."""
    total, by_value = total_of(coincidences), coincidences.sum(axis=1)
    expected: Floats = (total**2 - (by_value**2).sum(axis=1)) / (total - 1)
    return expected


def decided_of(pairs: Floats, tie: int | None) -> Floats:
    """Return the pairs without a tie."""
    return pairs if tie is None else np.delete(np.delete(pairs, tie, axis=1), tie, axis=2)


def half_points(pairs: Floats, tie: int | None) -> Floats:
    """Return the half points for pairs of which exactly one is a tie."""
    if tie is None:
        return np.zeros(len(pairs))
    one_tie = pairs[:, tie].sum(axis=1) + pairs[:, :, tie].sum(axis=1)
    half: Floats = (one_tie - 2 * pairs[:, tie, tie]) / 2
    return half


def total_of(matrices: Floats) -> Floats:
    """Return how many pairs there are."""
    total: Floats = matrices.sum(axis=(1, 2))
    return total


def diagonal_of(matrices: Floats) -> Floats:
    """Return how many pairs agree."""
    diagonal: Floats = np.trace(matrices, axis1=1, axis2=2)
    return diagonal
