"""Sampling over categories with exact counts (section 2.1: temperature 3 over the exchanges)."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor

from lima.spec.codec import sha256_key
from lima.spec.curate import PartSpec


@dataclass(frozen=True)
class Quotas:
    """How many to draw from each category."""

    counts: dict[str, int]
    """Sums to what was asked for, unless all categories are dry."""
    ideal: dict[str, int]
    """What the shares alone would give, were every category large enough."""

    @property
    def dry(self) -> dict[str, int]:
        """What the categories that ran dry lack; the others took it over."""
        missing = {name: self.ideal[name] - count for name, count in self.counts.items()}
        return {name: lack for name, lack in missing.items() if lack > 0}


def quotas(
    part: PartSpec,
    seed: int,
    sizes: Mapping[str, int],
    kept: Mapping[str, int],
    taken: Mapping[str, int] | None = None,
) -> Quotas:
    """Return how many of each category a part holds, by the method of largest remainders.

    Args:
        part: Its count (of all that is kept, if null) and how categories are balanced.
        seed: Decides between categories with equal remainders.
        sizes: Size of each category: all that has a response, whatever the filters say, so that
            filtered and unfiltered arms have the same shares.
        kept: How many of each category can be drawn.
        taken: Of each category what smaller arms within this one hold; never less than that.

    """
    floors = {name: (taken or {}).get(name, 0) for name in sizes}
    limit = part.per_category or max(kept.values(), default=0)
    caps = {name: max(min(kept.get(name, 0), limit), floors[name]) for name in sizes}
    weights = {name: _weight(part, size) for name, size in sizes.items()}
    total = sum(caps.values()) if part.count is None else part.count
    unbounded = {name: max(total, floors[name]) for name in sizes}
    return Quotas(
        counts=apportion(total, weights, caps, floors, seed),
        ideal=apportion(total, weights, unbounded, floors, seed),
    )


def apportion(
    total: int,
    weights: Mapping[str, float],
    caps: Mapping[str, int],
    floors: Mapping[str, int],
    seed: int,
) -> dict[str, int]:
    """Divide `total` by weights into whole numbers between floors and caps.

    Categories whose share passes a bound are set to it, those above their caps or those below
    their floors, whichever are more out of bounds together; the rest is divided anew among the
    others. Then every share is rounded down, and what is left goes to the largest remainders
    (ties: in a seeded order). The sum is `total`, but no less than all floors and no more than
    all caps.
    """
    open_ones = [name for name in sorted(weights) if weights[name] > 0 and caps[name] > 0]
    fixed = {name: floors[name] for name in weights if name not in open_ones}
    while True:
        left = total - sum(fixed.values())
        ideal = _shares(left, {name: weights[name] for name in open_ones})
        over = {name: ideal[name] - caps[name] for name in open_ones if ideal[name] > caps[name]}
        under = {
            name: floors[name] - ideal[name] for name in open_ones if ideal[name] < floors[name]
        }
        if not over and not under:
            break
        if sum(over.values()) >= sum(under.values()):
            fixed.update({name: caps[name] for name in over})
        else:
            fixed.update({name: floors[name] for name in under})
        open_ones = [name for name in open_ones if name not in fixed]
    counts = {name: floor(share) for name, share in ideal.items()}
    by_remainder = sorted(
        open_ones, key=lambda name: (counts[name] - ideal[name], sha256_key([seed, name]))
    )
    for name in by_remainder[: max(left, 0) - sum(counts.values())]:
        counts[name] += 1
    return {name: {**fixed, **counts}[name] for name in sorted(weights)}


def _weight(part: PartSpec, size: int) -> float:
    if part.balance == "equal":
        return float(size > 0)
    return float(size ** (1 / part.temperature))


def _shares(total: int, weights: Mapping[str, float]) -> dict[str, float]:
    whole = sum(weights.values())
    return {name: total * weight / whole for name, weight in weights.items()}
