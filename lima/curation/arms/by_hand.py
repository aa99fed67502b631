"""What people did to a pool by hand: which candidates they picked, and what they edited.

Picks and edits are applied when arms are drawn, not when files are read. So a change of mind costs
a drawing and no reading, and the table `candidates` keeps the texts as they were.
"""

from dataclasses import dataclass
from hashlib import sha256

from lima.curation.arms.edits import Patches, parse_patches
from lima.curation.arms.picks import Picks, parse_picks
from lima.curation.candidates.candidate import Candidate
from lima.curation.reading.record_files import open_bytes
from lima.curation.sources.kinds import pools_of, resolved
from lima.errors import DataError
from lima.spec.curate import CurateSpec


@dataclass(frozen=True)
class Hands:
    """Picks and edits of one pool; None: it has no such file."""

    picks: Picks | None = None
    patches: Patches | None = None

    def may_take(self, source: str, source_id: str) -> bool:
        """Whether a candidate was picked, or needs no picking."""
        if self.picks is None:
            return True
        pick = self.picks.decisions.get((source, source_id))
        return pick is not None and pick.decision == "keep"

    def apply(self, candidate: Candidate) -> Candidate:
        """Return a candidate as an arm takes it; with another reason if it may not."""
        if self.picks is not None:
            candidate = self.picks.apply(candidate)
        return self.patches.apply(candidate) if self.patches else candidate


def load_hands(spec: CurateSpec) -> dict[str, Hands]:
    """Return what was done by hand to each pool of `spec`.

    A file of picks that is not there yet means that nothing is picked yet.

    Raises:
        DataError: a file of edits is not there, or a line of a file is neither.

    """
    found: dict[str, Hands] = {}
    for source in spec.sources:
        picks, patches = None, None
        if source.picks:
            path = resolved(source.picks, spec)
            picks = parse_picks(_bytes(path), path)
        if source.patches:
            path = resolved(source.patches, spec)
            patches = parse_patches(_bytes(path, needed=True), path)
        found.update(dict.fromkeys(pools_of(source), Hands(picks, patches)))
    return found


def hands_digest(spec: CurateSpec) -> str:
    """Return a hash of all files of picks and edits: another one, other arms."""
    paths = [p for source in spec.sources for p in (source.picks, source.patches) if p]
    return sha256(b"\0".join(_bytes(resolved(path, spec)) for path in paths)).hexdigest()


def _bytes(path: str, *, needed: bool = False) -> bytes:
    try:
        with open_bytes(path) as stream:
            return stream.read()
    except DataError:
        if needed:
            raise
        return b""
