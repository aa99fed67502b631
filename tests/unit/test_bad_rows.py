"""Rows that nobody should have written: commands say what is wrong, and never break."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.errors import LimaError
from lima.evaluation.aggregate import aggregate_study
from lima.evaluation.agreement import all_agreements
from lima.evaluation.compare import compare_paper
from lima.evaluation.labels import read_labels
from lima.evaluation.raters import raters_of
from lima.evaluation.report import render_report
from lima.evaluation.scan import Tables
from lima.results import ANNOTATIONS, TABLES
from lima.shards import RunTable
from lima.storage import Storage
from tests.paper_shares import IDENTITY, event
from tests.synthetic import Arm, Study, write_study

TEXTS = ("", "nonsense", "null", "[]", "{}", '{"judge": null}', '{"judge": {}}', "\x1b[2J", "-1")
NUMBERS = (-1, 0, 2**62)
FLOATS = (float("nan"), float("inf"), -1e308)
READ = ("runs", "attempts", "steps", "metrics", "generations", "judgments", "items", "annotations")


def values_for(kind: pa.DataType, nullable: bool) -> Sequence[Any]:
    """Return values that a column of a type can hold and that make no sense."""
    nothing: tuple[Any, ...] = (None,) if nullable else ()
    if pa.types.is_string(kind):
        return (*nothing, *TEXTS)
    if pa.types.is_integer(kind):
        return (*nothing, *NUMBERS)
    if pa.types.is_floating(kind):
        return (*nothing, *FLOATS)
    if pa.types.is_list(kind):
        return (*nothing, [])
    return nothing


CASES = [
    (name, column.name)
    for name in READ
    for column in TABLES[name].columns
    if len(values_for(column.type, column.nullable))
]


def made(folder: Path) -> Storage:
    storage = Storage(str(folder))
    write_study(storage, Study((Arm("a"), Arm("b")), seeds=1, prompts=4, samples=1))
    rows = [event(i, kind=kind, label=label, arm_1="a", arm_2=other, response_2=other and "y",
                  item_id=str(i // 2), rater=f"r{i % 2}", conversation_id=None, turn=None)
            for i, (kind, label, other) in enumerate(
                [("preference", "A", "b")] * 4 + [("absolute", "pass", None)] * 2)]  # fmt: skip
    RunTable.of(storage, ANNOTATIONS, {**IDENTITY, "experiment": "synthetic"}).write("l", rows)
    return storage


def look(storage: Storage) -> None:
    """Do all that reads results; a clear error is as good as an answer."""
    with contextlib.suppress(LimaError):
        aggregate_study(storage, note=lambda _: None)
    with contextlib.suppress(LimaError):
        aggregate_study(storage, side_by_side=True, note=lambda _: None)
    with contextlib.suppress(LimaError):
        labels = read_labels(Tables(storage))
        all_agreements(labels, "preference", draws=100)
        raters_of(labels)
    with contextlib.suppress(LimaError):
        compare_paper(storage, draws=100, note=lambda _: None)
    with contextlib.suppress(LimaError):
        page = render_report(storage, note=lambda _: None)
        assert ">nan" not in page
        assert "nan<" not in page


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return made(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("table", READ)
def test_no_value_of_a_column_breaks_what_reads_it(study: Storage, table: str) -> None:
    shards = sorted(Path(study.uri).glob(f"{table}/*/*/*.parquet"))
    assert shards or table == "items"
    for shard in shards[:1]:
        whole, data = pq.read_table(shard), shard.read_bytes()
        for name in (column for of, column in CASES if of == table):
            field = TABLES[table].schema.field(name)
            for value in values_for(field.type, field.nullable):
                column = pa.array([value, *whole[name].to_pylist()[1:]], field.type)
                number = whole.schema.get_field_index(name)
                pq.write_table(whole.set_column(number, field, column), shard)
                try:
                    look(study)
                except Exception as error:
                    raise AssertionError(f"{table}.{name} = {value!r}") from error
                finally:
                    shard.write_bytes(data)
