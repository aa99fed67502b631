"""A candidate: every conversation that curation saw, whether it is kept or not (section 2).

Sources yield candidates; arms and splits are selections from them. Nothing is thrown away
silently: what a filter measured, and every filter that objects, stays with the candidate.
"""

from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from json import JSONEncoder

_CANONICAL = JSONEncoder(separators=(",", ":"), ensure_ascii=False)
"""As `lima.spec.codec.canonical_json` for texts, at a quarter of the time."""


@dataclass(frozen=True)
class Provenance:
    """Where a text comes from, as its licence wants it said."""

    url: str = ""
    authors: tuple[str, ...] = ()
    licence: str = ""
    created: datetime | None = None
    changes: str = ""
    """What curation changed in the text, in words; empty: nothing."""


@dataclass(frozen=True)
class Candidate:
    """A conversation with its provenance and what the filters said of it."""

    source: str
    """Kind and collection: `stackexchange/ai.stackexchange.com`, `wikihow`, `authored`."""
    source_id: str
    """Name of the original within the source: post ids, task and instance, line."""
    conversation: tuple[str, ...]
    """Utterances in turn, the user's first; only a prompt for a test set."""
    category: str = ""
    """What sampling is balanced over: a site, a wikiHow category, a task."""
    tags: tuple[str, ...] = ()
    """Labels that the source gave it."""
    score: int | None = None
    provenance: Provenance = Provenance()
    measures: dict[str, float] = field(default_factory=dict)
    """What each filter measured, by the filter's name."""
    reasons: tuple[str, ...] = ()
    """The filters that object; empty: the candidate can be kept."""
    passed_over: tuple[str, ...] = ()
    """Originals that this one was preferred to: answers with a lower score, as `id:score`."""
    where: str = field(default="", compare=False)
    """File and row of a source of rows, while it is read; no table holds it."""

    @property
    def keep(self) -> bool:
        """Whether no filter objects."""
        return not self.reasons

    @property
    def key(self) -> str:
        """sha256 of source and source id: stable under changes of the text and the filters."""
        return sha256(_CANONICAL.encode([self.source, self.source_id]).encode()).hexdigest()
