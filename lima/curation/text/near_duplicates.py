"""Exact and near duplicates: MinHash over word shingles, every match checked exactly.

MinHash only proposes pairs. Each is then judged by the true Jaccard similarity of the two sets of
shingles, so that no example is dropped for an accident of hashing. Bands are as narrow as they
must be for a pair at the threshold to be missed less than once in a thousand (`MISSED`).
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

SHINGLE = 5
"""Words a shingle: long enough that texts on one subject share few, short enough that an edit
of one word in twenty leaves most."""
THRESHOLD = 0.7
"""Jaccard similarity of shingles from which two texts are the same. One word in thirty replaced
at random leaves about .74."""
PERMUTATIONS = 128
ROWS = (8, 4, 2, 1)
"""Values a band, from few candidates to many."""
MISSED = 1e-3
SEED = 1
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Match:
    """A text that was there before, and how similar it is."""

    key: str
    similarity: float
    """Jaccard similarity of the shingles; 1 with the same words is an exact duplicate."""
    exact: bool


@dataclass(frozen=True)
class _Prints:
    """A text and what it is compared by."""

    text: str
    digest: bytes
    shingles: set[str]
    sketch: object


def words(text: str) -> list[str]:
    """Return the words that are compared: without case, accents' forms, or punctuation."""
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())


def shingles(text_words: Sequence[str]) -> set[str]:
    """Return all runs of `SHINGLE` words; a shorter text is one run."""
    last = max(1, len(text_words) - SHINGLE + 1)
    return {" ".join(text_words[i : i + SHINGLE]) for i in range(last)}


class DuplicateIndex:
    """The texts met so far. The first of a group stays; the others match it."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        """Match texts with a similarity of at least `threshold`."""
        import rensa

        self.threshold = threshold
        self._exact: dict[bytes, str] = {}
        self._entries: list[tuple[str, str]] = []
        self._last: _Prints | None = None
        self._index = rensa.RMinHashLSH(
            threshold=threshold, num_perm=PERMUTATIONS, num_bands=_bands(threshold)
        )

    def find(self, text: str) -> Match | None:
        """Return the most similar text of the index that is a duplicate; the earliest of equals."""
        mine = self._prints(text)
        if key := self._exact.get(mine.digest):
            return Match(key, 1.0, exact=True)
        best: Match | None = None
        for position in sorted(self._index.query(mine.sketch)):
            key, other = self._entries[position]
            similarity = jaccard(mine.shingles, shingles(words(other)))
            if similarity >= self.threshold and (best is None or similarity > best.similarity):
                best = Match(key, similarity, exact=False)
        return best

    def add(self, key: str, text: str) -> None:
        """Add a text under the name that a match gives back."""
        mine = self._prints(text)
        self._exact.setdefault(mine.digest, key)
        self._index.insert(len(self._entries), mine.sketch)
        self._entries.append((key, text))

    def _prints(self, text: str) -> "_Prints":
        if self._last is None or self._last.text != text:  # what is added was mostly just sought
            self._last = _prints(text)
        return self._last


def jaccard(one: set[str], other: set[str]) -> float:
    """Return the share of shingles that two texts have in common, of all they have."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def duplicate_pairs(
    texts: Iterable[tuple[str, str]], threshold: float = THRESHOLD
) -> Iterator[tuple[str, Match]]:
    """Yield `(key, match)` for every text of `(key, text)` that repeats an earlier one."""
    index = DuplicateIndex(threshold)
    for key, text in texts:
        match = index.find(text)
        if match:
            yield key, match
        index.add(key, text)


def _bands(threshold: float) -> int:
    """Return how many bands find a pair at the threshold, but for a share of `MISSED`."""
    enough = (r for r in ROWS if (1 - threshold**r) ** (PERMUTATIONS // r) < MISSED)
    return PERMUTATIONS // next(enough, 1)


def _prints(text: str) -> _Prints:
    import rensa

    found_words = words(text)
    found = shingles(found_words)
    sketch = rensa.RMinHash(num_perm=PERMUTATIONS, seed=SEED)
    sketch.update(list(found))
    digest = hashlib.sha256(" ".join(found_words).encode()).digest()
    return _Prints(text, digest, found, sketch)
