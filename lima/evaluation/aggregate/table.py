"""A study's results as one row a cell, or a group of cells (section 5).

A failed judgment is never a score: it is counted by its status, and the bounds say what it
could change. Null means not known yet or not asked for; it is never written as zero.
"""

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from lima.errors import InputError
from lima.evaluation.aggregate.columns import (
    AGAINST,
    BEFORE_JUDGES,
    BY,
    DEFAULT_BY,
    MEASURES,
    OF_PAIRS,
)
from lima.evaluation.cells import origins
from lima.evaluation.cells.lines import Judging, judges_of
from lima.evaluation.cells.measures import Results, read_results, summarise
from lima.evaluation.cells.settings import differing
from lima.evaluation.labels.contests import CONTEST, contest_rows, read_lengths
from lima.evaluation.labels.label_shares import read_labelled
from lima.evaluation.labels.share_tables import chat_rows, rate_rows
from lima.rating.dialogues import STAGE as CHAT_STAGE
from lima.rating.labels import read_labels
from lima.runs.lineage import Chain, read_chains
from lima.spec import STAGES, Stage
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS

logger = logging.getLogger(__name__)
Note = Callable[[str], None]


@dataclass(frozen=True)
class Aggregated:
    """All that is said of a study, as plain values.

    Args:
        rows: of cells, with the columns of `MEASURES`; of pairs where they are asked for.
        pairs: of every pair of arms that people or a judge compared (`CONTEST`).
        labels: shares of labels, of single responses too.
        conversations: runs of conversations.

    """

    rows: Sequence[dict[str, Any]]
    pairs: Sequence[dict[str, Any]] = ()
    labels: Sequence[dict[str, Any]] = ()
    conversations: Sequence[dict[str, Any]] = ()


def aggregate(
    storage: Storage,
    by: Sequence[str] = DEFAULT_BY,
    *,
    experiment: str | None = None,
    skip_unreadable: bool = False,
    note: Note = logger.warning,
) -> pa.Table:
    """Return one row for each combination of `by`, with the columns of `MEASURES`.

    By default a row is one cell, so that two specs of one arm and seed stay apart. Grouped by
    `source`, what belongs to whole runs (training, attempts, hours) is null. With `against` a row
    is a pair of arms that were compared, with the columns of `CONTEST`.

    Args:
        storage: the study, finished or still running.
        by: names from `BY`.
        experiment: only this experiment.
        skip_unreadable: leave out shards that cannot be read, and say so, instead of raising.
        note: called with each message that a reader of the table should see.

    Raises:
        InputError: an unknown column or experiment.
        DataError: no runs, or shards that cannot be read (all are named).
        StorageError: storage cannot be reached.

    """
    rows = aggregate_rows(
        storage, by, experiment=experiment, skip_unreadable=skip_unreadable, note=note
    )
    columns = [*(c for name in by for c in BY if c.name == name), *MEASURES]
    if AGAINST in by:
        columns = list(CONTEST)
    fields = [pa.field(c.name, c.type, metadata={"meaning": c.meaning}) for c in columns]
    return pa.Table.from_pylist(rows, schema=pa.schema(fields))


def aggregate_rows(
    storage: Storage,
    by: Sequence[str] = DEFAULT_BY,
    *,
    experiment: str | None = None,
    skip_unreadable: bool = False,
    note: Note = logger.warning,
) -> list[dict[str, Any]]:
    """Return the rows of `aggregate` as plain values; errors are the same."""
    return list(
        aggregate_study(
            storage, by, experiment=experiment, skip_unreadable=skip_unreadable, note=note
        ).rows
    )


def aggregate_study(
    storage: Storage,
    by: Sequence[str] = DEFAULT_BY,
    *,
    experiment: str | None = None,
    skip_unreadable: bool = False,
    note: Note = logger.warning,
    side_by_side: bool = False,
) -> Aggregated:
    """Return all that is said of a study; arguments and errors are those of `aggregate`.

    With `side_by_side`, cells that differ in their judges alone share a row, and where several
    judges gave scores, its `judges` has the measures of each by its label.
    """
    _refuse_unknown(by)
    tables = Tables(storage, experiment)
    chains = read_chains(tables)
    results = read_results(tables)
    labelled = read_labelled(tables, read_labels(tables))
    pairs = contest_rows(labelled, read_lengths(tables, labelled.labels))
    report_unreadable(tables, skip_unreadable, note)
    _mention_left_out(tables, results.strangers(chains), note)
    come_from = origins.read_origins(tables)
    for text in [*origins.notes(come_from, chains), origins.unknown(come_from, chains)]:
        if text:
            note(text)
    judges = judges_of(chains) if side_by_side else None
    rows = pairs if AGAINST in by else _full_rows(_rows(results, chains, by, note, judges), by)
    return Aggregated(rows, pairs, _told(rate_rows(labelled, {})), chat_rows(labelled))


