"""What the paper reports, and how a number of ours stands to it (sections 2 to 6, appendix B)."""

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta

from lima.evaluation.statistics.intervals import (
    CLOPPER_PEARSON,
    EXACT,
    clopper_pearson,
    rows_for_width,
)
from lima.spec.codec import decode
from lima.spec.yamltext import load_yaml

Status: TypeAlias = Literal["within", "outside", "underpowered", "no data"]
Name: TypeAlias = str | tuple[str, ...]
SLACK = 1.25
"""Our interval may be so many times as wide as the paper's own before it says too little."""

WHOLE = 1000
"""From here on numbers are written without a fraction."""

MARKS = {
    "S": "the paper's own text",
    "sec": "a public secondary source that agrees with the paper",
    "der": "own arithmetic from the paper's text",
}


@dataclass(frozen=True)
class Fact:
    """A number of the paper.

    Args:
        of: what was measured, from the general to the particular.
        section: where the paper tells it.
        mark: where the number is taken from (see `MARKS`).
        value: the number, or the lower end of a range.
        to: the upper end of a range.
        n: rows that it is a share of.
        rows: rows that it is a mean of, whose spread the paper does not give.
        width: widest interval that still says enough, where the paper gives no rows.

    """

    of: tuple[Any, ...]
    section: str
    mark: Literal["S", "sec", "der"]
    value: float
    to: float | None = None
    n: Annotated[int, Meta(ge=1)] | None = None
    rows: Annotated[int, Meta(ge=1)] | None = None
    width: float | None = None

    @property
    def name(self) -> str:
        """What was measured, as one text."""
        return "/".join("+".join(p) if isinstance(p, list) else str(p) for p in self.of)

    @property
    def is_sign(self) -> bool:
        """Whether the paper tells only that the number is above zero."""
        return (self.value, self.to) == (0, 1) and self.n is None

    @property
    def enough(self) -> int | None:
        """How many rows of ours tell a mean about as well as the paper's own do."""
        return None if self.rows is None else math.ceil(self.rows / SLACK**2)

    @property
    def top(self) -> float:
        """The upper end of what the paper reports."""
        return self.value if self.to is None else self.to

    @property
    def widest(self) -> float | None:
        """How wide an interval of ours may be to say as much as the paper's own would."""
        if self.width is not None:
            return self.width
        if self.n is None:
            return None
        low, high = clopper_pearson(round(self.value * self.n), self.n)
        return SLACK * (high - low)


@dataclass(frozen=True)
class Ours:
    """What our tables say of a fact.

    Args:
        value: the number.
        low: lower end of its 95 % interval; that of an exact count is the number.
        high: upper end.
        method: how the interval was made; "exact" for what has no chance in it.
        n: rows that it rests on.
        missing: rows that should have a value and have none.
        bound_low: how low the value could be, whatever the missing rows deserve.
        bound_high: how high.

    """

    value: float
    low: float | None
    high: float | None
    method: str
    n: int | None = None
    missing: int = 0
    bound_low: float | None = None
    bound_high: float | None = None


@dataclass(frozen=True)
class Compared:
    """A fact, ours beside it, and what that says; `rows_needed` would settle it."""

    fact: Fact
    ours: Ours | None
    status: Status
    rows_needed: int | None
    why: str | None


@cache
def paper_facts() -> tuple[Fact, ...]:
    """Return all numbers of the paper, in its order."""
    text = (resources.files("lima.evaluation.paper") / "numbers.yaml").read_text("utf-8")
    return tuple(decode(Fact, entry, f"paper.yaml[{i}]") for i, entry in enumerate(load_yaml(text)))


def written(value: float) -> str:
    """Return a number as people write it: 52,000, 31.25, 3.83, 1e-05."""
    return f"{value:,.0f}" if abs(value) >= WHOLE else f"{value:.4g}"


def judge_fact(fact: Fact, ours: Ours | str) -> Compared:
    """Say how ours stands to the paper's; `ours` is a text that says why there is none.

    Within: our 95 % interval holds the paper's value (or touches its range) and is about as
    narrow as the paper's own would be with its number of rows. Underpowered: it holds the value,
    but would hold very different ones too, or rests on too few rows to have an interval. Outside:
    it does not hold it.
    """
    if isinstance(ours, str):
        return Compared(fact, None, "no data", fact.n or fact.enough, ours)
    if ours.method != EXACT and _has_no_interval(fact, ours):
        return Compared(fact, ours, "underpowered", _rows_needed(fact, ours), None)
    low, high = _ends(ours)
    if low > fact.top + _tolerance(fact) or high < fact.value - _tolerance(fact):
        return Compared(fact, ours, "outside", None, None)
    if ours.method != EXACT and _says_little(fact, ours):
        return Compared(fact, ours, "underpowered", _rows_needed(fact, ours), None)
    return Compared(fact, ours, "within", None, None)


def _has_no_interval(fact: Fact, ours: Ours) -> bool:
    """Say whether ours rests on too little to tell any value from another.

    Rows that are all alike have an interval without a width, though the next one may differ, and
    means of few lengths, which are skewed, one that is too narrow.
    """
    few = fact.enough is not None and (ours.n or 0) < fact.enough
    return few or ours.low is None or ours.low == ours.high


def _says_little(fact: Fact, ours: Ours) -> bool:
    """Say whether ours would hold very different values too."""
    low, high = _ends(ours)
    if fact.is_sign and low <= 0 <= high:
        return True
    return fact.widest is not None and high - low > fact.widest


def _ends(ours: Ours) -> tuple[float, float]:
    return (
        ours.value if ours.low is None else ours.low,
        ours.value if ours.high is None else ours.high,
    )


def _tolerance(fact: Fact) -> float:
    """Return half a unit of the last digit: shares are given in per cent or a tenth of it."""
    if fact.rows is not None:  # lengths, in whole tokens
        return 0.5
    if fact.n is None:
        return abs(fact.value) * 1e-9
    percent = fact.value * 100
    return 0.005 if abs(percent - round(percent)) < 1e-9 else 0.0005


def _rows_needed(fact: Fact, ours: Ours) -> int | None:
    """Return how many rows would make our interval narrow enough; None: unknown."""
    widest = fact.widest
    if fact.is_sign and ours.value > 0:
        reach = 1.96 * math.sqrt(1 + ours.value**2 / 2) / math.atanh(min(ours.value, 0.999))
        return math.ceil(3 + reach**2)
    if widest is None:
        return fact.enough
    if ours.method == CLOPPER_PEARSON:
        return rows_for_width(ours.value, widest)
    if ours.n is None or ours.low is None or ours.high is None:
        return fact.n
    return math.ceil(ours.n * ((ours.high - ours.low) / widest) ** 2)
