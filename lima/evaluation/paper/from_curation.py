"""What curation's tables say of table 1 and section 2.1: counts, lengths, categories, exchanges."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from lima.curation.card.table1 import Counter, token_counter
from lima.curation.sources.kinds import resolved
from lima.curation.stackexchange.sites import POOL
from lima.evaluation.statistics.tallies import different_pairs
from lima.spec import CellSpec, reading_cell
from lima.spec.codec import decode, run_id
from lima.store.scan import Tables
from lima.store.tables import CANDIDATES, EXAMPLES, RUNS

GROUPS = {
    "STEM": ("stem",),
    "other": ("other",),
    "dropped": ("dropped",),
    "all": ("stem", "other", "dropped"),
}
"""The paper's words for the sets of exchanges, and ours."""


class Taken(NamedTuple):
    """An example that a data set took."""

    run_id: str
    data_set: str
    pool: str
    category: str
    prompt: int | None = None
    """Tokens of the user's utterances; None: not counted."""
    response: int | None = None
    """Tokens of the assistant's utterances; None: not counted, or there are none."""


@dataclass(frozen=True)
class Curated:
    """The runs of curation of a study.

    Args:
        specs: the spec of each run.
        taken: the examples of the data sets.
        exchanges: how many exchanges each run read of each pool.
        uncounted: why there are no lengths.

    """

    specs: Sequence[dict[str, Any]] = ()
    taken: Sequence[Taken] = ()
    exchanges: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    uncounted: str = "no run of curation"

    def of(self, data_set: str, pools: Collection[str]) -> list[list[Taken]]:
        """Return what a data set took from some pools, by run of curation."""
        by_run: dict[str, list[Taken]] = {}
        for row in self.taken:
            if row.data_set == data_set and row.pool in pools:
                by_run.setdefault(row.run_id, []).append(row)
        return list(by_run.values())

    def exchanges_of(self, group: str) -> list[int]:
        """Return how many exchanges of a set each run read; runs that read none are left out."""
        pools = [POOL.format(name) for name in GROUPS[group]]
        sizes = [sum(found.get(pool, 0) for pool in pools) for found in self.exchanges.values()]
        return [size for size in sizes if size]


def read_curated(tables: Tables, lengths: Collection[str], tokenizer: str | None = None) -> Curated:
    """Read what curation wrote.

    Args:
        tables: the study.
        lengths: the data sets whose examples are measured.
        tokenizer: what to count with; None: what each run of curation names, if it is here.

    Raises:
        ModelError: the tokenizer that is named cannot be loaded.

    """
    rows = tables.read(RUNS, ["run_id", "stage", "spec"]).to_pylist()
    specs = {r["run_id"]: json.loads(r["spec"]) for r in rows if r["stage"] == "curate"}
    if not specs:
        return Curated()
    counters, why = _counters(specs, tokenizer)
    taken = [
        row
        for run, spec in specs.items()
        for row in _taken(tables, run, counters.get(run), lengths)
    ]
    return Curated(list(specs.values()), taken, _exchanges(tables, specs), why)


def _counters(
    specs: Mapping[str, dict[str, Any]], named: str | None
) -> tuple[dict[str, Counter], str]:
    """Return what counts tokens, by run; and why some runs have nothing."""
    if named:
        return dict.fromkeys(specs, token_counter(named)), ""
    found: dict[str, Counter] = {}
    why = ""
    for run, spec in specs.items():
        cell = decode(CellSpec, spec)
        name = cell.curate and cell.curate.assembly.tokenizer
        path = resolved(name, cell.curate) if cell.curate and name else ""
        if not name:
            why = f"run {run} of curation names no tokenizer; name one with --tokenizer"
        elif "://" in path or not Path(path).expanduser().exists():
            why = f"the tokenizer {name} is not on this machine; name one with --tokenizer"
        else:
            found[run] = token_counter(path)
    return found, why


def _taken(
    tables: Tables, run: str, count: Counter | None, lengths: Collection[str]
) -> list[Taken]:
    columns = ["data_set", "pool", "category", "line", *(["conversation"] if count else [])]

    def work(part: pa.Table) -> list[Taken]:
        rows = [row for row in part.to_pylist() if row["line"] is not None]
        plain = [Taken(run, r["data_set"], r["pool"], r["category"]) for r in rows]
        if count is None:
            return plain
        return [
            new._replace(
                prompt=_tokens(row["conversation"][::2], count),
                response=_tokens(row["conversation"][1::2], count),
            )
            if new.data_set in lengths
            else new
            for new, row in zip(plain, rows, strict=True)
        ]

    return [row for _, part in tables.map(EXAMPLES, columns, work, runs={run}) for row in part]


def _tokens(texts: Sequence[str], count: Counter) -> int | None:
    return sum(count(texts)) if texts else None


def _exchanges(tables: Tables, specs: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, int]]:
    """Return how many exchanges each run read, by pool."""
    columns = ["pool", "source"]

    def work(part: pa.Table) -> set[tuple[str, str]]:  # by codes: there may be millions of rows
        return different_pairs(part["pool"], part["source"])

    read = {run: run_id(reading_cell(decode(CellSpec, spec))) for run, spec in specs.items()}
    found: dict[str, set[tuple[str, str]]] = {}
    runs = set(read.values())
    for run, pairs in tables.map(CANDIDATES, columns, work, encoded=columns, runs=runs):
        found.setdefault(run, set()).update(pairs)
    return {run: _sizes(found[own]) for run, own in read.items() if own in found}


def _sizes(pairs: Collection[tuple[str, str]]) -> dict[str, int]:
    pools = {pool for pool, _ in pairs}
    return {pool: sum(p == pool for p, _ in pairs) for pool in pools}
