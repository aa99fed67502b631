"""Damaged input: counted, with a few examples, while the rest goes on; strict mode stops."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from lima.errors import DataError

EXAMPLES = 5
"""Places that are kept for each kind of damage."""


@dataclass
class Damage:
    """A log of what could not be read. Kinds are short and stable, places are precise."""

    strict: bool = False
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def note(self, where: str, what: str, detail: str = "") -> None:
        """Count one damaged thing.

        Args:
            where: The file and the place in it, as `Posts.xml: row 12`.
            what: The kind of damage in few words, the same for all of its kind.
            detail: What is particular to this one.

        Raises:
            DataError: in strict mode, at once.

        """
        place = f"{where}: {detail}" if detail else where
        if self.strict:
            raise DataError(
                f"{where}: {what}{f' ({detail})' if detail else ''}; mend the file, or set "
                "curate.strict=false to leave out what is damaged and go on"
            )
        self.counts[what] += 1
        kept = self.examples.setdefault(what, [])
        if len(kept) < EXAMPLES:
            kept.append(place)

    def merge(self, others: "Iterable[Damage]") -> "Damage":
        """Add what other logs hold, in their order; return this one."""
        for other in others:
            self.counts.update(other.counts)
            for what, places in other.examples.items():
                kept = self.examples.setdefault(what, [])
                kept.extend(places[: EXAMPLES - len(kept)])
        return self

    def to_json(self) -> dict[str, Any]:
        """Return the log as plain data: kind to count and examples, sorted."""
        return {
            what: {"count": self.counts[what], "examples": self.examples[what]}
            for what in sorted(self.counts)
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Damage":
        """Return the log that `to_json` wrote."""
        return cls(
            counts=Counter({what: entry["count"] for what, entry in data.items()}),
            examples={what: list(entry["examples"]) for what, entry in data.items()},
        )
