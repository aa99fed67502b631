"""Means with intervals clustered by prompt, and their bounds."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lima.evaluation.statistics.intervals import (
    MANY_CLUSTERS,
    Interval,
    clustered_interval,
    mean_bounds,
    student_quantile,
)

SCORES = st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=6), min_size=2, max_size=12)


def by_cluster(clusters: Sequence[Sequence[float]]) -> Interval:
    return clustered_interval([sum(c) for c in clusters], [len(c) for c in clusters])


def plain(clusters: Sequence[Sequence[float]], level: float = 0.95) -> tuple[float, float, float]:
    """The same, row by row, from the textbook's sandwich formula."""
    rows = [value for cluster in clusters for value in cluster]
    mean = sum(rows) / len(rows)
    meat = 0.0
    for cluster in clusters:
        meat += sum(value - mean for value in cluster) ** 2
    groups = len(clusters)
    error = math.sqrt(groups / (groups - 1) * meat) / len(rows)
    reach = stats.t(df=groups - 1).ppf((1 + level) / 2) * error
    return mean, mean - reach, mean + reach


@given(SCORES)
def test_equals_a_plain_implementation(clusters: list[list[float]]) -> None:
    found = by_cluster(clusters)
    assert (found.mean, found.low, found.high) == pytest.approx(plain(clusters), abs=1e-9)


def test_with_equal_sizes_it_is_students_interval_of_the_cluster_means() -> None:
    rng = np.random.default_rng(1)
    scores = rng.integers(1, 7, (40, 5)).astype(float)
    means = scores.mean(axis=1)
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    found = clustered_interval(scores.sum(axis=1), np.full(40, 5))
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_covers_the_truth_as_often_as_it_says() -> None:
    """Five responses to each of 30 prompts, where prompts differ in difficulty."""
    rng, studies, truth = np.random.default_rng(2), 4000, 3.5
    covered = covered_if_rows_were_independent = 0
    for _ in range(studies):
        scores = truth + rng.normal(0, 0.8, (30, 1)) + rng.normal(0, 0.9, (30, 5))
        found = clustered_interval(scores.sum(axis=1), np.full(30, 5))
        naive = clustered_interval(scores.ravel(), np.ones(150))
        assert found.low is not None
        assert found.high is not None
        assert naive.low is not None
        assert naive.high is not None
        covered += found.low <= truth <= found.high
        covered_if_rows_were_independent += naive.low <= truth <= naive.high
    assert 0.935 < covered / studies < 0.965
    assert covered_if_rows_were_independent / studies < 0.85


def test_clusters_without_rows_say_nothing() -> None:
    assert clustered_interval([6.0, 0.0, 8.0], [2, 0, 2]) == clustered_interval([6.0, 8.0], [2, 2])


def test_one_prompt_has_no_interval_and_none_no_mean() -> None:
    assert clustered_interval([9.0], [3]) == Interval(3.0, None, None)
    assert clustered_interval([], []) == Interval(None, None, None)


@pytest.mark.parametrize("probability", [0.95, 0.975])
@pytest.mark.parametrize(
    "freedom", [1, 2, 30, MANY_CLUSTERS - 1, MANY_CLUSTERS, MANY_CLUSTERS + 1, 300, 10**6]
)
def test_student_quantile(freedom: int, probability: float) -> None:
    expected = stats.t(df=freedom).ppf(probability)
    assert student_quantile(probability, freedom) == pytest.approx(expected, abs=1e-9)


@given(st.lists(st.integers(1, 6), max_size=30), st.integers(0, 30))
def test_bounds_are_the_means_of_the_extreme_cases(scores: list[int], unscored: int) -> None:
    found = mean_bounds(sum(scores), len(scores), unscored)
    if not scores and not unscored:
        assert found is None
        return
    worst, best = scores + [1] * unscored, scores + [6] * unscored
    assert found == pytest.approx((statistics.fmean(worst), statistics.fmean(best)))
