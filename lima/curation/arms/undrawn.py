"""Candidates of exchanges that no arm draws from: which they are, and what to do about it."""

from collections.abc import Sequence

from lima.curation.candidates.table import ShardRecord, total
from lima.curation.stackexchange.sites import LANGUAGES, POOL, UNLISTED
from lima.spec.curate import CurateSpec

WHY = {
    POOL.format(UNLISTED): "no list of sites names them",
    LANGUAGES: "they are in another language than the filters' word lists",
    POOL.format("dropped"): "the list of sites drops them",
}
"""Pools that no recipe draws from."""
NAMED = 5
"""Sites that a message names."""


def why_undrawn(pool: str, spec: CurateSpec) -> str:
    """Return why no arm draws from a pool, and what to do; empty if one does."""
    if pool not in WHY or any(part.pool == pool for arm in spec.arms for part in arm.parts):
        return ""
    return (
        f"no arm draws from the pool {pool}: {WHY[pool]}; divide the sites in a file of your own "
        "(curate.sites), or draw from that pool"
    )


def undrawn(records: Sequence[ShardRecord], spec: CurateSpec) -> list[str]:
    """Return what lies in pools of exchanges that no arm draws from, a line a pool."""
    found = []
    for pool in WHY:
        counts, why = total(records, pool), why_undrawn(pool, spec)
        if counts and why:
            sites = ", ".join(list(counts)[:NAMED]) + (", …" if len(counts) > NAMED else "")
            found.append(f"{sum(n.seen for n in counts.values())} candidates of {sites}: {why}")
    return found
