"""Perplexity and score of checkpoints beside appendix B: their signs, ranks and held-out texts."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist
from unittest.mock import ANY

import pytest

from lima.evaluation.cells.checkpoint_choice import Checkpoint, pairs_of
from lima.evaluation.labels.label_shares import Labelled
from lima.evaluation.paper.compare import compare_paper
from lima.evaluation.paper.from_runs import checkpoint_range, perplexity_sign
from lima.evaluation.paper.numbers import Fact, Ours, judge_fact
from lima.evaluation.paper.our_numbers import Evidence
from lima.evaluation.statistics.correlation import combined, rank_correlation
from lima.runs.lineage import Chain
from lima.spec import DataSpec
from lima.store.storage import Storage
from tests.helpers.synthetic import Arm, Study, write_study


@pytest.mark.parametrize(
    ("low", "high", "status"),
    [(0.2, 0.9, "within"), (-0.2, 0.9, "underpowered"), (-0.9, -0.2, "outside")],
)
def test_a_sign(low: float, high: float, status: str) -> None:
    fact = Fact(("perplexity_sign",), "B", "S", 0, to=1)
    found = judge_fact(fact, Ours(0.5, low, high, "Fisher's", n=6))
    assert found.status == status
    assert (found.rows_needed is not None) == (status == "underpowered")


def test_rank_correlation_by_hand() -> None:
    rising = rank_correlation([(x, x**3) for x in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0)])
    assert rising.value == pytest.approx(1)
    assert rising.low is not None
    assert 0 < rising.low < 1 == rising.high
    swapped = rank_correlation([(1, 2), (2, 1), (3, 3), (4, 4), (5, 5)])
    assert swapped.value == pytest.approx(1 - 6 * 2 / (5 * 24))
    assert rank_correlation([(1, 1), (2, 1), (3, 1), (4, 1)]).value is None
    assert rank_correlation([(1, 1), (2, 2)]).low is None


def test_series_are_combined_and_not_pooled() -> None:
    """Each rises; over both, more perplexity comes with a lower score."""
    better = [(2.0, 4.0), (2.1, 4.1), (2.2, 4.3), (2.3, 4.2)]
    worse = [(x + 2, y - 2) for x, y in better]
    one, pooled = rank_correlation(better), rank_correlation(better + worse)
    assert pooled.value is not None
    assert pooled.value < 0
    assert combined([one]) == one
    both = combined([one, rank_correlation(worse), rank_correlation(worse[:3])])
    assert both.value == pytest.approx(0.8)  # that of each of the two
    assert both.points == 8
    assert both.low is not None
    assert one.low is not None
    # Fisher's z of 0.8, with the standard error over the root of two.
    reach = NormalDist().inv_cdf(0.975) * math.sqrt((1 + 0.8**2 / 2) / 2)
    assert both.low == pytest.approx(math.tanh(math.atanh(0.8) - reach))
    assert both.low > one.low
    # More points weigh more: 1 of 4, 5 of 8.
    longer = rank_correlation([(x, x % 3) for x in range(8)])
    assert longer.value is not None
    z = (math.atanh(0.8) + 5 * math.atanh(longer.value)) / 6
    assert combined([one, longer]).value == pytest.approx(math.tanh(z))
    perfect = combined([rank_correlation([(x, x) for x in range(5)])] * 2)
    assert perfect.value is not None
    assert 0.8 < perfect.value < 1
    assert combined([]).value is combined([rank_correlation(worse[:3])]).value is None


def checkpoints(arm: str, pairs: Sequence[tuple[float, float]], path: str) -> list[Checkpoint]:
    heldout = DataSpec(path, count=2000)
    return [
        Checkpoint(arm, 0, i, arm, heldout, perplexity=x, score=y) for i, (x, y) in enumerate(pairs)
    ]


def evidence(*arms: str, **series: Sequence[Checkpoint]) -> Evidence:
    chains = [Chain("e", arm, 0, arm, {}, {}, None, {}) for arm in arms]
    return Evidence(Labelled([]), chains, checkpoints=[c for s in series.values() for c in s])


RISING = [(6.0 + i, 3.0 + i / 10) for i in range(5)]
FALLING = [(16.0 + i, 2.0 - i / 10) for i in range(6)]


def test_the_sign_is_that_of_the_papers_arm() -> None:
    """Appendix B: one model over its steps; another arm's checkpoints say nothing about it."""
    series = {
        "a": checkpoints("lima-1000", RISING, "stackexchange.jsonl"),
        "b": checkpoints("other", FALLING, "stackexchange.jsonl"),
    }
    has = replace(evidence("lima-1000", "other", **series), named={"lima": "lima-1000"})
    pooled = rank_correlation(pairs_of(has.checkpoints))
    assert pooled.high is not None
    assert pooled.high < 0  # the wrong sign, and sure of it
    found = perplexity_sign(has)
    assert isinstance(found, Ours)
    assert found.value == pytest.approx(1)
    assert (found.n, found.method) == (5, "Fisher's, for ranks")
    named = replace(has, named={"lima": "other"})
    assert perplexity_sign(named) == replace(found, value=-1, low=-1, high=ANY, n=6)
    ranges = [checkpoint_range(has, which) for which in (0, 1)]
    assert [(r.low, r.high) for r in ranges if isinstance(r, Ours)] == [(6, 10), (3, 3.4)]
    few = replace(evidence("lima-1000", a=series["a"][:3], b=series["b"]), named=has.named)
    assert perplexity_sign(few) == "3 checkpoints with score and perplexity; 4 are needed"


