"""Quotas by temperature: exact counts, checked against other arithmetic; and the 179 sites."""

from collections import Counter
from decimal import Decimal, getcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lima.curation.arms.temperature_quotas import apportion, quotas
from lima.curation.stackexchange.sites import load_sites
from lima.errors import DataError
from lima.spec.curate import PartSpec

TEMPERATURE_3 = PartSpec("pool", 200, balance="temperature", temperature=3.0)
EQUAL = PartSpec("pool", 200, balance="equal")


def _hamilton(total: int, sizes: dict[str, int]) -> dict[str, int]:
    """Largest remainders with temperature 3, in decimals of 50 digits."""
    getcontext().prec = 50
    weights = {name: Decimal(size) ** (Decimal(1) / 3) for name, size in sizes.items()}
    whole = sum(weights.values())
    shares = {name: total * weight / whole for name, weight in weights.items()}
    counts = {name: int(share) for name, share in shares.items()}
    left = total - sum(counts.values())
    for name in sorted(shares, key=lambda n: counts[n] - shares[n])[:left]:
        counts[name] += 1
    return counts


def test_temperature_3_over_real_sizes_of_exchanges() -> None:
    sizes = {
        "stackoverflow": 23_500_000,
        "math": 1_600_000,
        "physics": 220_000,
        "ai": 12_000,
        "quantumcomputing": 8_000,
        "iota": 1_000,
        "coffee": 1_400,
    }
    found = quotas(TEMPERATURE_3, 0, sizes, sizes)
    assert found.counts == _hamilton(200, sizes)
    assert sum(found.counts.values()) == 200
    assert found.dry == {}
    ratio = found.counts["stackoverflow"] / found.counts["physics"]
    assert ratio == pytest.approx((23_500_000 / 220_000) ** (1 / 3), rel=0.05)


def test_shares_of_perfect_cubes_are_exact() -> None:
    sizes = {"a": 1, "b": 8, "c": 27, "d": 64}
    part = PartSpec("pool", 50, balance="temperature")
    assert quotas(part, 0, sizes, dict.fromkeys(sizes, 99)).counts == {
        "a": 5,
        "b": 10,
        "c": 15,
        "d": 20,
    }


def test_a_site_that_runs_dry_leaves_its_share_to_the_others() -> None:
    sizes = {"a": 1, "b": 8, "c": 27, "d": 64}
    part = PartSpec("pool", 50, balance="temperature")
    found = quotas(part, 0, sizes, {"a": 99, "b": 99, "c": 99, "d": 8})
    assert found.counts == {"a": 7, "b": 14, "c": 21, "d": 8}, "42 are divided 1 : 2 : 3"
    assert found.dry == {"d": 12}


def test_all_dry_is_a_shortage() -> None:
    found = quotas(PartSpec("pool", 10, balance="equal"), 0, {"a": 9, "b": 9}, {"a": 2, "b": 3})
    assert found.counts == {"a": 2, "b": 3}


def test_equal_shares_and_one_from_each() -> None:
    tasks = {f"task{n:03d}": 4 for n in range(60)}
    part = PartSpec("pool", 50, balance="equal", per_category=1)
    found = [quotas(part, seed, tasks, tasks).counts for seed in (0, 0, 1)]
    assert Counter(found[0].values()) == {1: 50, 0: 10}
    assert found[0] == found[1]
    assert found[0] != found[2], "which ten are left out is drawn"
    assert sum(quotas(EQUAL, 0, {"a": 5, "b": 900}, {"a": 500, "b": 500}).counts.values()) == 200


SIZES = st.dictionaries(
    st.text("abcdefgh", min_size=1, max_size=3), st.integers(1, 10**7), min_size=1, max_size=12
)


@given(SIZES, st.integers(0, 500), st.data())
def test_counts_are_exact_within_bounds_and_fair(
    sizes: dict[str, int], total: int, data: st.DataObject
) -> None:
    caps = {name: data.draw(st.integers(0, 120), label=name) for name in sizes}
    floors = {name: data.draw(st.integers(0, cap)) for name, cap in caps.items()}
    weights = {name: float(size) for name, size in sizes.items()}
    counts = apportion(total, weights, caps, floors, 0)
    assert counts.keys() == sizes.keys()
    assert all(floors[name] <= counts[name] <= caps[name] for name in sizes)
    expected = min(max(total, sum(floors.values())), sum(caps.values()))
    assert sum(counts.values()) == expected
    free = [n for n in sizes if floors[n] < counts[n] < caps[n]]
    for one in free:
        for other in free:
            if weights[one] > weights[other]:
                assert counts[one] >= counts[other] - 1, "more weight is never less by more than 1"


@given(SIZES, st.integers(1, 300))
def test_larger_arms_hold_smaller_ones(sizes: dict[str, int], start: int) -> None:
    taken: dict[str, int] = {}
    for total in (start, 2 * start, 4 * start, 8 * start):
        part = PartSpec("pool", total, balance="temperature")
        found = quotas(part, 0, sizes, dict.fromkeys(sizes, 10**6), taken).counts
        assert sum(found.values()) == total
        assert all(found[name] >= count for name, count in taken.items())
        taken = found


def test_the_179_exchanges_are_divided_75_99_5() -> None:
    sites = load_sites()
    assert Counter(sites.groups.values()) == {"stem": 75, "other": 99, "dropped": 5}
    assert len(sites.groups) == 179
    for site in sites.groups:
        assert site.endswith((".stackexchange.com", ".com", ".net"))
        assert ".meta." not in site
    expected = {
        "stackoverflow.com": "stem",
        "math.stackexchange.com": "stem",
        "physics.stackexchange.com": "stem",
        "mathoverflow.net": "stem",
        "english.stackexchange.com": "other",
        "cooking.stackexchange.com": "other",
        "travel.stackexchange.com": "other",
    }
    for site, group in expected.items():  # the paper's own examples
        assert sites.groups[site] == group
    assert sites.pool("beer.stackexchange.com") == "stackexchange-other", "an older name"
    assert sites.pool("ai.meta.stackexchange.com") == "stackexchange-unlisted"
    assert sites.languages < set(sites.groups)
    assert sites.pool("ru.stackoverflow.com") == "stackexchange-other-languages"
    assert not set(sites.renamed) & set(sites.groups)
    assert set(sites.renamed.values()) <= set(sites.groups)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("stem: [a]\nother: [b]", "needs the lists"),
        ("stem: [a]\nother: [a]\ndropped: []", "more than once: a"),
        ("[1", "not a division"),
    ],
)
def test_a_bad_division_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sites.yaml"
    path.write_text(text)
    with pytest.raises(DataError, match=said):
        load_sites(str(path))
