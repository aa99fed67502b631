"""The table `candidates` of a run: written shard by shard, and read.

Beside each shard lies a small record of what is in it, written first, so that counts need no scan
and what was damaged is known although the shard is not read again.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lima.curation.candidates.candidate import Candidate, Provenance
from lima.curation.candidates.losses import Losses
from lima.curation.reading.damage import Damage
from lima.errors import StorageError
from lima.spec import CellSpec, reading_cell
from lima.spec.codec import canonical_json, run_id
from lima.store.shards import RunTable, bad_shard
from lima.store.storage import Storage
from lima.store.tables import CANDIDATES

READERS = 16
"""Records that are read at the same time."""


@dataclass(frozen=True)
class Count:
    """Candidates of a category."""

    seen: int = 0
    usable: int = 0
    """With a response; or kept, if the pool holds prompts only."""
    kept: int = 0

    def __add__(self, other: "Count") -> "Count":
        """Return both together."""
        return Count(self.seen + other.seen, self.usable + other.usable, self.kept + other.kept)


@dataclass
class ShardRecord:
    """What a shard of candidates holds, and what was damaged on the way to it."""

    shard: str
    categories: dict[str, dict[str, Count]] = field(default_factory=dict)
    """Pool to category to counts."""
    losses: dict[str, Losses] = field(default_factory=dict)
    """What the filters dropped, by pool."""
    damage: Damage = field(default_factory=Damage)

    @property
    def kept(self) -> int:
        """Candidates that no filter objects to."""
        return sum(c.kept for pool in self.categories.values() for c in pool.values())

    @property
    def seen(self) -> int:
        """All candidates."""
        return sum(losses.seen for losses in self.losses.values())

    def to_json(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {
            "shard": self.shard,
            "categories": {
                pool: {c: [n.seen, n.usable, n.kept] for c, n in sorted(found.items())}
                for pool, found in sorted(self.categories.items())
            },
            "losses": {
                pool: {"seen": x.seen, "dropped": dict(x.dropped), "only": dict(x.only)}
                for pool, x in sorted(self.losses.items())
            },
            "damage": self.damage.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "ShardRecord":
        """Return the record that `to_json` wrote."""
        return cls(
            data["shard"],
            {p: {c: Count(*n) for c, n in f.items()} for p, f in data["categories"].items()},
            {
                p: Losses(x["seen"], Counter(x["dropped"]), Counter(x["only"]))
                for p, x in data["losses"].items()
            },
            Damage.from_json(data["damage"]),
        )


Row = tuple[str, Candidate]
"""A pool and a candidate of it."""


def usable(candidate: Candidate) -> bool:
    """Whether an unfiltered arm can hold a candidate: it has a response."""
    return len(candidate.conversation) > 1 or candidate.keep


class CandidateStore:
    """The candidates of one run."""

    def __init__(self, storage: Storage, cell: CellSpec) -> None:
        """Open the table of the curate stage of `cell`."""
        own = reading_cell(cell)
        self.storage = storage
        self.table = RunTable(storage, CANDIDATES, own)
        self.folder = f"curation/run_id={run_id(own)}"

    def has(self, shard: str) -> bool:
        """Say whether a shard exists, and so needs no work."""
        return self.table.has(shard)

    def write(self, shard: str, rows: Sequence[Row], damage: Damage) -> ShardRecord:
        """Write a shard with its record, unless it exists."""
        record = _record(shard, rows, damage)
        data = canonical_json(record.to_json()).encode()
        self.storage.write(self._record_path(shard), data, replace=True)
        self.table.write_columns(shard, _columns(rows), len(rows))
        return record

    def records(self) -> list[ShardRecord]:
        """Return the records of all shards, by name."""
        with ThreadPoolExecutor(READERS) as readers:
            return list(readers.map(self.record, self.table.shards()))

    def record(self, shard: str) -> ShardRecord:
        """Return the record of a shard."""
        return ShardRecord.from_json(json.loads(self.storage.read(self._record_path(shard))))

    def read(self, shard: str, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Return the rows of a shard, or some of their columns."""
        rows: list[dict[str, Any]] = self.open(shard, columns).to_pylist()
        return rows

    def open(self, shard: str, columns: Sequence[str] | None = None) -> pa.Table:
        """Return a shard, or some of its columns: of others no byte is read."""
        path = self.table.path(shard)
        try:
            with self.storage.open_file(path) as stream:
                wanted = list(columns) if columns else None
                return pq.ParquetFile(stream).read(columns=wanted, use_threads=False)
        except pa.ArrowException as error:
            raise bad_shard(self.storage, path, str(error).splitlines()[0]) from error
        except OSError as error:
            raise StorageError(f"cannot read {self.storage.uri}/{path}: {error}") from error

    def candidates(self, shard: str) -> Iterator[Row]:
        """Yield the candidates of a shard with their pools."""
        for row in self.read(shard):
            yield row["pool"], from_row(row)

    def _record_path(self, shard: str) -> str:
        return f"{self.folder}/shards/{shard}.json"


