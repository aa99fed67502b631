"""Which of two arms is preferred: every pair that was compared, by people and by each judge.

A win rate counts a tie as half a win, as AlpacaEval does; the paper tells wins, ties and losses.
The length-controlled one (Dubois et al., 2024) is what it would be if both responses were as long
as each other: a logistic model of the outcomes whose term for the difference in length is left
out. Its term for how hard an instruction is takes many models, and is not in it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lima.evaluation.labels.label_shares import HUMAN, Counts, Labelled
from lima.evaluation.statistics.intervals import Interval, bounded_interval
from lima.evaluation.statistics.tallies import rows_with
from lima.rating.labels import FIRST, MODEL, Asked, Label
from lima.rating.most import labels_of_most
from lima.store.scan import Tables
from lima.store.tables import GENERATIONS, RUNS, Column

PEOPLE = "people"
OUTCOMES = ("win", "tie", "lose")
POINTS = {"win": 1.0, "tie": 0.5, "lose": 0.0}
ASKED: tuple[Asked, ...] = ("preference", "dialogues")
LEAST_PAIRS = 10
"""Fewer pairs do not tell what a length does."""
PENALTY = 0.01
"""Of the squares of the model's terms: finite where all pairs are won, of no weight elsewhere."""
Lengths = Mapping[str, int]
"""Characters of responses, by the key of their generation."""

CONTEST: tuple[Column, ...] = (
    Column("experiment", pa.string(), "study"),
    Column("asked", pa.string(), "preference: two responses; dialogues: two conversations"),
    Column("arm", pa.string(), "what was asked about"),
    Column("against", pa.string(), "arm that it was compared with"),
    Column("raters", pa.string(), "people, or the name of a judge"),
    Column("pairs", pa.int64(), "pairs with a label; of several people, what most of them said"),
    Column("missing", pa.int64(), "pairs without a label, which are no ties"),
    Column("win", pa.float64(), "share of pairs that the arm wins"),
    Column("tie", pa.float64(), "share of ties"),
    Column("lose", pa.float64(), "share of pairs that it loses"),
    Column("win_low", pa.float64(), "lower end of the 95 % interval of win (Clopper-Pearson)"),
    Column("win_high", pa.float64(), "upper end of that interval"),
    Column("win_rate", pa.float64(), "wins and half of the ties, as a share of the pairs"),
    Column("win_rate_low", pa.float64(), "lower end of its 95 % interval (Clopper-Pearson)"),
    Column("win_rate_high", pa.float64(), "upper end of that interval"),
    Column("lc_win_rate", pa.float64(), "win rate at equal length; null: lengths are not known"),
)
"""What is said of a pair of arms."""


@dataclass(frozen=True)
class Contest:
    """A pair of arms as some raters saw it; `labels` has one an item."""

    asked: Asked
    arm: str
    other: str
    raters: str
    counts: Counts
    labels: Sequence[Label]

    @property
    def points(self) -> list[float]:
        """What the arm got of each item."""
        return [POINTS[label.for_arm(self.arm) or "tie"] for label in self.labels]


def contests(labelled: Labelled, asked: Asked, hero: str | None = None) -> list[Contest]:
    """Return all pairs that were asked about, those of people first, then those of each judge.

    A judge that failed at every pair has no label there, and all of them missing.

    Args:
        labelled: all labels.
        asked: preference or dialogues.
        hero: the arm that is named first wherever it takes part.

    """
    parts = [(PEOPLE, labelled.by(HUMAN))]
    judges = labelled.raters(MODEL, asked)
    parts += [(judge, labelled.by((MODEL,), judge)) for judge in judges]
    return [
        Contest(
            asked,
            arm,
            other,
            raters,
            part.of(asked, arm, (*HUMAN, MODEL), other),
            labels_of_most(part.about(asked, arm, other)),
        )
        for raters, part in parts
        for arm, other in part.pairs(asked, hero)
    ]


def contest_rows(
    labelled: Labelled, lengths: Lengths, hero: str | None = None
) -> list[dict[str, Any]]:
    """Return what is said of every pair of arms, experiment by experiment; see `CONTEST`."""
    return [
        {"experiment": experiment, **_row(contest, lengths)}
        for experiment in sorted({label.experiment for label in labelled.labels})
        for asked in ASKED
        for contest in contests(labelled.of_experiment(experiment), asked, hero)
    ]


