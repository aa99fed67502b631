"""Why a text is in a data set or not: one curation run, looked up from outside."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from lima.curation.arms.undrawn import why_undrawn
from lima.curation.candidates.table import CandidateStore
from lima.errors import DataError
from lima.spec import CellSpec, reading_cell, stage_cell
from lima.spec.codec import decode, run_id
from lima.spec.curate import CurateSpec, PartSpec
from lima.store.shards import RunTable, read_parquet
from lima.store.storage import Storage
from lima.store.tables import EXAMPLES, RUNS

_POST = re.compile(r"(?:https?://)?([\w-]+(?:\.[\w-]+)+)(?:/(?:questions|q|a|posts))?/(\d+)\b.*")
_KEY = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Place:
    """What an arm did with a candidate."""

    data_set: str
    split: str
    line: int | None
    """Of its file; None: the arm turned it away."""
    reason: str | None = None
    evidence: str | None = None


@dataclass(frozen=True)
class Found:
    """A candidate, and where it went."""

    row: dict[str, Any]
    """Of the table `candidates`, without the columns that name the run."""
    asked_as: str
    """What was looked up within it: empty, or an answer that it was preferred to."""
    places: tuple[Place, ...]
    not_drawn: tuple[str, ...]
    """Why no arm draws from its pool, or for each that could have taken it and did not look at
    it: why."""


class CurationRun:
    """A run of curation as it lies on a storage, finished or not."""

    def __init__(self, storage: Storage, run: str | None = None) -> None:
        """Open a run.

        Raises:
            DataError: there is none of this id, or there are several and none is named.

        """
        self.storage = storage
        runs = dict(_curations(storage))
        if run is None and len({run_id(reading_cell(cell)) for cell in runs.values()}) == 1:
            run = list(runs)[-1]  # they differ in what people picked and edited: the latest
        if run is None and len(runs) != 1:
            known = f"several: {', '.join(sorted(runs))}; name one with --run" if runs else "none"
            raise DataError(f"{storage.uri}: no curation run is named, and there are {known}")
        self.run = run or next(iter(runs))
        if self.run not in runs:
            raise DataError(
                f"{storage.uri}: no curation run {self.run}; there are {', '.join(sorted(runs))}"
            )
        self.cell = runs[self.run]
        self.store = CandidateStore(storage, self.cell)
        self.examples = RunTable(storage, EXAMPLES, stage_cell(self.cell, "curate"))

    @property
    def spec(self) -> CurateSpec:
        """What the run was asked to do."""
        if self.cell.curate is None:
            raise DataError(f"run {self.run} has no stage 'curate'")
        return self.cell.curate

    def summary(self) -> dict[str, Any] | None:
        """Return what was written in the end; None before that."""
        path = f"datasets/run_id={self.run}/summary.json"
        if not self.storage.exists(path):
            return None
        found: dict[str, Any] = json.loads(self.storage.read(path))
        return found

    def why(self, name: str) -> list[Found]:
        """Return all candidates of a name, and what became of them.

        Args:
            name: The address of a post, `SITE/POST`, a source id, or the first 8 or more digits of
                a candidate's key.

        """
        return [
            Found(row, asked_as, self._places(row), self._not_drawn(row))
            for row, asked_as in self._search(name.strip())
        ]

    def _search(self, name: str) -> Iterator[tuple[dict[str, Any], str]]:
        post = _POST.fullmatch(name)
        site, number = (post[1], post[2]) if post else ("", "")
        for shard in self._shards(site):
            rows = self.store.read(shard, ["candidate_key", "source_id", "passed_over"])
            matches = [
                at
                for at, row in enumerate(rows)
                if (_is_post(row, number) if post else _is_named(row, name))
            ]
            for full in self.store.open(shard).take(matches).to_pylist() if matches else ():
                row = {key: full[key] for key in full if key not in self.store.table.identity}
                is_own = not post or number in row["source_id"].split("/")
                yield row, "" if is_own else number

    def _shards(self, site: str) -> list[str]:
        """Return the shards to look into: of a site, if one is named."""
        return [s for s in self.store.table.shards() if not site or s.startswith(f"{site}-")]

    def _places(self, row: dict[str, Any]) -> tuple[Place, ...]:
        return tuple(
            Place(e["data_set"], e["split"], e["line"], e["reason"], e["evidence"])
            for e in self._examples
            if e["candidate_key"] == row["candidate_key"]
        )

    def _not_drawn(self, row: dict[str, Any]) -> tuple[str, ...]:
        met = {place.data_set for place in self._places(row)}
        undrawn = why_undrawn(row["pool"], self.spec)
        told = [undrawn] if undrawn else []
        for arm in self.spec.arms:
            parts = [
                part
                for part in arm.parts
                if part.pool == row["pool"]
                and (row["keep"] or (not part.filtered and row["turns"] > 1))
            ]
            if self._examples and parts and arm.name not in met:
                told.append(self._took_others(arm.name, parts[0], row))
        return tuple(told)

    def _took_others(self, arm: str, part: PartSpec, row: dict[str, Any]) -> str:
        """Say what an arm took in place of a candidate."""
        scores = [
            e["score"] or 0
            for e in self._examples
            if e["data_set"] == arm
            and e["line"] is not None
            and e["pool"] == part.pool
            and (part.balance == "none" or e["category"] == row["category"])
        ]
        where = f" of {row['category']}" if part.balance != "none" and row["category"] else ""
        if part.order == "random":
            return f"{arm} took {len(scores)}{where}, drawn at random"
        lowest = f", the lowest with {min(scores)}" if scores else ""
        return f"{arm} took {len(scores)}{where}, those with most votes{lowest}"

    @cached_property
    def _examples(self) -> list[dict[str, Any]]:
        columns = ["data_set", "split", "line", "candidate_key", "pool", "category", "score"]
        rows: list[dict[str, Any]] = self.examples.read(
            [*columns, "reason", "evidence"]
        ).to_pylist()
        return rows


def _curations(storage: Storage) -> Iterator[tuple[str, CellSpec]]:
    """Yield run id and spec of every curation that has begun, the latest last."""
    columns = ["run_id", "stage", "spec", "created_at"]
    rows = [
        row
        for entry in storage.entries(RUNS.name)
        for row in read_parquet(storage, entry.path, columns).to_pylist()
        if row["stage"] == "curate"
    ]
    for row in sorted(rows, key=lambda row: row["created_at"]):
        yield row["run_id"], decode(CellSpec, json.loads(row["spec"]))


def _is_post(row: dict[str, Any], post: str) -> bool:
    """Whether a candidate is a post, or was preferred to it."""
    own = post in row["source_id"].split("/")
    return own or any(passed.partition(":")[0] == post for passed in row["passed_over"])


def _is_named(row: dict[str, Any], name: str) -> bool:
    key: str = row["candidate_key"]
    return row["source_id"] == name or bool(_KEY.fullmatch(name) and key.startswith(name))
