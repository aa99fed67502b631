"""What a table of a study is made of."""

from dataclasses import dataclass

import pyarrow as pa

TIME = pa.timestamp("us", tz="UTC")


@dataclass(frozen=True)
class Column:
    """A column: its name, its Arrow type and what it means."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    later: bool = False
    """Younger than its table: shards without it are read as nulls."""


@dataclass(frozen=True)
class Table:
    """A table: its name, what a row is, and its columns."""

    name: str
    row: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema, with the meaning of each column in its metadata."""
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning})
                for c in self.columns
            ],
            metadata={"lima_table": self.name},
        )


IDENTITY = (
    Column("run_id", pa.string(), "run that wrote the row: first 16 digits of spec_hash"),
    Column(
        "spec_hash",
        pa.string(),
        "sha256 of the canonical spec of that run, operational fields left out",
    ),
    Column("experiment", pa.string(), "study the run belongs to"),
    Column("arm", pa.string(), "what the cell varies"),
    Column("seed", pa.int64(), "seed of the cell"),
)
"""The columns that name the run, in every table."""


def maybe(name: str, kind: pa.DataType, meaning: str, *, later: bool = False) -> Column:
    """Return a column that may be null."""
    return Column(name, kind, meaning, nullable=True, later=later)
