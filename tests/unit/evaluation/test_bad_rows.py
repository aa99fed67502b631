"""Rows that nobody should have written: commands say what is wrong, and never break."""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lima.errors import DataError, LimaError
from lima.evaluation.aggregate.table import aggregate_study
from lima.evaluation.agreement.rater_habits import raters_of
from lima.evaluation.agreement.tie_discounted import all_agreements
from lima.evaluation.report.page import render_report
from lima.rating.labels import read_labels
from lima.store.scan import Tables
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import ANNOTATIONS, TABLES
from tests.helpers.paper_shares import IDENTITY, event
from tests.helpers.synthetic import Arm, Study, write_study

TEXTS = ("", "nonsense", "null", "[]", "{}", '{"judge": null}', '{"judge": {}}', "\x1b[2J", "-1")
NUMBERS = (-1, 0, 2**62)
FLOATS = (float("nan"), float("inf"), -1e308)
READ = ("runs", "attempts", "steps", "metrics", "generations", "judgments", "annotations")


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


def one_each(table: str) -> list[tuple[str, Any]]:
    """Return a value for each column of a table, another one from column to column."""
    chosen = []
    for number, column in enumerate(TABLES[table].columns):
        values = values_for(column.type, column.nullable)
        chosen += [(column.name, values[number % len(values)])] if values else []
    return chosen


def made(folder: Path) -> Storage:
    storage = Storage(str(folder))
    write_study(storage, Study((Arm("a"), Arm("b")), seeds=1, prompts=4, samples=1))
    rows = [
        event(
            i,
            kind=kind,
            label=label,
            arm_1="a",
            arm_2=other,
            response_2=other and "y",
            item_id=str(i // 2),
            rater=f"r{i % 2}",
            conversation_id=None,
            turn=None,
        )
        for i, (kind, label, other) in enumerate(
            [("preference", "A", "b")] * 4 + [("absolute", "pass", None)] * 2
        )
    ]
    RunTable.of(storage, ANNOTATIONS, {**IDENTITY, "experiment": "synthetic"}).write("l", rows)
    return storage


def look(storage: Storage) -> None:
    """Do what reads the tables for results; a clear error is as good as an answer."""
    with contextlib.suppress(LimaError):
        aggregate_study(storage, side_by_side=True, note=lambda _: None)
    with contextlib.suppress(LimaError):
        labels = read_labels(Tables(storage))
        all_agreements(labels, "preference", draws=100)
        raters_of(labels)


@contextlib.contextmanager
def written(storage: Storage, table: str, name: str, value: Any) -> Iterator[None]:
    """Have a value in the first row of a table for as long as the block lasts."""
    shard = min(Path(storage.uri).glob(f"{table}/*/*/*.parquet"))
    whole, data = pq.read_table(shard), shard.read_bytes()
    number = whole.schema.get_field_index(name)
    field = whole.schema.field(number)
    column = pa.array([value, *whole[name].to_pylist()[1:]], field.type)
    pq.write_table(whole.set_column(number, field, column), shard)
    try:
        yield
    finally:
        shard.write_bytes(data)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    return made(tmp_path_factory.mktemp("rows"))


@pytest.mark.parametrize("table", READ)
def test_no_value_of_a_column_breaks_what_reads_it(study: Storage, table: str) -> None:
    for name, value in one_each(table):
        with written(study, table, name, value):
            try:
                look(study)
            except Exception as error:
                raise AssertionError(f"{table}.{name} = {value!r}") from error


@pytest.mark.parametrize("spec", ["null", "[]", "-1", "{", '{"judge": 1}', '{"train": "x"}'])
def test_a_spec_that_is_none_is_named(study: Storage, spec: str) -> None:
    with (
        written(study, "runs", "spec", spec),
        pytest.raises(DataError, match=r"runs: run .*: its spec is not that of a run"),
    ):
        aggregate_study(study, note=lambda _: None)


@pytest.mark.parametrize(
    ("name", "value"),
    [("label", "C"), ("label", "tie"), ("kind", "absolute"), ("kind", "other"), ("arm_2", None)],
)
def test_a_label_that_is_none_is_no_tie(study: Storage, name: str, value: str | None) -> None:
    with (
        written(study, "annotations", name, value),
        pytest.raises(DataError, match="is none of the labels of its kind"),
    ):
        read_labels(Tables(study))


@pytest.mark.parametrize(
    ("table", "name", "value"),
    [
        ("generations", "response_tokens", 2**62),
        ("metrics", "value", float("nan")),
        ("judgments", "score", float("inf")),
        ("judgments", "cost", float("nan")),
        ("attempts", "seconds", float("nan")),
        ("generations", "prompt", []),
        ("steps", "loss", float("inf")),
        ("generations", "sample", -1),
        ("generations", "response_tokens", None),
    ],
)
def test_a_report_has_no_numbers_that_are_none(
    study: Storage, table: str, name: str, value: Any
) -> None:
    with written(study, table, name, value):
        page = render_report(study, note=pytest.fail)
    told = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert not re.search(r"\b(nan|inf|NaN)\b", told)
