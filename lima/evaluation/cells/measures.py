"""What is read from the tables for a study's figures, and how cells are summed up."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lima.evaluation.statistics.intervals import SCORES, clustered_interval, mean_bounds
from lima.evaluation.statistics.tallies import (
    ENCODED,
    JUDGMENT_COLUMNS,
    RESPONSE_COLUMNS,
    Tally,
    count_lengths,
    merged,
    merged_by_run,
    tally_judgments,
    tally_responses,
)
from lima.judging.rubrics import RUBRICS
from lima.runs.effort import Effort, effort_of, total_effort
from lima.runs.lineage import Chain
from lima.spec import Stage
from lima.store.scan import Tables
from lima.store.tables import ATTEMPTS, GENERATIONS, JUDGMENTS, METRICS, STEPS
from lima.store.values import FINISH_REASONS, STATUSES

OWN_STAGES: tuple[Stage, ...] = ("train", "generate", "judge")
"""Stages of a cell itself; curated data and the base model are shared."""
PERPLEXITY = "heldout_perplexity"


@dataclass(frozen=True)
class Training:
    """Where a training run stands; `steps` counts its optimizer steps."""

    steps: int | None = None
    loss: float | None = None
    heldout: Mapping[int, float] = field(default_factory=dict)
    """Held-out perplexity by epoch."""

    @property
    def best_perplexity(self) -> float | None:
        """The lowest one."""
        return min(self.heldout.values(), default=None)

    def perplexity(self, epoch: int | None = None) -> float | None:
        """Return the one after an epoch; without one, the last."""
        at = max(self.heldout, default=None) if epoch is None else epoch
        return None if at is None else self.heldout.get(at)


@dataclass(frozen=True)
class Results:
    """The tables of a study, reduced to what its rows need, by run id."""

    judgments: dict[str, Tally]
    responses: dict[str, Tally]
    lengths: dict[str, Counter[int]]
    """How many responses of each run have how many tokens."""
    training: dict[str, Training]
    efforts: dict[str, Effort]

    def sources(self, chains: Sequence[Chain]) -> list[str | None]:
        """Return the sources of the prompts of some cells; [None] before there are any."""
        runs = runs_of(chains, "generate", self.responses)
        found = sorted({source for run in runs for source in self.responses[run].sources or ()})
        return list(found) or [None]

    def strangers(self, chains: Sequence[Chain]) -> list[str]:
        """Return the runs with rows that belong to no cell."""
        known = {run for chain in chains for run in chain.runs.values()}
        return sorted((self.judgments.keys() | self.responses.keys()) - known)


def runs_of(chains: Iterable[Chain], stage: Stage, within: dict[str, Any]) -> list[str]:
    """Return the different runs of a stage of some cells, of those `within` something."""
    found = dict.fromkeys(run for chain in chains if (run := chain.runs.get(stage)))
    return [run for run in found if run in within]


def read_results(tables: Tables) -> Results:
    """Read and reduce all tables but `runs`."""
    judgments = tables.map(JUDGMENTS, JUDGMENT_COLUMNS, tally_judgments, encoded=ENCODED)
    responses, lengths = _read_responses(tables)
    return Results(
        judgments=merged_by_run(judgments),
        responses=responses,
        lengths=lengths,
        training=read_training(tables),
        efforts=read_efforts(tables),
    )


def _read_responses(tables: Tables) -> tuple[dict[str, Tally], dict[str, Counter[int]]]:
    def work(part: pa.Table) -> tuple[Tally, dict[int, int]]:
        return tally_responses(part), count_lengths(part)

    tallies: list[tuple[str, Tally]] = []
    lengths: dict[str, Counter[int]] = {}
    for run, (tally, counts) in tables.map(GENERATIONS, RESPONSE_COLUMNS, work, encoded=ENCODED):
        tallies.append((run, tally))
        lengths.setdefault(run, Counter()).update(counts)
    return merged_by_run(tallies), lengths


def read_training(tables: Tables) -> dict[str, Training]:
    """Return where every training run stands, from `steps` and `metrics`."""
    steps: dict[str, list[dict[str, Any]]] = {}
    columns = ["step", "epoch", "loss", "target_tokens"]
    for run, rows in tables.map(STEPS, columns, lambda part: last_epoch(part.to_pylist())):
        steps[run] = last_epoch([*steps.get(run, []), *rows])
    heldout: dict[str, dict[int, float]] = {}
    for row in sorted(read_metrics(tables), key=lambda row: row["epoch"]):
        heldout.setdefault(row["run_id"], {})[row["epoch"]] = row["value"]
    runs = steps.keys() | heldout.keys()
    return {run: _training(steps.get(run, []), heldout.get(run, {})) for run in runs}


def read_metrics(tables: Tables) -> list[dict[str, Any]]:
    """Return the held-out perplexities: run_id, epoch, value."""
    rows = tables.read(METRICS, ["run_id", "epoch", "name", "value"]).to_pylist()
    return [row for row in rows if row["name"] == PERPLEXITY]


def last_epoch(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the steps of the last pass over the data, up to the last one."""
    end = max((step["epoch"] for step in steps), default=0.0)
    return [step for step in steps if step["epoch"] > end - 1 + 1e-9]