def counts(records: Iterable[ShardRecord]) -> dict[str, int]:
    """Return how many shards and candidates there are, and how many no filter objects to."""
    found = list(records)
    return {
        "shards": len(found),
        "candidates": sum(record.seen for record in found),
        "kept": sum(record.kept for record in found),
    }


def total(records: Iterable[ShardRecord], pool: str) -> dict[str, Count]:
    """Return the counts of a pool's categories over all shards."""
    counts: defaultdict[str, Count] = defaultdict(Count)
    for record in records:
        for category, count in record.categories.get(pool, {}).items():
            counts[category] += count
    return dict(sorted(counts.items()))


def losses(records: Iterable[ShardRecord], pool: str) -> Losses:
    """Return what the filters dropped from a pool, over all shards."""
    found = [record.losses[pool] for record in records if pool in record.losses]
    return Losses(
        sum(x.seen for x in found),
        sum((x.dropped for x in found), Counter()),
        sum((x.only for x in found), Counter()),
    )


def _record(shard: str, rows: Sequence[Row], damage: Damage) -> ShardRecord:
    counts: defaultdict[str, defaultdict[str, Count]] = defaultdict(lambda: defaultdict(Count))
    reasons: defaultdict[str, list[tuple[str, ...]]] = defaultdict(list)
    kinds = Counter((pool, c.category, usable(c), c.keep) for pool, c in rows)
    for (pool, category, can_use, kept), seen in kinds.items():
        counts[pool][category] += Count(seen, seen * can_use, seen * kept)
    for pool, candidate in rows:
        reasons[pool].append(candidate.reasons)
    return ShardRecord(
        shard,
        {pool: dict(found) for pool, found in counts.items()},
        {pool: Losses.of(found) for pool, found in reasons.items()},
        damage,
    )


def _columns(rows: Sequence[Row]) -> dict[str, list[Any]]:
    """Return rows as the columns of the table."""
    candidates = [candidate for _, candidate in rows]
    origins = [candidate.provenance for candidate in candidates]
    return {
        "candidate_key": [c.key for c in candidates],
        "pool": [pool for pool, _ in rows],
        "source": [c.source for c in candidates],
        "source_id": [c.source_id for c in candidates],
        "category": [c.category for c in candidates],
        "tags": [c.tags for c in candidates],
        "turns": [len(c.conversation) for c in candidates],
        "conversation": [c.conversation for c in candidates],
        "score": [c.score for c in candidates],
        "keep": [c.keep for c in candidates],
        "reasons": [c.reasons for c in candidates],
        "measures": [sorted(c.measures.items()) for c in candidates],
        "passed_over": [c.passed_over for c in candidates],
        "url": [origin.url for origin in origins],
        "authors": [origin.authors for origin in origins],
        "licence": [origin.licence for origin in origins],
        "created": [origin.created for origin in origins],
        "changes": [origin.changes for origin in origins],
    }


def from_row(row: Mapping[str, Any]) -> Candidate:
    """Return the candidate of a row of the table."""
    return Candidate(
        source=row["source"],
        source_id=row["source_id"],
        conversation=tuple(row["conversation"]),
        category=row["category"],
        tags=tuple(row["tags"]),
        score=row["score"],
        provenance=Provenance(
            row["url"], tuple(row["authors"]), row["licence"], row["created"], row["changes"]
        ),
        measures=dict(row["measures"]),
        reasons=tuple(row["reasons"]),
        passed_over=tuple(row["passed_over"]),
    )