def test_without_the_papers_arm_the_sign_is_within_arms() -> None:
    worse = [(x + 10, y - 2) for x, y in RISING]
    has = evidence(
        "one", "two", a=checkpoints("one", RISING, "s"), b=checkpoints("two", worse, "s")
    )
    found = perplexity_sign(has)
    assert isinstance(found, Ours)
    assert found.low is not None
    assert 0 < found.low < found.value
    assert (found.n, found.method) == (10, "Fisher's, for ranks; mean of 2 series")
    level = checkpoints("one", [(6, 3)] * 5, "s")
    assert "no order" in str(perplexity_sign(evidence("one", a=level)))


@pytest.mark.parametrize(
    ("path", "sources", "is_theirs"),
    [
        ("data/StackExchange/held.jsonl", (), True),
        ("x/stack_exchange-heldout.jsonl", (), True),
        ("all.jsonl", ("stackexchange/*", "stackexchange"), True),
        ("all.jsonl", (), False),
        ("all.jsonl", ("stackexchange/*", "wikihow"), False),
        ("authored:dev", (), False),
    ],
)
def test_perplexity_of_other_texts_is_not_compared(
    path: str, sources: tuple[str, ...], is_theirs: bool
) -> None:
    points = [
        replace(c, heldout=DataSpec(path, sources, 50))
        for c in checkpoints("lima-1000", RISING, path)
    ]
    has = replace(evidence("lima-1000", a=points), named={"lima": "lima-1000"})
    assert isinstance(checkpoint_range(has, 1), Ours)  # a score is a score
    found = checkpoint_range(has, 0)
    assert isinstance(found, Ours) == is_theirs
    if not is_theirs:
        assert str(found).startswith(f"measured on 50 examples of {path}")
        assert str(found).endswith("; the paper's is on Stack Exchange")


def test_ranges_are_of_one_training_and_of_the_papers() -> None:
    """Single checkpoints of two arms are no range, and other arms' are not compared."""
    one, two = (
        checkpoints(arm, [(7.0 + i, 3.0 + i)], "stackexchange.jsonl")
        for i, arm in enumerate(("one", "two"))
    )
    single = evidence("one", "two", a=one, b=two)
    assert "no arm is 'lima'" in str(checkpoint_range(single, 1))
    named = replace(single, named={"lima": "one"})
    assert "no two checkpoints of one training" in str(checkpoint_range(named, 1))
    more = evidence("one", "two", a=checkpoints("one", RISING, "stackexchange.jsonl"), b=two)
    found = checkpoint_range(replace(more, named={"lima": "one"}), 0)
    assert isinstance(found, Ours)
    assert (found.low, found.high) == (6, 10)


def test_the_held_out_set_is_that_of_the_run(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_study(storage, Study((Arm("lima"),), seeds=1, checkpoints=(2, 3)))
    found = {
        c.fact.name: c for c in compare_paper(storage, named={"lima": "lima"}, note=pytest.fail)
    }
    assert found["perplexity"].status == "no data"
    assert found["perplexity"].why == "measured on dev.jsonl; the paper's is on Stack Exchange"
    assert found["checkpoint_score"].ours