def read_efforts(tables: Tables) -> dict[str, Effort]:
    """Return the attempts at every run. A start without an end was killed, or still runs."""
    columns = ["run_id", "attempt_id", "event", "at", "outcome", "gpus", "seconds"]
    table = tables.read(ATTEMPTS, columns)
    # As numbers: for times, to_pylist() imports pandas where that is installed.
    table = table.set_column(columns.index("at"), "at", table["at"].cast(pa.int64()))
    rows = sorted(table.to_pylist(), key=lambda row: row["at"])
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        by_run.setdefault(row["run_id"], []).append(row)
    return {run: effort_of(rows) for run, rows in by_run.items()}


def summarise(
    results: Results, chains: Sequence[Chain], source: str | None = None
) -> dict[str, Any]:
    """Return the measures of some cells together, of the prompts of one source if it is named.

    A run that several of the cells share counts once.
    """
    row: dict[str, Any] = {"cells": len(chains)}
    row |= _response_measures(results, chains, source)
    row |= _score_measures(results, chains, source)
    if source is None:
        row |= _training_measures(results, chains) | _effort_measures(results, chains)
    return row


def judged(results: Results, chains: Sequence[Chain], source: str | None = None) -> Tally | None:
    """Return the judgments of some cells, prompt by prompt; None before there are any."""
    tallies = []
    for chain in chains:
        if chain.compares:
            continue
        tally = results.judgments.get(chain.runs.get("judge", ""))
        if tally and source is not None:
            responses = results.responses.get(chain.runs.get("generate", ""))
            tally = tally.answering(responses.of_source(source)) if responses else None
        tallies += [tally] if tally else []
    return merged(tallies) if tallies else None


def _comparing_cost(results: Results, chains: Sequence[Chain], source: str | None) -> float:
    """Return what comparisons cost; they are of pairs, and so of no single source."""
    tallies = [results.judgments.get(c.runs.get("judge", "")) for c in chains if c.compares]
    return 0.0 if source else sum(float(t.sums[:, 1].sum()) for t in tallies if t)


def _answered(results: Results, runs: Sequence[str], source: str | None) -> list[Tally]:
    tallies = [results.responses[run] for run in runs]
    return tallies if source is None else [t.of_source(source) for t in tallies]


def _response_measures(
    results: Results, chains: Sequence[Chain], source: str | None
) -> dict[str, Any]:
    tallies = _answered(results, runs_of(chains, "generate", results.responses), source)
    if not tallies:
        return {}
    tally = merged(tallies)
    rows = int(tally.counts.sum())
    by_reason = dict(zip(FINISH_REASONS, tally.counts.sum(axis=0).tolist(), strict=False))
    sampled = rows - by_reason["prompt_too_long"]
    return {
        "prompts": len(tally.prompts),
        "responses": rows,
        "response_tokens": _known(float(tally.sums.sum()) / sampled) if sampled else None,
        **{reason: n / rows for reason, n in by_reason.items()},
    }


