"""Candidates by rank: what a part of an arm draws first, read from the table when needed."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.table import CandidateStore, ShardRecord, from_row
from lima.spec.curate import PartSpec

ALL = "*"
"""The category that stands for all of a pool."""
RANKING = ("candidate_key", "pool", "category", "source", "source_id", "score", "keep", "turns")
"""Columns that decide a candidate's place."""


class Ranking:
    """The candidates of a pool on offer to a part of an arm, best first, read when needed."""

    def __init__(
        self,
        store: CandidateStore,
        records: Sequence[ShardRecord],
        part: PartSpec,
        seed: int,
        may_take: Callable[[str, str], bool] | None = None,
    ) -> None:
        """Rank what `part` can draw: by score or in a seeded order, ties always in that order.

        Args:
            store: Where the candidates are.
            records: Of its shards.
            part: Names the pool, the order, and whether filters count.
            seed: Of the order.
            may_take: Says by source and source id what a person picked; None: all.

        """
        self.store, self.part, self.seed, self.may_take = store, part, seed, may_take
        self.shards = {
            category: [r.shard for r in records if category in r.categories.get(part.pool, {})]
            for category in {c for r in records for c in r.categories.get(part.pool, {})}
        }
        self._best: dict[str, list[tuple[Any, str, int]]] = {}
        self._texts: dict[tuple[str, int], Candidate] = {}

    def prepare(self, wanted: Mapping[str, int]) -> None:
        """Rank and read the first `wanted` of each category in one pass over the shards."""
        deeper = {c: n for c, n in wanted.items() if n > len(self._best.get(c, ()))}
        self._rank({c: 2 * n + 16 for c, n in deeper.items()})
        self._fetch([p for c, n in wanted.items() for p in self._best.get(c, ())[:n]])

    def count(self) -> dict[str, int]:
        """Count what can be drawn of each category, in a scan: only needed where picks decide."""
        names = sorted({name for shards in self.shards.values() for name in shards})
        rows = (row for name in names for row in self.store.read(name, RANKING))
        return dict(Counter(row["category"] for row in rows if self._can_take(row)))

    def offers(self, category: str) -> Iterator[Candidate]:
        """Yield all candidates of a category, or of all, best first."""
        position = 0
        while True:
            known = self._best.get(category, [])
            if position == len(known):
                self._rank({category: 4 * len(known) + 16})
                if len(self._best[category]) == position:
                    return
                continue
            place = known[position][1:]
            if place not in self._texts:
                self._fetch(known[position : position + 32])
            yield self._texts[place]
            position += 1

    def _rank(self, wanted: Mapping[str, int]) -> None:
        """Find the best of some categories, one shard in memory at a time."""
        names = sorted({s for c in wanted for s in self._shards_of(c)})
        found: defaultdict[str, list[tuple[Any, str, int]]] = defaultdict(list)
        for shard in names:
            for category, places in self._places(shard, wanted).items():
                found[category] = heapq.nsmallest(wanted[category], [*found[category], *places])
        self._best.update({category: found[category] for category in wanted})

    def _places(
        self, shard: str, wanted: Mapping[str, int]
    ) -> dict[str, list[tuple[Any, str, int]]]:
        places: defaultdict[str, list[tuple[Any, str, int]]] = defaultdict(list)
        for number, row in enumerate(self.store.read(shard, RANKING)):
            category = ALL if ALL in wanted else row["category"]
            if category in wanted and self._can_take(row):
                places[category].append((self._rank_of(row), shard, number))
        return places

    def _can_take(self, row: Mapping[str, Any]) -> bool:
        passed = row["keep"] or (not self.part.filtered and row["turns"] > 1)
        picked = self.may_take is None or self.may_take(row["source"], row["source_id"])
        return row["pool"] == self.part.pool and passed and picked

    def _rank_of(self, row: Mapping[str, Any]) -> tuple[int, bytes]:
        address = f"{self.seed}/{row['candidate_key']}".encode()
        score = -(row["score"] or 0) if self.part.order == "score" else 0
        return score, blake2b(address, digest_size=8).digest()

    def _shards_of(self, category: str) -> list[str]:
        if category == ALL:
            return sorted({shard for shards in self.shards.values() for shard in shards})
        return self.shards.get(category, [])

    def _fetch(self, places: Iterable[tuple[Any, str, int]]) -> None:
        wanted: defaultdict[str, list[int]] = defaultdict(list)
        for _, shard, number in places:
            if (shard, number) not in self._texts:
                wanted[shard].append(number)
        for shard, numbers in sorted(wanted.items()):
            table = self.store.open(shard).take(numbers)
            for number, row in zip(numbers, table.to_pylist(), strict=True):
                self._texts[shard, number] = from_row(row)
