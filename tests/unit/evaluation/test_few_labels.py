"""Few labels, and labels that are all alike, are never called outside of what the paper found."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from lima.evaluation.agreement.tie_discounted import (
    FEW_ITEMS,
    Agreement,
    Ratings,
    agreement,
    all_agreements,
)
from lima.evaluation.paper.compare import compare_paper
from lima.evaluation.paper.numbers import Fact, Ours, judge_fact, paper_facts
from lima.evaluation.statistics.intervals import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    SCORES,
    STUDENT,
    bounded_interval,
    clopper_pearson,
    clustered_interval,
)
from lima.rating.labels import Label
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS
from tests.helpers.paper_shares import IDENTITY, event

SIZES = (2, 3, 4, 5, 7, 10, 20, 30, 50, 100, FEW_ITEMS - 1, FEW_ITEMS)
DRAWS = 200
"""Studies of each size."""
TIES = (0.0, 0.5, 1.0)
"""Share of the half points: none, half of what is lost, or all of it."""


def pairs_of(points: NDArray[np.int64]) -> Ratings:
    """Return the labels of two raters with so many half points an item: 0, 1 or 2."""
    counts = np.zeros((2, len(points), 3), dtype=np.int64)
    counts[0, :, 0] = 1
    counts[1, np.arange(len(points)), np.array([1, 2, 0])[points]] = 1
    return Ratings(counts, ("crowd", "author"), ("1", "2", "tie"), (1, 1))


def between(points: NDArray[np.int64]) -> Agreement:
    return agreement(pairs_of(points), "crowd", "author", draws=200)


def status(fact: Fact, found: Agreement) -> str:
    of = found.accuracy
    assert of.value is not None
    return judge_fact(fact, Ours(of.value, of.low, of.high, of.method, found.items)).status


@pytest.mark.parametrize(("value", "ties"), [*((0.82, ties) for ties in TIES), (0.78, 0.0)])
def test_the_papers_agreement_is_outside_in_one_of_twenty_draws_at_most(
    value: float, ties: float
) -> None:
    fact = next(f for f in paper_facts() if f.of[0] == "agreement" and f.value == value)
    half = 2 * ties * (1 - value)
    chances = ((1 - value) * (1 - ties), half, 1 - half - (1 - value) * (1 - ties))
    rng = np.random.default_rng(0)
    for size in SIZES:
        found = [status(fact, between(rng.choice(3, size, p=chances))) for _ in range(DRAWS)]
        assert found.count("outside") <= 0.05 * DRAWS, size


@pytest.mark.parametrize("value", sorted({f.value for f in paper_facts() if f.n}))
def test_the_papers_shares_are_outside_in_one_of_twenty_draws_at_most(value: float) -> None:
    """Exactly: over all counts, with their chances."""
    fact = Fact(("share",), "4", "S", value, n=50)
    for size in range(2, 201):
        told = [judge_fact(fact, share_of(c, size)).status == "outside" for c in range(size + 1)]
        assert stats.binom.pmf(np.flatnonzero(told), size, value).sum() <= 0.05, size


def share_of(count: int, size: int) -> Ours:
    return Ours(count / size, *clopper_pearson(count, size), CLOPPER_PEARSON, size)


def labelled(folder: Path, said: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the statuses of the agreement of two raters who said so of one item each."""
    rows = [
        event(
            2 * i + r,
            kind="preference",
            item_id=str(i),
            arm_2="b",
            response_2="y",
            rater=f"c{r}",
            rater_group="crowd",
            label=label,
        )
        for i, labels in enumerate(said)
        for r, label in enumerate(labels)
    ]
    storage = Storage(str(folder))
    RunTable.of(storage, ANNOTATIONS, IDENTITY).write("labels", rows)
    found = [c for c in compare_paper(storage, note=print) if c.fact.of[0] == "agreement"]
    return {c.fact.name: c.status for c in found if c.ours}


@pytest.mark.parametrize("items", [1, 2, 5, 10])
@pytest.mark.parametrize("labels", [("A", "A"), ("neither", "neither")])
def test_equal_labels_of_few_items_are_underpowered(
    tmp_path: Path, items: int, labels: tuple[str, str]
) -> None:
    assert labelled(tmp_path, [labels] * items) == {"agreement/crowd/crowd": "underpowered"}


def test_equal_labels_of_many_items_have_a_width_too() -> None:
    found = between(np.full(300, 2)).accuracy
    assert (found.value, found.high, found.method) == (1.0, 1.0, CLOPPER_PEARSON)
    assert found.low == pytest.approx(clopper_pearson(300, 300)[0])


def test_what_varies_over_many_items_keeps_its_bootstrap() -> None:
    points = np.random.default_rng(1).choice(3, 400, p=(0.1, 0.2, 0.7))
    assert between(points).accuracy.method == BOOTSTRAP
    assert between(points[: FEW_ITEMS - 1]).accuracy.method == CLOPPER_PEARSON


