"""A few responses of every arm to the same prompts, side by side."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lima.evaluation.cells.lines import Series, series_of
from lima.evaluation.statistics.tallies import first_places, rows_with
from lima.runs.lineage import Chain
from lima.store.scan import Tables
from lima.store.tables import GENERATIONS, JUDGMENTS

PROMPTS = 3
LONGEST = 3000
"""Characters of a response that a page shows."""


@dataclass(frozen=True)
class Sample:
    """A response as the page shows it, with a score from each judge that gave one."""

    label: str
    colour: int
    text: str
    cut: int
    tokens: int | None
    finish_reason: str
    scores: list[float]


@dataclass(frozen=True)
class Compared:
    """A prompt, turn by turn, and the first response of each arm to it."""

    turns: list[tuple[str, str]]
    samples: list[Sample]


def read_samples(tables: Tables, chains: Sequence[Chain], count: int = PROMPTS) -> list[Compared]:
    """Return `count` prompts that all arms answered, evenly spaced, with the first seed's
    responses; fewer if there are not so many."""
    chosen = [(s, _first(s)) for s in series_of(chains, "generate")]
    answered = _answered(tables, {c.runs["generate"] for _, c in chosen})
    common = set.intersection(*(set(keys) for keys in answered.values())) if answered else set()
    some = next(iter(answered.values()), {})
    prompts = _spaced(sorted(common, key=lambda key: some[key]), count)
    rows = _responses(tables, answered, prompts)
    prompts = [key for key in prompts if all((run, key) in rows for run in answered)]
    shown = [chain for chain in chains if chain.runs.get("generate") in answered]
    scores = _scores(tables, shown, [row["generation_key"] for row in rows.values()])
    return [
        Compared(
            _turns(next(rows[run, key]["prompt"] for run in answered)),
            [
                _sample(series, rows[chain.runs["generate"], key], scores)
                for series, chain in chosen
                if chain.runs["generate"] in answered
            ],
        )
        for key in prompts
    ]


def _first(series: Series) -> Chain:
    return min(series.chains, key=lambda chain: (chain.seed, chain.run_id))


def _answered(tables: Tables, runs: Collection[str]) -> dict[str, dict[str, int]]:
    """Return the prompts that each run answered so far, with their places in the selection."""
    found: dict[str, dict[str, int]] = {}
    columns = ["prompt_key", "prompt_index"]

    def places(part: pa.Table) -> dict[str, int]:
        return first_places(part["prompt_key"], part["prompt_index"])

    for run, part in tables.map(GENERATIONS, columns, places, encoded=columns[:1], runs=runs):
        found.setdefault(run, {}).update(part)
    return found


def _spaced(keys: Sequence[str], count: int) -> list[str]:
    """Return a few, evenly spaced, so that nobody chose them for what was answered."""
    number = min(count, len(keys))
    return [keys[(2 * i + 1) * len(keys) // (2 * number)] for i in range(number)]


def _responses(
    tables: Tables, answered: Mapping[str, Mapping[str, int]], prompts: Collection[str]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the first response of each run to each prompt."""
    columns = [
        "generation_key",
        "prompt_key",
        "sample",
        "prompt",
        "response",
        "response_tokens",
        "finish_reason",
    ]

    def first(part: pa.Table) -> list[dict[str, Any]]:
        rows = part.take(rows_with(part["prompt_key"], prompts)).to_pylist()
        return [row for row in rows if row["sample"] == 0]

    # Texts are long and few are wanted: shards of other prompts are left alone.
    places = {places[key] for places in answered.values() for key in prompts}
    holding = ("prompt_index", places)
    found = tables.map(GENERATIONS, columns, first, runs=answered.keys(), holding=holding)
    return {(run, row["prompt_key"]): row for run, rows in found for row in rows}


def _scores(
    tables: Tables, chains: Sequence[Chain], keys: Collection[str]
) -> dict[str, list[float]]:
    """Return the scores of some responses."""
    runs = {chain.runs["judge"] for chain in chains if "judge" in chain.runs}
    columns = ["generation_key", "final", "status", "score"]

    def scored(part: pa.Table) -> list[tuple[str, float]]:
        places = rows_with(part["generation_key"], keys)
        rows = part.take(places).to_pylist() if places else []
        ok = [r for r in rows if r["final"] and r["status"] == "ok" and _is_number(r["score"])]
        return [(r["generation_key"], r["score"]) for r in ok]

    found: dict[str, list[float]] = {}
    for _, scores in tables.map(JUDGMENTS, columns, scored, runs=runs if keys else ()):
        for key, score in scores:
            found.setdefault(key, []).append(score)
    return found


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _sample(series: Series, row: dict[str, Any], scores: dict[str, list[float]]) -> Sample:
    text = row["response"]
    return Sample(
        series.label,
        series.colour,
        text[:LONGEST],
        max(0, len(text) - LONGEST),
        row["response_tokens"],
        row["finish_reason"],
        scores.get(row["generation_key"], []),
    )


def _turns(prompt: Sequence[str]) -> list[tuple[str, str]]:
    return [("assistant" if i % 2 else "user", turn) for i, turn in enumerate(prompt)]