def _full_rows(rows: Iterable[dict[str, Any]], by: Sequence[str]) -> list[dict[str, Any]]:
    """Return rows with a null for what they do not have, and for what is not finite."""
    empty = dict.fromkeys((*by, *(column.name for column in MEASURES)))
    return [{name: _finite(value) for name, value in {**empty, **row}.items()} for row in rows]


def _told(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return shares of labels by the names of what they are."""
    names = ("count", "share", "low", "high", "bound_low", "bound_high")
    return [
        {
            **row,
            "shares": {
                label: dict(zip(names, values, strict=True)) for label, *values in row["shares"]
            },
        }
        for row in rows
    ]


def _mention_left_out(tables: Tables, runs: Sequence[str], note: Note) -> None:
    """Say which rows are of no cell: of conversations, or of runs that nobody wrote down."""
    if not runs:
        return
    rows = tables.read(RUNS, ["run_id", "stage"]).to_pylist()
    chats = [r["run_id"] for r in rows if r["run_id"] in runs and r["stage"] == CHAT_STAGE]
    strangers = [run for run in runs if run not in chats]
    if chats:
        note(f"left out: answers in conversations, which are in the report: {', '.join(chats)}")
    if strangers:
        note(f"left out: rows of runs that table `runs` does not have: {', '.join(strangers)}")


def _finite(value: Any) -> Any:
    """Return a value as JSON can hold it; the perplexity of a model that diverged is infinite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _refuse_unknown(by: Sequence[str]) -> None:
    known = [column.name for column in BY]
    for name in by:
        if name not in known:
            raise InputError(f"--by {name}: no such column; choose from {', '.join(known)}")
        if list(by).count(name) > 1:
            raise InputError(f"--by {name}: named twice")
        if AGAINST in by and name not in OF_PAIRS:
            raise InputError(
                f"--by {name}: a pair of arms has none; --by {AGAINST} goes with "
                f"{', '.join(sorted(OF_PAIRS))}"
            )


def report_unreadable(tables: Tables, skip: bool, note: Note) -> None:
    """Raise for shards that could not be read, or say that they were left out.

    Raises:
        DataError: there are some, and they must not be skipped.

    """
    if not skip:
        tables.require_readable()
    elif tables.unreadable:
        note(f"left out: {tables.describe_unreadable()}")


def grouped(
    chains: Iterable[Chain], key: Callable[[Chain], tuple[Any, ...]]
) -> dict[tuple[Any, ...], list[Chain]]:
    """Return the chains by `key`, in the order in which keys first appear."""
    groups: dict[tuple[Any, ...], list[Chain]] = {}
    for chain in chains:
        groups.setdefault(key(chain), []).append(chain)
    return groups


def _rows(
    results: Results,
    chains: list[Chain],
    by: Sequence[str],
    note: Note,
    judges: Sequence[Judging] | None,
) -> list[dict[str, Any]]:
    """Return the rows of groups of cells; `judges` stand side by side, if they are given."""
    of_runs = [name for name in by if name != "source"]
    stages = STAGES if judges is None else BEFORE_JUDGES
    rows = []
    for key, members in grouped(chains, lambda c: tuple(c.label[n] for n in of_runs)).items():
        named = dict(zip(of_runs, key, strict=True))
        _mention_merged(named, members, note, stages)
        sources = results.sources(members) if "source" in by else [None]
        rows += [
            {
                **named,
                **_source(by, s),
                **summarise(results, members, s),
                **_of_each(results, members, s, judges or ()),
            }
            for s in sources
        ]
    return sorted(rows, key=lambda row: [_sortable(row[name]) for name in by])


def _of_each(
    results: Results, members: Sequence[Chain], source: str | None, judges: Sequence[Judging]
) -> dict[str, Any]:
    """Return the measures of a row by each of several judges."""
    if len(judges) < 2:
        return {}
    found = {j.label: [chain for chain in members if chain in j.chains] for j in judges}
    return {"judges": {k: summarise(results, mine, source) for k, mine in found.items()}}


def _mention_merged(
    named: dict[str, Any], members: list[Chain], note: Note, stages: Sequence[Stage]
) -> None:
    """Say so when a row merges cells of one arm that were run with different settings."""
    for (experiment, arm), same in grouped(members, lambda c: (c.experiment, c.arm)).items():
        different = differing(same, stages)
        if different:
            where = ", ".join(f"{k}={v}" for k, v in named.items()) or f"{experiment}, {arm}"
            what = "; ".join(
                f"{p}: {' / '.join(sorted(map(str, v)))}" for p, v in different.items()
            )
            note(
                f"{where}: {len(same)} cells of arm {arm!r} with different settings are merged "
                f"({what}); add --by run_id to keep them apart"
            )


def _source(by: Sequence[str], source: str | None) -> dict[str, str | None]:
    return {"source": source} if "source" in by else {}


def _sortable(value: Any) -> tuple[bool, Any]:
    return (value is None, 0 if value is None else value)
