"""Agreement with 10,000 bootstrap draws over 100,000 labels, against a plain implementation.

pytest tests/bench/bench_agreement.py -s
"""

import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from lima.evaluation.agreement.tie_discounted import all_agreements
from lima.rating.labels import VALUES, Label

LABELS, DRAWS, PLAIN_DRAWS = 100_000, 10_000, 20
GROUPS = {"crowd": 2, "author": 2, "model": 1}
ROUNDS = 3


def votes(labels: int) -> list[Label]:
    """Return labels of five raters of three groups, who mostly agree."""
    rng = np.random.default_rng(0)
    raters = [(g, f"{g}{i}") for g, count in GROUPS.items() for i in range(count)]
    items = labels // len(raters)
    truth = rng.integers(0, 3, items)
    said = np.where(rng.random((len(raters), items)) < 0.7, truth, rng.integers(0, 3, items))
    values = VALUES["preference"]
    return [
        Label(str(i), 0, "preference", rater, group, values[said[r, i]], "ok", "x", "y", "p")
        for r, (group, rater) in enumerate(raters)
        for i in range(items)
    ]


def plain_accuracy(pairs: Sequence[tuple[str, str]]) -> float:
    """Return the tie-discounted accuracy, pair by pair."""
    points = 0.0
    for a, b in pairs:
        points += 1 if a == b else 0.5 if "tie" in (a, b) else 0
    return points / len(pairs)


def plain_bootstrap(labels: Sequence[Label], draws: int) -> tuple[float, float, float]:
    """Return the accuracy of crowd and author with its interval, drawing items one by one."""
    by_item: dict[str, dict[str, list[str]]] = {}
    for label in labels:
        by_item.setdefault(label.item_id, {}).setdefault(label.group, []).append(label.value or "")
    items = [[(a, b) for a in said["crowd"] for b in said["author"]] for said in by_item.values()]
    rng = np.random.default_rng(0)
    found = []
    for _ in range(draws):
        drawn = rng.integers(0, len(items), len(items)).tolist()
        found.append(plain_accuracy([pair for i in drawn for pair in items[i]]))
    low, high = np.quantile(found, [0.025, 0.975])
    return plain_accuracy([pair for item in items for pair in item]), float(low), float(high)


def seconds(work: Callable[[], object]) -> float:
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return statistics.median(times)


@pytest.mark.bench
def test_all_pairs_of_groups_over_many_labels() -> None:
    """Print both times; the plain one is of one pair of groups and a few draws, scaled up."""
    labels = votes(LABELS)
    ours = seconds(lambda: all_agreements(labels, "preference", draws=DRAWS))
    started = time.perf_counter()
    value, low, high = plain_bootstrap(labels, PLAIN_DRAWS)
    plain = (time.perf_counter() - started) * DRAWS / PLAIN_DRAWS
    found = next(
        a
        for a in all_agreements(labels, "preference", draws=DRAWS)
        if a.between == ("crowd", "author")
    )
    assert found.accuracy.value == pytest.approx(value, abs=1e-12)
    assert found.accuracy.low == pytest.approx(low, abs=0.005)
    assert found.accuracy.high == pytest.approx(high, abs=0.005)
    print(
        f"agreement, {LABELS:,} labels, {DRAWS:,} draws: {ours:.2f} s for five pairs of groups "
        f"and five measures each; a plain loop takes {plain:.0f} s for one of them "
        f"({PLAIN_DRAWS} draws, scaled)"
    )
