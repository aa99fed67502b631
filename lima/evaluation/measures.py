"""What is read from the tables for a study's figures, and how cells are summed up."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lima.evaluation.intervals import Interval, clustered_interval, mean_bounds
from lima.evaluation.lineage import Chain
from lima.evaluation.scan import Tables
from lima.results import ATTEMPTS, GENERATIONS, JUDGMENTS, METRICS, STEPS
from lima.spec import Stage

FAILURES = ("parse_fail", "refusal", "truncated", "api_error")
FINISH_REASONS = ("eot", "length", "prompt_too_long")
PERPLEXITY = "heldout_perplexity"


@dataclass(frozen=True)
class Training:
    """Where a training run stands."""

    loss: float | None = None
    steps: int | None = None
    perplexity: float | None = None
    best_perplexity: float | None = None


@dataclass(frozen=True)
class Effort:
    """The attempts at a run, and the hours of those that ended."""

    attempts: int = 0
    failed: int = 0
    interrupted: int = 0
    killed: int = 0
    open: int = 0
    gpu_hours: float = 0.0
    wall_hours: float = 0.0


@dataclass(frozen=True)
class Results:
    """The tables of a study, reduced to what its rows need, by run id.

    `judgments` have the columns prompt_key, status, final, n, score and cost; `generations`
    prompt_key, source, finish_reason, n and response_tokens. The last ones are sums.
    """

    judgments: dict[str, pa.Table]
    generations: dict[str, pa.Table]
    training: dict[str, Training]
    efforts: dict[str, Effort]
    orphans: set[str]

    def sources(self, chains: Sequence[Chain]) -> list[str | None]:
        """Return the sources of the prompts of some cells; [None] before there are any."""
        parts = self.responses(chains)
        return [*sorted({str(s) for t in parts for s in t["source"].unique().to_pylist()})] or [
            None
        ]

    def responses(self, chains: Sequence[Chain]) -> list[pa.Table]:
        """Return the responses of some cells; those that two judges share, once."""
        return [self.generations[run] for run in runs_of(chains, "generate", self.generations)]


def runs_of(chains: Iterable[Chain], stage: Stage, within: Iterable[str]) -> list[str]:
    """Return the different runs of a stage, of those `within` something."""
    found = dict.fromkeys(run for chain in chains if (run := chain.runs.get(stage)))
    return [run for run in found if run in set(within)]


def read_results(tables: Tables, chains: Sequence[Chain]) -> Results:
    """Read and reduce all tables but `runs`."""
    results = Results(
        judgments=tables.reduce(JUDGMENTS, ["prompt_key", "status", "final"], ["score", "cost"]),
        generations=tables.reduce(
            GENERATIONS, ["prompt_key", "source", "finish_reason"], ["response_tokens"]
        ),
        training=read_training(tables),
        efforts=read_efforts(tables),
        orphans=set(),
    )
    known = {run for chain in chains for run in chain.runs.values()}
    for of_runs in (results.judgments, results.generations):
        results.orphans.update(set(of_runs) - known)
    return results


def read_training(tables: Tables) -> dict[str, Training]:
    """Return where every training run stands, from `steps` and `metrics`."""
    last: dict[str, pa.Table] = {}
    columns = ["step", "epoch", "loss", "target_tokens"]
    for run, part in tables.map(STEPS, columns, _last_epoch):
        last[run] = _last_epoch(pa.concat_tables([last[run], part])) if run in last else part
    metrics = tables.read(METRICS, ["run_id", "epoch", "name", "value"])
    heldout = metrics.filter(pc.equal(metrics["name"], pa.scalar(PERPLEXITY))).sort_by("epoch")
    curves: dict[str, list[float]] = {}
    for run, value in zip(*(heldout[c].to_pylist() for c in ("run_id", "value")), strict=True):
        curves.setdefault(str(run), []).append(value)
    return {run: _training(last.get(run), curves.get(run)) for run in last.keys() | curves.keys()}


def read_efforts(tables: Tables) -> dict[str, Effort]:
    """Return the attempts at every run. A start without an end was killed, or still runs."""
    columns = ["run_id", "attempt_id", "event", "at", "outcome", "gpus", "seconds"]
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in tables.read(ATTEMPTS, columns).sort_by("at").to_pylist():
        by_run.setdefault(row["run_id"], []).append(row)
    return {run: _effort(rows) for run, rows in by_run.items()}


def summarise(
    results: Results, chains: Sequence[Chain], source: str | None = None
) -> dict[str, Any]:
    """Return the measures of some cells together, of the prompts of one source if it is named."""
    row: dict[str, Any] = {"cells": len(chains)}
    row |= _response_measures(_of_source(results.responses(chains), source))
    row |= _score_measures(results, chains, source)
    if source is None:
        row |= _training_measures(results, chains) | _effort_measures(results, chains)
    return row


def _response_measures(parts: list[pa.Table]) -> dict[str, Any]:
    if not parts:
        return {}
    table = pa.concat_tables(parts)
    rows = _sum(table["n"])
    if not rows:
        return {"responses": 0}
    by_reason = {
        reason: _sum(_where(table, finish_reason=reason)["n"]) for reason in FINISH_REASONS
    }
    sampled = rows - by_reason["prompt_too_long"]
    return {
        "prompts": pc.count_distinct(table["prompt_key"]).as_py(),
        "responses": rows,
        "response_tokens": _sum(table["response_tokens"]) / sampled if sampled else None,
        **{reason: n / rows for reason, n in by_reason.items()},
    }


def _score_measures(
    results: Results, chains: Sequence[Chain], source: str | None
) -> dict[str, Any]:
    judged = [c for c in chains if c.runs.get("judge") in results.judgments]
    if not judged:
        return {}
    table = pa.concat_tables([_judgments(results, chain, source) for chain in judged])
    final = _where(table, final=True)
    ok = _where(final, status="ok")
    n, scored = _sum(final["n"]), _sum(ok["n"])
    # Every judge is owed a verdict on every response.
    responses = [_sum(t["n"]) for c in chains for t in _of_source(results.responses([c]), source)]
    waiting = sum(responses) - n if responses else None
    bounds = mean_bounds(_sum(ok["score"]), scored, n - scored + (waiting or 0))
    interval = prompt_interval(ok)
    return {
        "judged": n,
        "scored": scored,
        **{status: _sum(_where(final, status=status)["n"]) for status in FAILURES},
        "not_judged": waiting,
        "score": interval.mean,
        "ci_low": interval.low,
        "ci_high": interval.high,
        "bound_low": bounds and bounds[0],
        "bound_high": bounds and bounds[1],
        "cost": float(_sum(table["cost"])),
    }


def prompt_interval(ok: pa.Table) -> Interval:
    """Return the mean score of reduced judgments that are ok, clustered by prompt."""
    by_prompt = ok.group_by("prompt_key").aggregate([("score", "sum"), ("n", "sum")])
    return clustered_interval(by_prompt["score_sum"].to_numpy(), by_prompt["n_sum"].to_numpy())


def _training_measures(results: Results, chains: Sequence[Chain]) -> dict[str, Any]:
    runs = [results.training[r] for r in runs_of(chains, "train", results.training)]
    examples = {c.examples for c in chains}
    return {
        "perplexity": _mean(r.perplexity for r in runs),
        "best_perplexity": _mean(r.best_perplexity for r in runs),
        "loss": _mean(r.loss for r in runs),
        "steps": _mean(r.steps for r in runs),
        "examples": examples.pop() if len(examples) == 1 else None,
    }


def _effort_measures(results: Results, chains: Sequence[Chain]) -> dict[str, Any]:
    """Sum the attempts at the cells' own runs; the shared base model is nobody's."""
    stages: tuple[Stage, ...] = ("train", "generate", "judge")
    runs = [run for stage in stages for run in runs_of(chains, stage, results.efforts)]
    return total_effort(results.efforts[run] for run in runs).__dict__ if runs else {}


def total_effort(efforts: Iterable[Effort]) -> Effort:
    """Return the sum of all fields."""
    rows = [vars(effort) for effort in efforts]
    return Effort(**{name: sum(row[name] for row in rows) for name in vars(Effort())})


def _judgments(results: Results, chain: Chain, source: str | None) -> pa.Table:
    table = results.judgments[chain.runs["judge"]]
    if source is None:
        return table
    prompts = [t["prompt_key"] for t in _of_source(results.responses([chain]), source)]
    keys = pa.chunked_array([c for p in prompts for c in p.chunks], pa.string())
    return table.filter(pc.is_in(table["prompt_key"], keys))


def _of_source(parts: list[pa.Table], source: str | None) -> list[pa.Table]:
    return parts if source is None else [_where(part, source=source) for part in parts]


def _where(table: pa.Table, **equal: Any) -> pa.Table:
    for name, value in equal.items():
        table = table.filter(pc.equal(table[name], value))
    return table


def _last_epoch(steps: pa.Table) -> pa.Table:
    """Return the rows of the last pass over the data, up to the last step."""
    if not steps.num_rows:
        return steps
    return steps.filter(pc.greater(steps["epoch"], pc.max(steps["epoch"]).as_py() - 1 + 1e-9))


def _training(steps: pa.Table | None, perplexity: list[float] | None) -> Training:
    loss = count = None
    if steps is not None and steps.num_rows:
        weights = steps["target_tokens"].to_numpy().astype(np.float64)
        count = pc.max(steps["step"]).as_py()
        loss = (
            float(np.average(steps["loss"].to_numpy(), weights=weights)) if weights.any() else None
        )
    if not perplexity:
        return Training(loss, count)
    return Training(loss, count, perplexity[-1], min(perplexity))


def _effort(rows: list[dict[str, Any]]) -> Effort:
    starts = [row["attempt_id"] for row in rows if row["event"] == "started"]
    ends = [row for row in rows if row["event"] == "ended"]
    endless = [a for a in starts if a not in {row["attempt_id"] for row in ends}]
    running = sum(a == starts[-1] for a in endless)
    return Effort(
        attempts=len(starts),
        failed=sum(row["outcome"] == "failed" for row in ends),
        interrupted=sum(row["outcome"] == "interrupted" for row in ends),
        killed=len(endless) - running,
        open=running,
        gpu_hours=sum((row["seconds"] or 0) * row["gpus"] for row in ends) / 3600,
        wall_hours=sum(row["seconds"] or 0 for row in ends) / 3600,
    )


def _sum(column: "pa.ChunkedArray[Any]") -> Any:
    return pc.sum(column).as_py() or 0


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