def _known(value: float) -> float | None:
    """Return a number; None for what is not known, as the tokens of an endpoint's responses."""
    return value if math.isfinite(value) else None


def _score_measures(
    results: Results, chains: Sequence[Chain], source: str | None
) -> dict[str, Any]:
    tally, comparing = judged(results, chains, source), _comparing_cost(results, chains, source)
    if tally is None:
        return {"cost": _known(comparing)} if comparing else {}
    by_status = dict(zip(STATUSES, tally.counts.sum(axis=0).tolist(), strict=False))
    finals, scored = int(tally.counts.sum()), by_status.pop("ok")
    total, cost = tally.sums.sum(axis=0).tolist()
    # Every judge owes a verdict on every response.
    scoring = [chain for chain in chains if not chain.compares]
    owed = [c.runs["generate"] for c in scoring if c.runs.get("generate") in results.responses]
    responses = sum(int(t.counts.sum()) for t in _answered(results, owed, source))
    waiting = max(0, responses - finals) if owed else None
    scale = _scale(scoring)
    unscored = finals - scored + (waiting or 0)
    bounds = mean_bounds(total, scored, unscored, *scale) if scale else None
    interval = clustered_interval(tally.sums[:, 0], tally.counts[:, 0], scale=scale)
    return {
        "judged": finals,
        "scored": scored,
        **by_status,
        "not_judged": waiting,
        "score": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "bound_low": bounds[0] if bounds else None,
        "bound_high": bounds[1] if bounds else None,
        "cost": _known(cost + comparing),
    }


def _scale(chains: Sequence[Chain]) -> tuple[float, float] | None:
    """Return least and greatest score that cells could get; the paper's if no rubric says so.

    What a run tells of its rubric counts first: the one of that name here may be another since.
    None: one of them is judged by a rubric that is not here, and whose run does not tell.
    """
    scales: list[tuple[float, float]] = []
    for judge in (chain.spec.get("judge") or {} for chain in chains):
        name, low, high = str(judge.get("rubric")), judge.get("lowest"), judge.get("highest")
        if low is not None and high is not None:
            scales.append((low, high))
        elif rubric := RUBRICS.get(name):
            scales += [rubric.scale] if rubric.scale else []
        elif "." in name:
            return None
    lows, highs = zip(*(scales or [SCORES]), strict=True)
    return min(lows), max(highs)


def _training_measures(results: Results, chains: Sequence[Chain]) -> dict[str, Any]:
    runs = [results.training[run] for run in runs_of(chains, "train", results.training)]
    examples = {chain.examples for chain in chains}
    names = ("steps", "loss", "best_perplexity")
    return {
        **{name: _mean(getattr(run, name) for run in runs) for name in names},
        "perplexity": _perplexity(results, chains),
        "examples": examples.pop() if len(examples) == 1 else None,
    }


def _perplexity(results: Results, chains: Sequence[Chain]) -> float | None:
    """Return the perplexity of the weights that responses are from, which stands beside scores.

    That need not be the last one; it is where nothing is sampled yet.
    """
    found = dict.fromkeys((chain.runs.get("train", ""), chain.sampled_epoch) for chain in chains)
    return _mean(
        results.training[run].perplexity(epoch) for run, epoch in found if run in results.training
    )


def _effort_measures(results: Results, chains: Sequence[Chain]) -> dict[str, Any]:
    runs = [run for stage in OWN_STAGES for run in runs_of(chains, stage, results.efforts)]
    return vars(total_effort(results.efforts[run] for run in runs)) if runs else {}


def _training(steps: list[dict[str, Any]], heldout: Mapping[int, float]) -> Training:
    tokens = sum(step["target_tokens"] for step in steps)
    weighted = sum(step["loss"] * step["target_tokens"] for step in steps)
    return Training(
        steps=max((step["step"] for step in steps), default=None),
        loss=_known(weighted / tokens) if tokens else None,
        heldout=heldout,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _known(sum(known) / len(known)) if known else None
