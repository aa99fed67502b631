"""Reading whole tables of a study: many small shards, a few columns, in threads.

Shards that cannot be read are collected, not raised one by one, so that a user meets all of
them in one message.
"""

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from lima.common.paths import experiment_folders
from lima.errors import DataError, StorageError
from lima.store.shards import run_of
from lima.store.storage import Entry, Storage
from lima.store.tables import Table

T = TypeVar("T")
Holding: TypeAlias = tuple[str, Collection[int]]
WHOLE_BYTES = 1 << 20
"""Up to this size an object of an object store is fetched whole: a request costs more."""
LOCAL_BATCH, REMOTE_BATCH = 128, 16
"""Shards of a run that one thread reads and reduces at a time; a distant one is waited for."""
REMOTE_THREADS = 16
NAMED_FILES = 50
"""Unreadable files that a message names before it only counts."""


class Tables:
    """The tables of a study, or of one experiment in it."""

    def __init__(self, storage: Storage, experiment: str | None = None) -> None:
        """Read from `storage`, only the runs of `experiment` if one is named."""
        self.storage = storage
        self.folders = experiment_folders(experiment) if experiment else ("",)
        self.unreadable: dict[str, str] = {}
        self.threads = (os.cpu_count() or 1) if storage.is_local else REMOTE_THREADS
        self.batch = LOCAL_BATCH if storage.is_local else REMOTE_BATCH

    def everywhere(self) -> "Tables":
        """Return the tables of all experiments; what cannot be read is kept together."""
        found = Tables(self.storage)
        found.unreadable = self.unreadable
        return found

    def read(self, table: Table, columns: Sequence[str]) -> pa.Table:
        """Return some columns of all shards, in the order of their paths."""
        parts = [part for _, part in self.map(table, columns, lambda part: part)]
        # Not schema.empty_table(): it imports pandas where that is installed.
        empty = pa.Table.from_batches([], _Wanted(table, columns).schema)
        return pa.concat_tables([empty, *parts])

    def map(
        self,
        table: Table,
        columns: Sequence[str],
        work: Callable[[pa.Table], T],
        *,
        encoded: Collection[str] = (),
        runs: Collection[str] | None = None,
        holding: Holding | None = None,
    ) -> Iterator[tuple[str, T]]:
        """Yield (run id, `work` of a batch of its shards), in the order of the paths.

        `work` is done in the thread that read the batch, which has rows; only its result is
        kept.

        Args:
            table: which table.
            columns: the columns to read.
            work: what to do with the rows of a batch.
            encoded: columns that are wanted as dictionary arrays.
            runs: only the shards of these runs.
            holding: a column of numbers and some values of it; what can hold none of them, by its
                statistics, is not read.

        Raises:
            StorageError: storage cannot be reached. Shards that cannot be read are kept in
                `unreadable` instead.

        """
        wanted = _Wanted(table, columns, encoded, holding)

        def task(batch: tuple[str, list[Entry]]) -> tuple[str, T] | None:
            run, shards = batch
            part = self._read_batch(shards, wanted, run)
            return (run, work(part)) if part else None

        with ThreadPoolExecutor(self.threads) as pool:
            yield from filter(None, pool.map(task, self._batches(table, runs)))

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

    def _batches(self, table: Table, runs: Collection[str] | None) -> list[tuple[str, list[Entry]]]:
        below = [f"{table.name}/{folder}".rstrip("/") for folder in self.folders]
        entries = [entry for folder in below for entry in self.storage.entries(folder)]
        shards = [e for e in entries if e.path.endswith(".parquet")]
        batches = []
        for run, group in groupby(shards, key=lambda shard: run_of(shard.path)):
            members = list(group)
            if not run:
                misplaced = dict.fromkeys((s.path for s in members), "not in a run's folder")
                self.unreadable.update(misplaced)
            elif runs is None or run in runs:
                starts = range(0, len(members), self.batch)
                batches += [(run, members[i : i + self.batch]) for i in starts]
        return batches

    def _read_batch(self, shards: list[Entry], wanted: "_Wanted", run: str) -> pa.Table | None:
        """Return the rows of some shards; None if there are none."""
        try:
            # All at once is faster; only if something is wrong, find out which shard it is.
            whole = wanted.of(pa.concat_tables([self._load(s, wanted, run) for s in shards]))
        except (pa.ArrowException, OSError, DataError, StorageError):
            parts = [part for s in shards if (part := self._try(s, wanted, run))]
            if not parts:
                return None
            whole = pa.concat_tables(parts)
        return whole if whole.num_rows else None

    def _try(self, shard: Entry, wanted: "_Wanted", run: str) -> pa.Table | None:
        """Return the rows of one shard; None if it is gone or cannot be read, which is kept."""
        try:
            return wanted.of(self._load(shard, wanted, run))
        except (pa.ArrowException, OSError, DataError, StorageError) as error:
            # A run that resumes deletes the rows of work that was lost.
            if isinstance(error, FileNotFoundError) or not self.storage.exists(shard.path):
                return None
            if isinstance(error, StorageError):
                raise
            self.unreadable[shard.path] = str(error).splitlines()[0]
            return None

    def _load(self, shard: Entry, wanted: "_Wanted", run: str) -> pa.Table:
        # Many small reads are one request where each costs a journey, but waste time here.
        distant = not self.storage.is_local
        try:
            with (
                self._open(shard) as source,
                pq.ParquetFile(source, pre_buffer=distant, read_dictionary=wanted.encoded) as file,
            ):
                groups = wanted.groups(file.metadata)
                part = file.read_row_groups(groups, columns=wanted.names, use_threads=False)
                if part.num_rows:
                    _refuse_rows_of_others(file.metadata, run)
        except KeyError as error:  # from read_dictionary, with the name as bytes
            raise _lacking([error.args[0].decode()]) from None
        return part

    def _open(self, shard: Entry) -> pa.NativeFile:
        if not self.storage.is_local and shard.size <= WHOLE_BYTES:
            return pa.BufferReader(self.storage.read_buffer(shard.path))
        return self.storage.open_file(shard.path)


