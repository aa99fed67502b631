"""Tables as readers that are not ours find them: whole, by their folder, without options."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.store.scan import Tables
from lima.store.shards import RunTable, older_folder, to_parquet
from lima.store.storage import Storage
from lima.store.tables import RUNS, TABLES, Table
from tests.conftest import ROOT

NAMES = ["2024", "2024-01-01", "1e5", "true", "null", "_made", ".hidden", "..", "a b/ü=ö%", "plain"]
"""Experiments that readers would take for numbers, dates, hidden folders, or keys."""
RUN_IDS = ["0123456789012345", "12345678e0123456", "00ab00ab00ab00ab"]
VALUES: dict[pa.DataType, Any] = {
    pa.string(): "ü",
    pa.int64(): 2**40,
    pa.float64(): 0.5,
    pa.bool_(): True,
    pa.timestamp("us", tz="UTC"): datetime(2026, 3, 2, tzinfo=UTC),
    pa.list_(pa.string()): ["a", "b"],
    pa.list_(pa.int32()): [1, 2],
    pa.map_(pa.string(), pa.float64()): [("a", 0.5)],
    pa.map_(pa.string(), pa.string()): [("a", "ü")],
}
Reader = Callable[[Path], list[tuple[str, str]]]
"""A table's folder to `(experiment, run_id)` of every row."""


def with_duckdb(folder: Path) -> list[tuple[str, str]]:
    query = f"select * from '{folder}/**/*.parquet'"
    found = duckdb.sql(query)
    assert found is not None
    return [(row["experiment"], row["run_id"]) for row in found.to_arrow_table().to_pylist()]


READERS: dict[str, Reader] = {
    "pandas": lambda f: list(
        pd.read_parquet(f)[["experiment", "run_id"]].itertuples(index=False, name=None)
    ),
    "pyarrow": lambda f: [(r["experiment"], r["run_id"]) for r in pq.read_table(f).to_pylist()],
    "duckdb": with_duckdb,
    "polars": lambda f: pl.read_parquet(f).select("experiment", "run_id").rows(),
    "polars of files": lambda f: (
        pl.read_parquet(f"{f}/**/*.parquet").select("experiment", "run_id").rows()
    ),
    "ours": lambda f: [
        (r["experiment"], r["run_id"])
        for r in Tables(Storage(str(f.parent)))
        .read(TABLES[f.name], ["experiment", "run_id"])
        .to_pylist()
    ],
}


def identity(experiment: str, run: str) -> dict[str, Any]:
    return {"experiment": experiment, "run_id": run, "spec_hash": run, "arm": "a", "seed": 0}


def a_row(table: Table, number: int) -> dict[str, Any]:
    """Return a row; of every second one all that may be null is."""
    columns = [c for c in table.columns if not (c.nullable and number % 2)]
    return {c.name: VALUES[c.type] for c in columns if c.name not in identity("", "")}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    """Two shards of every table, experiment and run."""
    storage = Storage(str(tmp_path_factory.mktemp("tables")))
    for table in TABLES.values():
        for experiment in NAMES:
            for run in RUN_IDS:
                part = RunTable.of(storage, table, identity(experiment, run))
                for shard in range(2):
                    part.write(f"s{shard}", [a_row(table, shard)])
    return storage


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("table", TABLES)
def test_a_table_is_read_by_its_folder(storage: Storage, table: str, reader: str) -> None:
    rows = READERS[reader](Path(storage.root) / table)

    assert sorted(rows) == sorted((e, r) for e in NAMES for r in RUN_IDS for _ in range(2))


def test_one_experiment_is_a_folder_of_the_table(storage: Storage) -> None:
    for name in NAMES:
        found = Tables(storage, name).read(RUNS, ["experiment"])["experiment"].to_pylist()
        assert found == [name] * 2 * len(RUN_IDS)


def test_runs_of_before_are_read_and_go_on_where_they_are(tmp_path: Path) -> None:
    storage, names = Storage(str(tmp_path)), identity("2024", RUN_IDS[0])
    older = older_folder(RUNS, "2024", RUN_IDS[0])
    assert older == f"runs/experiment=2024/run_id={RUN_IDS[0]}"
    first = pa.Table.from_pylist([{**a_row(RUNS, 0), **names}], schema=RUNS.schema)
    storage.write(f"{older}/first.parquet", to_parquet(first))

    table = RunTable.of(storage, RUNS, names)
    table.write("second", [a_row(RUNS, 0)])
    RunTable.of(storage, RUNS, identity("2024", RUN_IDS[1])).write("third", [a_row(RUNS, 0)])

    assert table.shards() == ["first", "second"]
    assert table.has("first")
    assert len(table.read()) == 2
    for experiment in (None, "2024"):
        rows = Tables(storage, experiment).read(RUNS, ["run_id"])
        assert sorted(map(str, rows["run_id"].to_pylist())) == [*[RUN_IDS[0]] * 2, RUN_IDS[1]]


COUNTED = """
import os, sys, time
import pyarrow as pa
import pyarrow.parquet as pq
from lima.curation.candidates.table import CandidateStore
from lima.store.scan import Tables
from lima.store.tables import CANDIDATES, JUDGMENTS
from lima.store.shards import RunTable, read_parquet
from lima.store.storage import Storage
from tests.conftest import ROOT

storage = Storage(sys.argv[1])
# The one thread that reads from disks holds nothing of Python's.
pa.set_io_thread_count(1)
with storage.filesystem.open_input_file(storage.full_path(storage.entries("runs")[0].path)) as file:
    pq.ParquetFile(file).read(use_threads=False)
before = set(os.listdir("/proc/self/task"))
names = {"experiment": "plain", "run_id": sys.argv[2], "spec_hash": "", "arm": "", "seed": 0}
table = RunTable.of(storage, CANDIDATES, names)
store = CandidateStore.__new__(CandidateStore)
store.storage, store.table = storage, table
for _ in range(3):
    assert len(table.read()) == 2
    assert len(store.open("s0")) == 1
    assert len(read_parquet(storage, table.path("s1"))) == 1
    reader = Tables(storage)
    assert len(reader.read(JUDGMENTS, ["run_id", "score"]))
for _ in range(100):  # a thread of Python's that has ended is listed for a moment more
    left = set(os.listdir("/proc/self/task")) - before
    if not left:
        break
    time.sleep(0.1)
print(len(left))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_reading_starts_no_thread_that_outlives_it(storage: Storage) -> None:
    """One that frees what is Python's while the interpreter ends aborts the process."""
    command = [sys.executable, "-c", COUNTED, storage.root, RUN_IDS[2]]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "0\n"


def test_nothing_else_reads_parquet_in_threads() -> None:
    for room in ("lima", "jobs", "k8s"):
        for path in (ROOT / room).rglob("*.py"):
            text = path.read_text("utf-8")
            readers = text.count("ParquetFile(") + text.count("read_table(")
            assert text.count("use_threads=False") == readers, path
            assert not {"BytesIO", "py_buffer"} & set(re.findall(r"\w+", text)) or not readers, path
