"""Which examples of a step lie together: few tokens of padding, equal work on every worker."""

from collections.abc import Sequence
from typing import NamedTuple


class Bin(NamedTuple):
    """Examples that one worker reads at once, as positions in the step's list."""

    members: list[int]
    tokens: int

    def with_example(self, position: int, length: int) -> "Bin":
        """Return the bin with one more example."""
        return Bin([*self.members, position], self.tokens + length)


EMPTY = Bin([], 0)


def pack(lengths: Sequence[int], budget: int, world: int) -> list[list[list[int]]]:
    """Return the micro-steps of a step: for each, the examples of every worker.

    Every worker gets the same count of micro-steps, since ZeRO-3 has them gather weights
    together, and in each of them about as many tokens as the others, since they wait for the
    longest. A worker may get no example.

    Args:
        lengths: Tokens of each example, none above `budget`.
        budget: Tokens that one worker holds at a time.
        world: Workers.

    """
    longest_first = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    fitted = _first_fit(longest_first, lengths, budget)
    count = -(-max(len(fitted), 1) // world) * world
    bins = _even(longest_first, lengths, count)
    if max(b.tokens for b in bins) > budget:
        bins = fitted + [EMPTY] * (count - len(fitted))
    bins.sort(key=lambda b: -b.tokens)
    return [[b.members for b in bins[at : at + world]] for at in range(0, count, world)]


def _first_fit(order: Sequence[int], lengths: Sequence[int], budget: int) -> list[Bin]:
    """Return few bins: each example, the longest first, in the first one that has room."""
    bins: list[Bin] = []
    for position in order:
        length = lengths[position]
        index = next((i for i, b in enumerate(bins) if b.tokens + length <= budget), len(bins))
        bins[index : index + 1] = [
            (bins[index] if index < len(bins) else EMPTY).with_example(position, length)
        ]
    return bins


def _even(order: Sequence[int], lengths: Sequence[int], count: int) -> list[Bin]:
    """Return `count` bins of about equal size: each example, the longest first, in the emptiest."""
    bins = [EMPTY] * count
    for position in order:
        index = min(range(count), key=lambda i: bins[i].tokens)
        bins[index] = bins[index].with_example(position, lengths[position])
    return bins
