"""Responses as the field's evaluators read them.

jsonl         ARM.jsonl: conversations with roles, a line each
alpaca-eval   ARM.json: what `alpaca_eval --model_outputs` takes
mt-bench      question.jsonl and model_answer/ARM.jsonl, as FastChat's llm_judge lays them out
hf            data/ARM.parquet and README.md: what `datasets.load_dataset(FOLDER, ARM)` opens
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pyarrow.parquet as pq

from lima.errors import DataError, InputError
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS

COLUMNS = [
    "run_id",
    "experiment",
    "arm",
    "seed",
    "prompt_key",
    "prompt_index",
    "sample",
    "source",
    "prompt",
    "response",
    "finish_reason",
    "generation_key",
    "at",
]
Row = dict[str, Any]


@dataclass(frozen=True)
class Responses:
    """The responses of one run of generation, in the order of its prompts."""

    name: str
    rows: Sequence[Row]


@dataclass(frozen=True)
class Written:
    """A file that was written, how many responses it holds, and how many it could not hold."""

    path: Path
    responses: int
    left_out: int = 0


def read_all(
    storage: Storage, arms: Sequence[str] = (), experiment: str | None = None
) -> list[Responses]:
    """Return the responses of all runs of generation, by name.

    A name is the arm; with its seed, or its run, where that alone tells two apart.

    Args:
        storage: Of a study.
        arms: Only these; none: all.
        experiment: Only this one.

    Raises:
        DataError: there are none, not of an arm that is named, or they cannot be read.

    """
    tables = Tables(storage, experiment)
    found: dict[str, list[Row]] = {}
    for run, part in tables.map(GENERATIONS, COLUMNS, lambda batch: batch.to_pylist()):
        found.setdefault(run, []).extend(part)
    tables.require_readable()
    known = sorted({rows[0]["arm"] for rows in found.values()})
    if missing := sorted({*arms} - {*known}):
        raise DataError(
            f"{storage.uri}: no responses of {', '.join(missing)}; there are responses of "
            f"{', '.join(known) or 'no arm'}"
        )
    runs = [rows for rows in found.values() if not arms or rows[0]["arm"] in arms]
    if not runs:
        raise DataError(f"{storage.uri}: no responses there; generate some first")
    return sorted(_named(runs), key=lambda responses: responses.name)


def _named(runs: Sequence[list[Row]]) -> list[Responses]:
    """Name each run by as much as tells it apart."""
    ways: tuple[Callable[[Row], str], ...] = (
        lambda row: row["arm"],
        lambda row: f"{row['arm']}-seed{row['seed']}",
        lambda row: f"{row['arm']}-{row['run_id']}",
    )
    names = next(n for way in ways if len(set(n := [way(rows[0]) for rows in runs])) == len(runs))
    ordered = [sorted(rows, key=lambda r: (r["prompt_index"], r["sample"])) for rows in runs]
    return [Responses(name, rows) for name, rows in zip(names, ordered, strict=True)]


def export(responses: Sequence[Responses], folder: Path, layout: str) -> list[Written]:
    """Write responses to a folder in one of `LAYOUTS`; files there of the same names are replaced.

    Raises:
        InputError: the folder cannot be written.

    """
    try:
        return LAYOUTS[layout](responses, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror})") from None


def _jsonl(responses: Sequence[Responses], folder: Path) -> list[Written]:
    return [
        _lines(folder / _file(run, "jsonl"), [_conversation(row) for row in run.rows])
        for run in responses
    ]


def _conversation(row: Row) -> Row:
    turns = [*row["prompt"], row["response"]]
    names = ("arm", "seed", "run_id", "prompt_key", "sample", "source", "finish_reason")
    return {
        "messages": [
            {"role": "assistant" if at % 2 else "user", "content": text}
            for at, text in enumerate(turns)
        ],
        **{name: row[name] for name in names},
    }


def _alpaca_eval(responses: Sequence[Responses], folder: Path) -> list[Written]:
    written = []
    for run in responses:
        # AlpacaEval knows one instruction and one output.
        kept = [row for row in run.rows if row["sample"] == 0 and len(row["prompt"]) == 1]
        entries = [
            {
                "instruction": row["prompt"][0],
                "output": row["response"],
                "generator": run.name,
                "dataset": row["source"],
            }
            for row in kept
        ]
        path = folder / _file(run, "json")
        _write(path, json.dumps(entries, ensure_ascii=False, indent=1).encode())
        written.append(Written(path, len(kept), len(run.rows) - len(kept)))
    return written


def _mt_bench(responses: Sequence[Responses], folder: Path) -> list[Written]:
    asked: dict[str, Row] = {}
    for row in (row for run in responses for row in run.rows):
        asked.setdefault(row["prompt_key"], row)
    numbers = {key: number for number, key in enumerate(asked, start=1)}
    questions = [
        {"question_id": numbers[key], "category": row["source"], "turns": row["prompt"][::2]}
        for key, row in asked.items()
    ]
    _lines(folder / "question.jsonl", questions)
    answers = folder / "model_answer"
    return [
        _lines(answers / _file(run, "jsonl"), list(_answers(run, numbers)), len(run.rows))
        for run in responses
    ]


def _answers(run: Responses, numbers: dict[str, int]) -> Iterable[Row]:
    by_prompt: dict[str, list[Row]] = {}
    for row in run.rows:
        by_prompt.setdefault(row["prompt_key"], []).append(row)
    for key, rows in by_prompt.items():
        yield {
            "question_id": numbers[key],
            "answer_id": rows[0]["generation_key"][:22],
            "model_id": run.name,
            "choices": [
                # A turn an answer: those before the last one stand in the prompt.
                {"index": row["sample"], "turns": [*row["prompt"][1::2], row["response"]]}
                for row in rows
            ],
            "tstamp": rows[0]["at"].timestamp(),
        }


def _hub_folder(responses: Sequence[Responses], folder: Path) -> list[Written]:
    written = []
    for run in responses:
        path = folder / "data" / _file(run, "parquet")
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist([_conversation(row) for row in run.rows]), sink)
        _write(path, sink.getvalue().to_pybytes())
        written.append(Written(path, len(run.rows)))
    configs = "".join(
        f"- config_name: {json.dumps(run.name)}\n  data_files: {json.dumps(f'data/{name}')}\n"
        for run, name in ((run, _file(run, "parquet")) for run in responses)
    )
    _write(folder / "README.md", f"---\nconfigs:\n{configs}---\n".encode())
    return written


LAYOUTS: dict[str, Callable[[Sequence[Responses], Path], list[Written]]] = {
    "jsonl": _jsonl,
    "alpaca-eval": _alpaca_eval,
    "mt-bench": _mt_bench,
    "hf": _hub_folder,
}


def _file(run: Responses, suffix: str) -> str:
    """Return a file's name: an arm may be called anything."""
    return f"{quote(run.name, safe=' ')}.{suffix}"


def _lines(path: Path, rows: Sequence[Row], responses: int | None = None) -> Written:
    text = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    _write(path, text.encode())
    return Written(path, len(rows) if responses is None else responses)


def _write(path: Path, data: bytes) -> None:
    """Write a file whole, or leave what was there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
        Path(name).chmod(0o644)
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
