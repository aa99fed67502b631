"""Rows of `judgments` and `generations` counted by prompt, as numpy arrays.

Columns reach numpy through their buffers: Arrow's own group-by, filters and conversions import
pandas where that is installed, which takes longer than reading a million rows.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from lima.store.values import FINISH_REASONS, STATUSES

JUDGMENT_COLUMNS = ("prompt_key", "status", "final", "score", "cost")
RESPONSE_COLUMNS = ("prompt_key", "source", "finish_reason", "response_tokens")
ENCODED = ("prompt_key", "source", "status", "finish_reason")


Strings: TypeAlias = "pa.Array[Any]"
Places: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True)
class Tally:
    """Rows by prompt.

    Args:
        prompts: keys of P different prompts.
        counts: rows of each of C categories and, last, of any other; shape (P, C + 1).
        sums: sums of S columns, shape (P, S).
        sources: where each prompt comes from, if that was read.

    """

    prompts: Strings
    counts: NDArray[np.int64]
    sums: NDArray[np.float64]
    sources: list[str] | None = None

    def only(self, keep: NDArray[np.bool_]) -> "Tally":
        """Return the part about some prompts."""
        rows = np.flatnonzero(keep)
        sources = [self.sources[row] for row in rows] if self.sources else None
        return Tally(self.prompts.take(rows), self.counts[rows], self.sums[rows], sources)

    def of_source(self, source: str) -> "Tally":
        """Return the part about the prompts that come from `source`."""
        return self.only(np.array([s == source for s in self.sources or ()], dtype=np.bool_))

    def answering(self, other: "Tally") -> "Tally":
        """Return the part about the prompts that `other` is about."""
        found = pc.is_in(self.prompts, other.prompts).cast(pa.int8())
        return self.only(np.from_dlpack(found) == 1)


def tally_judgments(part: pa.Table) -> Tally:
    """Count final attempts by status; sum the scores of those that are ok, and all costs.

    A score that comes with another status is not summed, and "ok" without a score, or with one
    that is no number, is not ok.
    """
    prompts, prompt = _codes(part["prompt_key"])
    category = _categories(part["status"], STATUSES)
    final = _floats(part["final"].cast(pa.float64())) > 0
    score, cost = _floats(part["score"]), _floats(part["cost"])
    category[(category == 0) & ~np.isfinite(score)] = len(STATUSES)
    ok = final & (category == 0)
    sums = _added(prompt, np.stack([np.where(ok, score, 0.0), cost], axis=1), len(prompts))
    counts = _table(prompt[final], category[final], len(prompts), len(STATUSES))
    return Tally(prompts, counts, sums)


def tally_responses(part: pa.Table) -> Tally:
    """Count responses by finish reason; sum their tokens."""
    prompts, prompt = _codes(part["prompt_key"])
    sources, source = _codes(part["source"])
    tokens = _floats(part["response_tokens"].cast(pa.float64(), safe=False))
    category = _categories(part["finish_reason"], FINISH_REASONS)
    counts = _table(prompt, category, len(prompts), len(FINISH_REASONS))
    sums = _added(prompt, tokens[:, np.newaxis], len(prompts))
    names = sources.to_pylist()
    by_prompt = _first(prompt, [names[code] for code in source], len(prompts))
    return Tally(prompts, counts, sums, by_prompt)


def merged(tallies: Sequence[Tally]) -> Tally:
    """Return the sum of some tallies, prompt by prompt."""
    if len(tallies) == 1:
        return tallies[0]
    encoded: Any = pa.concat_arrays([t.prompts for t in tallies]).dictionary_encode()
    place, prompts = _codes_of(encoded), len(encoded.dictionary)
    counts = np.concatenate([t.counts for t in tallies])
    sums = np.concatenate([t.sums for t in tallies])
    sources = [source for t in tallies for source in t.sources or ()]
    return Tally(
        encoded.dictionary,
        _added(place, counts, prompts).astype(np.int64),
        _added(place, sums, prompts),
        _first(place, sources, prompts) if sources else None,
    )


def merged_by_run(parts: Iterable[tuple[str, Tally]]) -> dict[str, Tally]:
    """Return one tally a run."""
    by_run: dict[str, list[Tally]] = {}
    for run, tally in parts:
        by_run.setdefault(run, []).append(tally)
    return {run: merged(tallies) for run, tallies in by_run.items()}


def count_lengths(part: pa.Table) -> dict[int, int]:
    """Return how many sampled responses have how many tokens; unknown lengths are left out."""
    category = _categories(part["finish_reason"], FINISH_REASONS)
    tokens = _floats(part["response_tokens"].cast(pa.float64(), safe=False))
    known = (category != FINISH_REASONS.index("prompt_too_long")) & ~np.isnan(tokens)
    lengths, counts = np.unique(tokens[known].astype(np.int64), return_counts=True)
    return dict(zip(lengths.tolist(), counts.tolist(), strict=True))


def first_places(keys: "pa.ChunkedArray[Any]", places: "pa.ChunkedArray[Any]") -> dict[str, int]:
    """Return a place of each different key; its rows all have the same."""
    names, code = _codes(keys)
    place = np.zeros(len(names), dtype=np.int64)
    place[code] = _floats(places.cast(pa.float64(), safe=False)).astype(np.int64)
    return {str(name): i for name, i in zip(names.to_pylist(), place.tolist(), strict=True)}


def rows_with(column: "pa.ChunkedArray[Any]", wanted: Collection[str]) -> list[int]:
    """Return the rows of a column of texts that hold one of some."""
    found = pc.is_in(column.combine_chunks(), pa.array(wanted, column.type)).cast(pa.int8())
    rows: list[int] = np.flatnonzero(np.from_dlpack(found)).tolist()
    return rows


def different_pairs(
    first: "pa.ChunkedArray[Any]", second: "pa.ChunkedArray[Any]"
) -> set[tuple[str, str]]:
    """Return the pairs of values that occur in the rows of two dictionary columns."""
    (names, ones), (others, twos) = _codes(first), _codes(second)
    pairs = np.unique(ones * len(others) + twos)
    known, also = names.to_pylist(), others.to_pylist()
    return {(known[pair // len(also)], also[pair % len(also)]) for pair in pairs.tolist()}


def _table(prompt: Places, category: Places, prompts: int, known: int) -> NDArray[np.int64]:
    """Return how often each pair occurs, shape (prompts, known + 1)."""
    width = known + 1
    cells = np.bincount(prompt * width + category, minlength=prompts * width)
    return cells.reshape(prompts, width)


def _categories(column: "pa.ChunkedArray[Any]", known: Sequence[str]) -> Places:
    """Return the place of each value among `known`; what is not known comes after them."""
    values, codes = _codes(column)
    places = [known.index(v) if v in known else len(known) for v in values.to_pylist()]
    return np.array(places, dtype=np.int64)[codes]


def _added(place: Places, rows: NDArray[Any], prompts: int) -> NDArray[np.float64]:
    """Return the sums of the rows of each prompt, column by column."""
    columns = [np.bincount(place, column, prompts) for column in rows.T]
    return np.stack(columns, axis=1).astype(np.float64)


def _first(place: Places, values: Sequence[str], prompts: int) -> list[str]:
    """Return a value of each prompt; its rows all have the same."""
    row = np.zeros(prompts, dtype=np.int64)
    row[place] = np.arange(len(place))
    return [values[i] for i in row.tolist()]


def _codes(column: "pa.ChunkedArray[Any]") -> tuple[Strings, Places]:
    """Return the different values of a dictionary column, and which one each row has."""
    array: Any = pa.concat_arrays(column.unify_dictionaries().chunks)
    return array.dictionary, _codes_of(array)


def _codes_of(array: Any) -> Places:
    return np.from_dlpack(array.indices).astype(np.int64)


def _floats(column: "pa.ChunkedArray[Any]") -> NDArray[np.float64]:
    """Return a float64 column; nulls as NaN."""
    return np.concatenate([_chunk_floats(chunk) for chunk in column.chunks])


def _chunk_floats(array: Any) -> NDArray[np.float64]:
    values = np.frombuffer(array.buffers()[1], np.float64, len(array), 8 * array.offset)
    if not array.null_count:
        return values
    valid = np.from_dlpack(pc.is_valid(array).cast(pa.int8()))
    return np.where(valid == 1, values, np.nan)