VALUES = ("1", "2", "tie")
LABELS = st.lists(st.tuples(*[st.sampled_from([*VALUES, None])] * 3), min_size=1, max_size=12)


@given(LABELS)
def test_intervals_hold_their_value_and_keep_to_the_scale(
    rows: list[tuple[str | None, ...]],
) -> None:
    labels = [
        Label(str(i), 0, "preference", f"r{r}", "crowd", value, "ok", "x", "y", "p")
        for i, row in enumerate(rows)
        for r, value in enumerate(row)
        if value is not None
    ]
    for found in all_agreements(labels, "preference", draws=100):
        scales = {"accuracy": 0, "with_ties": 0, "without_ties": 0, "kappa": -1, "alpha": -1}
        for measure, least in scales.items():
            of = getattr(found, measure)
            if of.low is not None:
                assert least <= of.low < of.high <= 1, measure
                assert of.low - 1e-12 <= of.value <= of.high + 1e-12, measure


def test_kappa_and_alpha_miss_their_true_values_in_one_of_twenty_draws_at_most() -> None:
    joint = np.array([[0.38, 0.05, 0.05], [0.05, 0.28, 0.05], [0.05, 0.04, 0.05]])
    chance = float(joint.sum(0) @ joint.sum(1))
    kappa = (np.trace(joint) - chance) / (1 - chance)
    both = (joint.sum(0) + joint.sum(1)) / 2
    alpha = 1 - (1 - np.trace(joint)) / (1 - both @ both)
    rng = np.random.default_rng(0)
    for size in (2, 3, 5, 10, 30, 100, FEW_ITEMS - 1):
        missed = {"kappa": 0, "alpha": 0}
        for _ in range(DRAWS):
            first, second = np.divmod(rng.choice(9, size, p=joint.ravel()), 3)
            counts = np.stack([np.eye(3, dtype=np.int64)[side] for side in (first, second)])
            found = agreement(Ratings(counts, ("a", "b"), VALUES, (1, 1)), "a", "b")
            for name, value in (("kappa", kappa), ("alpha", alpha)):
                of = getattr(found, name)
                missed[name] += of.low is not None and not of.low <= value <= of.high
        assert max(missed.values()) <= 0.05 * DRAWS, size


# Scores and lengths


@given(st.lists(st.lists(st.integers(1, 6), min_size=1, max_size=4), min_size=2, max_size=12))
def test_scores_keep_to_their_scale_and_have_a_width(clusters: list[list[int]]) -> None:
    found = clustered_interval([sum(c) for c in clusters], [len(c) for c in clusters], scale=SCORES)
    assert found.mean is not None
    assert found.low is not None
    assert found.high is not None
    assert 1 <= found.low < found.high <= 6
    assert found.low <= found.mean <= found.high


def test_scores_that_are_all_alike_are_as_wide_as_a_share() -> None:
    found = clustered_interval([4.0] * 10, [1] * 10, scale=(1, 6))
    assert (found.low, found.high) == pytest.approx([1 + 5 * e for e in clopper_pearson(6, 10)])
    assert bounded_interval([0, 1, 1], [1, 1, 1]).low == pytest.approx(clopper_pearson(2, 3)[0])


@pytest.mark.parametrize("size", [2, 3, 10, 30, 100])
def test_a_mean_score_is_outside_no_more_often_than_its_interval_says(size: int) -> None:
    """Scores as judges give them: most are a 4, few are bad."""
    chances = np.array([0.02, 0.03, 0.1, 0.6, 0.2, 0.05])
    scores = np.arange(1, 7)
    fact, rng = (
        Fact(("score",), "5", "S", float(scores @ chances), width=0.5),
        np.random.default_rng(0),
    )
    said = [
        judge_fact(fact, Ours(i.mean or 0, i.low, i.high, STUDENT, size)).status
        for i in (
            clustered_interval(rng.choice(scores, size, p=chances), np.ones(size), scale=SCORES)
            for _ in range(2000)
        )
    ]
    assert said.count("outside") <= 0.06 * 2000


@pytest.mark.parametrize("ours", [(12.0, 12.0, 12.0), (12.0, None, None), (12.0, 11.0, 13.0)])
def test_few_lengths_are_underpowered_whatever_they_are(
    ours: tuple[float, float | None, float | None],
) -> None:
    fact = Fact(("tokens",), "2", "sec", 500, rows=200)
    assert judge_fact(fact, Ours(*ours, STUDENT, n=2)).status == "underpowered"


def test_one_prompt_has_no_interval_that_could_be_outside() -> None:
    fact = Fact(("score",), "5", "S", 3.83, width=0.5)
    assert judge_fact(fact, Ours(6.0, None, None, STUDENT, n=1)).status == "underpowered"
