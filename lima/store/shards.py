"""Immutable Parquet shards of the tables, in a folder an experiment and run.

STORAGE/<table>/<experiment>/<run id>/<shard>.parquet

The names of the folders are no columns (`experiment=E` would be to many readers, with types of
their own making): every shard holds all columns of its table, so that any reader takes a table.
Runs that began when folders were named so are read, and go on, where they are.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import Any, Self
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq

from lima.common.paths import experiment_folders
from lima.errors import DataError
from lima.spec import CellSpec
from lima.spec.codec import run_id, spec_hash
from lima.store.storage import Storage
from lima.store.tables import Table

_KEY = "run_id="
"""Before the run id in the names of older folders."""


def run_folder(table: Table, experiment: str, run: str) -> str:
    """Return the folder of a run's shards of a table."""
    return f"{table.name}/{experiment_folders(experiment)[0]}/{run}"


def older_folder(table: Table, experiment: str, run: str) -> str:
    """Return the folder of a run that began before the names of folders were no keys."""
    return f"{table.name}/{experiment_folders(experiment)[1]}/{_KEY}{run}"


def run_of(path: str) -> str | None:
    """Return the run that a shard's path names; None: it is not in a run's folder."""
    parts = path.split("/")
    return parts[2].removeprefix(_KEY) if len(parts) == 4 else None


def experiment_of(path: str) -> str:
    """Return the experiment that a shard's path names."""
    return unquote(path.split("/")[1].removeprefix("experiment="))


def identity(cell: CellSpec) -> dict[str, Any]:
    """Return the columns that name the run, for every row that `cell` writes."""
    return {
        "run_id": run_id(cell),
        "spec_hash": spec_hash(cell),
        "experiment": cell.experiment,
        "arm": cell.arm,
        "seed": cell.seed,
    }


class RunTable:
    """One run's part of one table."""

    def __init__(self, storage: Storage, table: Table, cell: CellSpec) -> None:
        """Name the part of `table` that the run of `cell` (see `stage_cell`) writes."""
        self._name(storage, table, identity(cell))

    @classmethod
    def of(cls, storage: Storage, table: Table, identity: dict[str, Any]) -> Self:
        """Name the part of `table` of a run that is no cell; `identity` names it."""
        part = cls.__new__(cls)
        part._name(storage, table, identity)
        return part

    def _name(self, storage: Storage, table: Table, identity: dict[str, Any]) -> None:
        self.storage, self.table, self.identity = storage, table, identity

    @cached_property
    def folder(self) -> str:
        """Where the run's shards lie: in the older folder, if the run began there."""
        names = self.table, self.identity["experiment"], self.identity["run_id"]
        older = older_folder(*names)
        return older if self.storage.entries(older) else run_folder(*names)

    def path(self, shard: str) -> str:
        """Return where a shard lies."""
        return f"{self.folder}/{shard}.parquet"

    def shards(self) -> list[str]:
        """Return the names of the shards that exist, sorted."""
        paths = [entry.path for entry in self.storage.entries(self.folder)]
        return [
            p.rsplit("/", 1)[-1].removesuffix(".parquet") for p in paths if p.endswith(".parquet")
        ]

    def has(self, shard: str) -> bool:
        """Say whether a shard exists, and so needs no work."""
        return self.storage.exists(self.path(shard))

    def write(self, shard: str, rows: Sequence[dict[str, Any]], *, replace: bool = False) -> bool:
        """Write rows as one shard, unless it exists. The identity columns are filled in.

        Only what people decide again is ever replaced, arms drawn anew after other picks, and the
        row of a run of training, once, by one that knows more.
        """
        names = set().union(*rows)
        columns = {n: [row.get(n, self.identity.get(n)) for row in rows] for n in names}
        return self.write_columns(shard, columns, len(rows), replace=replace)

    def write_columns(
        self, shard: str, columns: Mapping[str, Sequence[Any]], rows: int, *, replace: bool = False
    ) -> bool:
        """Write columns of so many rows as one shard, as `write` does. This is the faster way."""
        table = pa.Table.from_arrays(
            [
                pa.array(columns[field.name], field.type)
                if field.name in columns
                else pa.repeat(pa.scalar(self.identity.get(field.name), field.type), rows)
                for field in self.table.schema
            ],
            schema=self.table.schema,
        )
        return self.storage.write(self.path(shard), to_parquet(table), replace=replace)

    def read(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows of the run, shard by shard in the order of their names."""
        schema = self.table.schema
        wanted = pa.schema([schema.field(c) for c in columns] if columns else list(schema))
        parts = [self._part(self.path(shard), wanted) for shard in self.shards()]
        return pa.concat_tables(parts) if parts else wanted.empty_table()

    def _part(self, path: str, wanted: pa.Schema) -> pa.Table:
        later = {c.name for c in self.table.columns if c.later}
        part = read_parquet(self.storage, path, wanted.names, later)
        try:
            for name in later.intersection(wanted.names).difference(part.column_names):
                part = part.append_column(name, pa.nulls(len(part), wanted.field(name).type))
            return part.select(wanted.names).cast(wanted)
        except (pa.ArrowException, ValueError) as error:
            raise bad_shard(self.storage, path, str(error).splitlines()[0]) from error


def to_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def read_parquet(
    storage: Storage,
    path: str,
    columns: Sequence[str] | None = None,
    later: Collection[str] = (),
) -> pa.Table:
    """Read one Parquet object.

    Args:
        storage: Where it lies.
        path: Its path there.
        columns: Those to read; None: all.
        later: Columns that files of earlier versions do not have; they are left out there.

    Raises:
        DataError: the file is damaged or lacks columns that its table has.

    """
    data = storage.read_buffer(path)
    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        there = file.schema_arrow.names
        missing = [c for c in columns or () if c not in there and c not in later]
        if not missing:
            read = [c for c in columns if c in there] if columns else None
            return file.read(columns=read, use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise bad_shard(storage, path, str(error).splitlines()[0]) from error
    raise bad_shard(storage, path, f"it has no column {missing[0]!r}")


def bad_shard(storage: Storage, path: str, reason: str) -> DataError:
    """Return the error for a file in a table that is not one of its shards."""
    table = path.split("/", 1)[0]
    return DataError(
        f"{storage.uri}/{path}: not a readable shard of table {table!r} ({reason}); "
        "move it out of the table, then start the command again"
    )