@dataclass(frozen=True)
class Matrix:
    """The win rates of arms against arms, both ways round: row to column to share."""

    experiment: str
    raters: str
    rates: Mapping[str, Mapping[str, float]]


def matrices(rows: Sequence[Mapping[str, Any]]) -> list[Matrix]:
    """Return a matrix for the raters of each study who compared more than two arms."""
    found: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for row in (row for row in rows if row["asked"] == "preference" and row["pairs"]):
        rates = found.setdefault((row["experiment"], row["raters"]), {})
        rates.setdefault(row["arm"], {})[row["against"]] = row["win_rate"]
        rates.setdefault(row["against"], {})[row["arm"]] = 1 - row["win_rate"]
    return [
        Matrix(*of, {arm: rates[arm] for arm in sorted(rates)})
        for of, rates in found.items()
        if len(rates) > 2
    ]


def read_lengths(tables: Tables, labels: Sequence[Label]) -> dict[str, int]:
    """Return how many characters the responses have that labels of pairs are about."""
    about = [label for label in labels if label.asked == "preference"]
    keys = {key for label in about for key in label.responses if key}
    arms = {arm for label in about for arm in (label.arm_1, label.arm_2)}
    runs = tables.everywhere().read(RUNS, ["run_id", "arm", "stage"]).to_pylist() if keys else []
    wanted = {r["run_id"] for r in runs if r["stage"] == "generate" and r["arm"] in arms}

    def lengths(part: pa.Table) -> list[tuple[str, int]]:
        rows = part.take(pa.array(rows_with(part["generation_key"], keys), pa.int64()))
        counts: Any = pc.utf8_length(rows["response"])
        names: list[Any] = rows["generation_key"].to_pylist()
        return list(zip(names, counts.to_pylist(), strict=True))

    columns = ["generation_key", "response"]
    found = tables.everywhere().map(GENERATIONS, columns, lengths, runs=wanted) if wanted else ()
    return {key: length for _, pairs in found for key, length in pairs}


def length_controlled(points: Sequence[float], differences: Sequence[float]) -> float | None:
    """Return the win rate at equal length.

    Args:
        points: of each pair, 1 for a win and a half for a tie.
        differences: how much longer the winner's candidate is than the other, same order.

    Returns:
        None where there are too few pairs, or where one side is always the longer: what would be
        at equal length is not seen then.

    """
    y, d = np.asarray(points, dtype=np.float64), np.asarray(differences, dtype=np.float64)
    if len(y) < LEAST_PAIRS or d.min() > 0 or d.max() < 0:
        return None
    x = np.stack([np.ones_like(d), np.tanh(d / d.std()) if d.any() else d], axis=1)
    from scipy.optimize import minimize

    def loss(terms: np.ndarray[Any, np.dtype[np.float64]]) -> float:
        z = x @ terms
        return float((np.logaddexp(0, z) - y * z).sum() + PENALTY * (terms**2).sum())

    start = minimize(loss, np.zeros(2)).x[0]
    return float(1 / (1 + np.exp(-start)))


def _row(contest: Contest, lengths: Lengths) -> dict[str, Any]:
    shares = {outcome: contest.counts.rate(outcome) for outcome in OUTCOMES}
    low, high = shares["win"].interval if shares["win"] else (None, None)
    points = contest.points
    rate = bounded_interval(points, [1] * len(points)) if points else Interval(None, None, None)
    return {
        "asked": contest.asked,
        "arm": contest.arm,
        "against": contest.other,
        "raters": contest.raters,
        "pairs": contest.counts.total,
        "missing": contest.counts.missing,
        **{outcome: share and share.value for outcome, share in shares.items()},
        "win_low": low,
        "win_high": high,
        "win_rate": rate.mean,
        "win_rate_low": rate.low,
        "win_rate_high": rate.high,
        "lc_win_rate": _at_equal_length(contest, lengths),
    }


def _at_equal_length(contest: Contest, lengths: Lengths) -> float | None:
    """Return the win rate at equal length of the pairs whose lengths are known."""
    points, differences = [], []
    for label, point in zip(contest.labels, contest.points, strict=True):
        first, second = (lengths.get(key or "") for key in label.responses)
        if first is not None and second is not None:
            points.append(point)
            ahead = first - second
            differences.append(ahead if label.place(contest.arm) == FIRST else -ahead)
    return length_controlled(points, differences)
