"""US dollars, exactly: sums of binary floats drift, and a limit must hold to the last digit."""

from decimal import Decimal
from functools import lru_cache

ZERO = Decimal(0)
_PER_PRICE = Decimal(1_000_000)
"""Prices are of so many tokens."""


@lru_cache  # prices are few, and asked for with every request
def dollars(amount: float) -> Decimal:
    """Return a number of a spec or a table as what was written there: 0.1 is a tenth."""
    return Decimal(repr(amount))


def price_of(tokens: int, price: float) -> Decimal:
    """Return what tokens cost, US dollars.

    Args:
        tokens: how many.
        price: US dollars a million of them.

    """
    return tokens * dollars(price) / _PER_PRICE
