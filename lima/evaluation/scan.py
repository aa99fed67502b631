"""Reading whole tables of a study: many small shards, a few columns, in threads.

Shards that cannot be read are collected, not raised one by one, so that a user meets all of
them in one message.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from lima.errors import DataError
from lima.results import Table
from lima.storage import Entry, Storage

WHOLE_BYTES = 1 << 20
"""Up to this size an object of an object store is fetched whole: a request costs more."""
BATCH = 32
"""Shards of a run that one thread reads and reduces at a time."""
REMOTE_THREADS = 16
NAMED_FILES = 50
"""Unreadable files that a message names before it only counts."""


class Tables:
    """The tables of a study, or of one experiment in it."""

    def __init__(self, storage: Storage, experiment: str | None = None) -> None:
        """Read from `storage`, only the runs of `experiment` if one is named."""
        self.storage = storage
        self.below = f"/experiment={quote(experiment, safe='')}" if experiment else ""
        self.unreadable: dict[str, str] = {}
        self.threads = (os.cpu_count() or 1) if storage.is_local else REMOTE_THREADS

    def read(self, table: Table, columns: Sequence[str], runs: set[str] | None = None) -> pa.Table:
        """Return some columns of all shards (of some runs), in the order of their paths."""
        parts = [part for _, part in self.map(table, columns, lambda part: part, runs)]
        return pa.concat_tables([_schema(table, columns).empty_table(), *parts])

    def map(
        self,
        table: Table,
        columns: Sequence[str],
        work: Callable[[pa.Table], pa.Table],
        runs: set[str] | None = None,
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield (run id, `work` of a batch of its shards) in the order of the paths."""
        schema = _schema(table, columns)

        def task(batch: tuple[str, list[Entry]]) -> tuple[str, pa.Table]:
            run, shards = batch
            parts = [schema.empty_table()]
            for shard in shards:
                try:
                    parts.append(self._load(shard, schema, run))
                except (pa.ArrowException, OSError, DataError) as error:
                    self.unreadable[shard.path] = str(error).splitlines()[0]
            return run, work(pa.concat_tables(parts))

        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(task, self._batches(table, runs))

    def reduce(
        self, table: Table, keys: Sequence[str], sums: Sequence[str] = ()
    ) -> dict[str, pa.Table]:
        """Return, for each run, one row a combination of `keys`: `n` rows, and sums of columns.

        Shards are reduced as they are read, so that memory is that of the answer.
        """
        columns = [*keys, *sums]
        first = [([], "count_all"), *((c, "sum") for c in sums)]
        again = [(c, "sum") for c in ("n", *sums)]

        def partial(part: pa.Table) -> pa.Table:
            return _grouped(part, keys, first, ["n", *sums])

        parts = self.map(table, columns, partial)
        return {
            run: _grouped(pa.concat_tables(p for _, p in group), keys, again, ["n", *sums])
            for run, group in groupby(parts, key=lambda item: item[0])
        }

    def require_readable(self) -> None:
        """Raise one error for all shards that could not be read.

        Raises:
            DataError: there are some; the message names each, why, and what to do.

        """
        if self.unreadable:
            raise DataError(
                f"{self.describe_unreadable()}\nMove them out of the tables, or leave them out "
                "with --skip-unreadable."
            )

    def describe_unreadable(self) -> str:
        """Return the unreadable shards and why, a line each."""
        bad = sorted(self.unreadable.items())
        lines = [f"  {self.storage.uri}/{path}: {why}" for path, why in bad[:NAMED_FILES]]
        if len(bad) > NAMED_FILES:
            lines.append(f"  and {len(bad) - NAMED_FILES} more")
        files = "1 file" if len(bad) == 1 else f"{len(bad)} files"
        return "\n".join([f"{files} cannot be read as shards of the tables they lie in:", *lines])

    def _batches(self, table: Table, runs: set[str] | None) -> list[tuple[str, list[Entry]]]:
        entries = self.storage.entries(table.name + self.below)
        shards = [e for e in entries if e.path.endswith(".parquet")]
        batches = []
        for run, group in groupby(shards, key=lambda shard: _run_of(shard.path)):
            members = list(group)
            if not run:
                misplaced = dict.fromkeys((s.path for s in members), "not in a run's folder")
                self.unreadable.update(misplaced)
            elif runs is None or run in runs:
                batches += [(run, members[i : i + BATCH]) for i in range(0, len(members), BATCH)]
        return batches

    def _load(self, shard: Entry, schema: pa.Schema, run: str) -> pa.Table:
        """Return the columns of `schema` of one shard."""
        wanted = [c for c in schema.names if c != "run_id"]
        with self._open(shard) as source, pq.ParquetFile(source, pre_buffer=True) as file:
            part = file.read(columns=wanted, use_threads=False)
            _refuse_foreign(file, part, wanted, run)
        if "run_id" in schema.names:
            part = part.append_column("run_id", pa.repeat(pa.scalar(run), part.num_rows))
        part = part.select(schema.names)
        return part if part.schema.equals(schema) else part.cast(schema)

    def _open(self, shard: Entry) -> pa.NativeFile:
        if not self.storage.is_local and shard.size <= WHOLE_BYTES:
            return pa.BufferReader(self.storage.read(shard.path))
        return self.storage.filesystem.open_input_file(self.storage.full_path(shard.path))


def _run_of(path: str) -> str | None:
    """Return the run a shard belongs to: TABLE/experiment=E/run_id=R/SHARD.parquet."""
    parts = path.split("/")
    is_shard = len(parts) == 4 and parts[2].startswith("run_id=")
    return parts[2].removeprefix("run_id=") if is_shard else None


def _refuse_foreign(file: pq.ParquetFile, part: pa.Table, wanted: list[str], run: str) -> None:
    """Refuse a file that lacks columns, or whose rows are of another run than its folder's."""
    missing = [c for c in wanted if c not in part.column_names]
    if missing:
        raise DataError(f"no column {', '.join(missing)}: a file of something else")
    if not part.num_rows:
        return
    # The statistics say whose rows these are without reading the column.
    first = file.metadata.row_group(0).column(0)
    if first.path_in_schema != "run_id":
        raise DataError("its first column is not run_id: a file of something else")
    found = first.statistics
    if found is not None and found.has_min_max and {found.min, found.max} != {run}:
        raise DataError(f"rows of run {found.min} in the folder of run {run}")


def _schema(table: Table, columns: Sequence[str]) -> pa.Schema:
    schema = table.schema
    return pa.schema([schema.field(c).remove_metadata() for c in columns])


def _grouped(
    part: pa.Table, keys: Sequence[str], aggregates: Sequence[Any], names: Sequence[str]
) -> pa.Table:
    # One thread: the pool's threads are busy with the next shards.
    grouped = part.group_by(list(keys), use_threads=False).aggregate(aggregates)
    return grouped.rename_columns([*keys, *names])
