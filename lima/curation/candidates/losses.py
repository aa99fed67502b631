"""What filters dropped from a pool: counts that say which one costs most."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Losses:
    """What filters dropped from a pool: counts by filter."""

    seen: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    only: Counter[str] = field(default_factory=Counter)
    """Candidates that no other filter objects to: relaxing this one alone would win them."""

    @classmethod
    def of(cls, reasons: Iterable[Sequence[str]]) -> "Losses":
        """Count the reasons of candidates; none means it was kept."""
        seen, dropped, only = 0, Counter[str](), Counter[str]()
        for names, count in Counter(map(frozenset, reasons)).items():
            seen += count
            dropped.update(dict.fromkeys(names, count))
            if len(names) == 1:
                only.update(dict.fromkeys(names, count))
        return cls(seen, dropped, only)

    @property
    def costliest(self) -> str:
        """The filter that alone keeps most candidates out; empty: none does."""
        ranked = sorted(
            self.dropped, key=lambda name: (-self.only[name], -self.dropped[name], name)
        )
        return ranked[0] if ranked else ""
