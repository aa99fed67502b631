"""Picks: what a person chose from a shortlist, kept as a file and replayed (section 2.1).

A line of JSONL a decision, sorted, so that two files compare well:

    {"source": "writingprompts", "source_id": "7ueit9/d88zq3w", "decision": "keep",
     "text": "sha256 of the utterances", "title": "You wake up …"}

What is not picked is not taken. A text that is not the one that was read is not taken either:
picks are of words, not of places.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec

from lima.curation.candidates.candidate import Candidate
from lima.errors import DataError
from lima.spec.codec import sha256_key

Decision = Literal["keep", "drop"]
NOT_PICKED, DROPPED, CHANGED = "not_picked", "picked_out", "changed_since_picked"
TITLE = 80


@dataclass(frozen=True, order=True)
class Pick:
    """A decision of a person about one candidate."""

    source: str
    source_id: str
    decision: Decision
    text: str
    """sha256 of the utterances that were read."""
    title: str = ""
    """How the prompt begins, for whoever reads the file."""


@dataclass
class Picks:
    """The decisions of a file, by candidate."""

    decisions: dict[tuple[str, str], Pick] = field(default_factory=dict)

    def of(self, candidate: Candidate) -> Pick | None:
        """Return the decision about a candidate's present text."""
        pick = self.decisions.get((candidate.source, candidate.source_id))
        return pick if pick and pick.text == text_key(candidate) else None

    def set(self, candidate: Candidate, decision: Decision | None) -> None:
        """Decide about a candidate; None takes the decision back."""
        name = (candidate.source, candidate.source_id)
        self.decisions.pop(name, None)
        if decision is not None:
            title = candidate.conversation[0][:TITLE]
            self.decisions[name] = Pick(*name, decision, text_key(candidate), title)

    def apply(self, candidate: Candidate) -> Candidate:
        """Return the candidate, with a reason unless it was picked with this very text."""
        pick = self.decisions.get((candidate.source, candidate.source_id))
        if pick is None:
            reason = NOT_PICKED
        elif pick.decision == "drop":
            reason = DROPPED
        elif pick.text != text_key(candidate):
            reason = CHANGED
        else:
            return candidate
        return replace(candidate, reasons=(*candidate.reasons, reason))


def text_key(candidate: Candidate) -> str:
    """Return the sha256 of the utterances that a person reads."""
    return sha256_key(list(candidate.conversation))


def parse_picks(data: bytes, where: str) -> Picks:
    """Return the picks of a JSONL file; of two decisions about one candidate the later.

    Raises:
        DataError: a line is not a pick.

    """
    picks = Picks()
    for number, line in enumerate(data.split(b"\n"), start=1):
        if line.strip():
            try:
                pick = msgspec.json.decode(line, type=Pick)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}:{number}: not a pick ({error})") from None
            picks.decisions[pick.source, pick.source_id] = pick
    return picks


def dump_picks(picks: Iterable[Pick]) -> bytes:
    """Return picks as the lines of a file, sorted."""
    return b"".join(msgspec.json.encode(pick) + b"\n" for pick in sorted(picks))
