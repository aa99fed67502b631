"""How long examples are as tokens, and what trimming takes from them (section 3)."""

from collections import Counter
from dataclasses import dataclass

BINS = 16
"""At most so many bars of a histogram."""
STEPS = (1, 2, 5)
"""Leading digits of the width of a bar."""


@dataclass(frozen=True)
class Lengths:
    """Lengths of training examples before they are trimmed.

    Args:
        tokens: of each example, in the order of the data.
        most: tokens that are kept of an example.
        dialogue: whether examples end with the end-of-turn token, which trimming takes first.

    """

    tokens: tuple[int, ...]
    most: int
    dialogue: bool = True

    @property
    def trimmed(self) -> int:
        """Examples that are longer than what is kept."""
        return sum(length > self.most for length in self.tokens)

    @property
    def lost_share(self) -> float:
        """Share of all tokens that trimming takes, from 0 to 1."""
        lost = sum(max(length - self.most, 0) for length in self.tokens)
        return lost / max(sum(self.tokens), 1)

    @property
    def lost_ends(self) -> int:
        """Examples that lose the end-of-turn token of their last response."""
        return self.trimmed if self.dialogue else 0

    def __str__(self) -> str:
        ends = f"; {self.lost_ends} lose their end-of-turn token" if self.lost_ends else ""
        return (
            f"{self.trimmed} of {len(self.tokens)} examples are longer than {self.most} tokens and "
            f"trimmed, which takes {100 * self.lost_share:.1f} % of all tokens{ends}"
        )


def histogram(lengths: Counter[int], longest: int = 0) -> list[tuple[int, int, int]]:
    """Return bars as (first length, last length, examples); their width is a round number.

    `longest` is that of several histograms which are to have bars of the same width.
    """
    if not lengths:
        return []
    width = _width(max(longest, *lengths))
    counts: Counter[int] = Counter()
    for length, examples in lengths.items():
        counts[length // width] += examples
    bars = range(min(counts), max(counts) + 1)
    return [(bar * width, (bar + 1) * width - 1, counts[bar]) for bar in bars]


def _width(longest: int) -> int:
    """Return the smallest round width of which `BINS` bars reach the longest."""
    power = 1
    while True:
        for step in STEPS:
            if step * power * BINS > longest:
                return step * power
        power *= 10