def _refuse_rows_of_others(metadata: pq.FileMetaData, run: str) -> None:
    """Refuse a shard in another run's folder, by the statistics of its first column."""
    first = metadata.row_group(0).column(0)
    if first.path_in_schema != "run_id":
        raise DataError("its first column is not run_id: a file of something else")
    found = first.statistics
    if found is not None and found.has_min_max and {found.min, found.max} != {run}:
        raise DataError(f"rows of run {found.min} in the folder of run {run}")


def _can_hold(group: pq.RowGroupMetaData, name: str, values: Collection[int]) -> bool:
    columns = (group.column(i) for i in range(group.num_columns))
    found = next((c.statistics for c in columns if c.path_in_schema == name), None)
    if found is None or found.min is None or found.max is None:
        return True
    return any(found.min <= value <= found.max for value in values)


def _lacking(columns: Sequence[str]) -> DataError:
    return DataError(f"no column {', '.join(columns)}: a file of something else")


class _Wanted:
    """Some columns of a table, and how they are to come."""

    def __init__(
        self,
        table: Table,
        columns: Sequence[str],
        encoded: Collection[str] = (),
        holding: Holding | None = None,
    ) -> None:
        self.holding = holding
        fields = [table.schema.field(c).remove_metadata() for c in columns]
        self.names = list(columns)
        self.encoded = [name for name in columns if name in encoded]
        self.required = [field.name for field in fields if not field.nullable]
        self.optional = {c.name for c in table.columns if c.later}
        self.schema = pa.schema([self._field(field) for field in fields])

    def of(self, part: pa.Table) -> pa.Table:
        """Return the columns in their order, with the types of the table.

        Raises:
            DataError: one is absent or has nulls, so that this is a file of something else.
            pa.ArrowException: one has a type that cannot become that of the table.

        """
        missing = sorted(set(self.names).difference(part.column_names))
        if not self.optional.issuperset(missing):
            raise _lacking(missing)
        for name in missing:  # written before the table had this column
            part = part.append_column(name, pa.nulls(len(part), self.schema.field(name).type))
        part = part.select(self.names)
        part = part if part.schema.equals(self.schema) else part.cast(self.schema)
        for name in self.required:
            if part[name].null_count:
                raise DataError(f"column {name} has nulls: a file of something else")
        return part

    def groups(self, metadata: pq.FileMetaData) -> list[int]:
        """Return the groups of rows that are to be read."""
        every = list(range(metadata.num_row_groups))
        if self.holding is None:
            return every
        name, values = self.holding
        return [group for group in every if _can_hold(metadata.row_group(group), name, values)]

    def _field(self, field: "pa.Field[Any]") -> "pa.Field[Any]":
        encoded = field.name in self.encoded
        return field.with_type(pa.dictionary(pa.int32(), field.type)) if encoded else field
