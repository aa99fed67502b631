"""What a report shows of a study beyond the aggregate: curves, lengths, responses."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from lima.evaluation.cells.measures import Results, read_metrics, read_results, runs_of
from lima.runs.lineage import Chain, read_chains
from lima.store.scan import Tables
from lima.store.tables import STEPS

Points = Sequence[tuple[float, float]]
CURVE_POINTS = 120
"""More points of a loss curve than this are averaged: nobody sees more on a page."""


@dataclass(frozen=True)
class Study:
    """A study as read from storage; curves by run id."""

    chains: Sequence[Chain]
    results: Results
    losses: dict[str, Points]
    perplexities: dict[str, Points]


def read_study_data(tables: Tables) -> Study:
    """Read all that a report needs.

    Raises:
        DataError: there are no runs.
        StorageError: storage cannot be reached.

    """
    chains = read_chains(tables)
    perplexities: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(read_metrics(tables), key=lambda row: row["epoch"]):
        if math.isfinite(row["value"]):  # it is not where a model diverged
            perplexities.setdefault(row["run_id"], []).append((row["epoch"], row["value"]))
    return Study(chains, read_results(tables), _losses(tables, chains), dict(perplexities))


def thinned(points: Points, most: int = CURVE_POINTS) -> Points:
    """Return at most `most` points, each the mean of as many neighbours."""
    size = -(-len(points) // most)
    chunks = [points[i : i + size] for i in range(0, len(points), size)]
    return [(_mean([x for x, _ in chunk]), _mean([y for _, y in chunk])) for chunk in chunks]


def mean_curve(runs: Sequence[Points]) -> Points:
    """Return the mean of some curves over the part that all of them have."""
    return [(group[0][0], _mean([y for _, y in group])) for group in zip(*runs, strict=False)]


def _losses(tables: Tables, chains: Sequence[Chain]) -> dict[str, Points]:
    """Return loss by epoch, only of the cells' own training."""
    wanted = {chain.runs["train"] for chain in chains if "train" in chain.runs}
    found: dict[str, list[tuple[float, float]]] = {}
    columns = ["step", "epoch", "loss"]
    for run, rows in tables.map(STEPS, columns, pa.Table.to_pylist, runs=wanted):
        points = ((row["epoch"], row["loss"]) for row in rows)
        found.setdefault(run, []).extend(p for p in points if all(map(math.isfinite, p)))
    return {run: thinned(sorted(points)) for run, points in found.items() if points}


def lengths_of(study: Study, chains: Sequence[Chain]) -> Counter[int]:
    """Return the lengths of all responses of some cells."""
    total: Counter[int] = Counter()
    lengths = study.results.lengths
    for run in runs_of(chains, "generate", lengths):
        total.update(lengths[run])
    return total


def quantile(counts: Counter[int], share: float) -> float:
    """Return the value below or at which `share` of the counted values lie."""
    wanted, seen = share * counts.total(), 0
    for value in sorted(counts):
        seen += counts[value]
        if seen >= wanted:
            return float(value)
    raise ValueError("no values")


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
