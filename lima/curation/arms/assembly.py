"""Assembly: exact counts from ordered candidates, and a reason for all that is turned away.

A part of an arm says how many of each category it takes. Candidates are offered best first and
walked lazily: the first that pass every gate are taken, until the count is full. So an arm reads
only as many texts as it needs, the winner of a group of duplicates is the one that comes first in
the order, and neither depends on processes or on the order of input files.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lima.curation.arms.decontamination import RUN, HeldOut
from lima.curation.arms.licence_policy import refused
from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.losses import Losses
from lima.curation.text.near_duplicates import THRESHOLD, DuplicateIndex

Offers = Callable[[str, str], Iterator[Candidate]]
"""`(pool, category)` to the candidates on offer, best first."""


@dataclass(frozen=True)
class Part:
    """What an arm takes from one pool."""

    pool: str
    shares: tuple[tuple[str, int], ...]
    """`(category, count)`; a category of "" with a single share means all of the pool."""

    @property
    def count(self) -> int:
        """How many in all."""
        return sum(count for _, count in self.shares)


@dataclass(frozen=True)
class Objection:
    """Why a gate turns a candidate away."""

    reason: str
    """no_response, licence, taken, duplicate, near_duplicate or contaminated."""
    evidence: str
    other: str = ""
    """Key of the candidate that it repeats or overlaps with."""


@dataclass(frozen=True)
class Choice:
    """A candidate that an arm takes."""

    pool: str
    category: str
    candidate: Candidate


@dataclass(frozen=True)
class Rejection:
    """A candidate that was offered to an arm and turned away."""

    pool: str
    category: str
    candidate: Candidate
    objection: Objection


@dataclass(frozen=True)
class Shortage:
    """A part that could not be filled."""

    pool: str
    asked: int
    found: int
    losses: Losses = field(default_factory=Losses)
    """Of the filters and of the gates, over all candidates of the pool."""
    elsewhere: str = ""
    """Of a pool without candidates: where those that were read are."""

    def __str__(self) -> str:
        """Say what is missing and what costs most."""
        text = f"{self.pool}: {self.asked} asked for, {self.found} found"
        text += f" among {self.losses.seen} candidates"
        if not self.losses.seen:
            return f"{text}: {self.elsewhere or 'check the paths of its source'}"
        name = self.losses.costliest
        if not name:
            return f"{text}; no filter dropped any: add more data or ask for less"
        return (
            f"{text}; most are lost to {name!r}: {self.losses.dropped[name]} dropped, "
            f"{self.losses.only[name]} by it alone"
        )


@dataclass
class Assembly:
    """An arm: what it takes, what it turned away, what it lacks."""

    chosen: list[Choice] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)
    moved: list[tuple[str, str, int]] = field(default_factory=list)
    """`(pool, category, difference)` from the shares asked for, where one could not be filled
    and the pool's other categories stood in."""
    shortages: list[Shortage] = field(default_factory=list)


class Admission:
    """The gates in front of an arm: response, licence, identity, duplicates, held-out prompts."""

    def __init__(
        self,
        *,
        near_duplicate: float = THRESHOLD,
        overlap_words: int = RUN,
        refuse_licences: Sequence[str] = (),
        heldout: Iterable[Candidate] = (),
        responses: bool = False,
    ) -> None:
        """Guard an arm.

        Args:
            near_duplicate: Jaccard similarity of shingles from which texts are the same.
            overlap_words: Words in a row shared with a held-out prompt that exclude.
            refuse_licences: Globs of licences.
            heldout: What dev and test arms took; their keys and prompts are kept out.
            responses: Whether an example must end with a response, as for training.

        """
        self._responses = responses
        held = list(heldout)
        self._refuse = tuple(refuse_licences)
        self._taken = {c.key: ("a held-out set", c.conversation) for c in held}
        self._duplicates = DuplicateIndex(near_duplicate)
        self._heldout = HeldOut(
            ((c.key, text) for c in held for text in c.conversation[::2]), overlap_words
        )

    def check(self, candidate: Candidate) -> Objection | None:
        """Return why a candidate cannot be taken; None if it can."""
        if self._responses and len(candidate.conversation) % 2:
            return Objection("no_response", "it ends with the user; training needs a response")
        return self._check_terms(candidate) or self._check_words(candidate)

    def _check_terms(self, candidate: Candidate) -> Objection | None:
        if name := refused(candidate.provenance.licence, self._refuse):
            return Objection("licence", name)
        if taken := self._taken.get(candidate.key):
            where, text = taken
            other = "" if text == candidate.conversation else ", with another text of this id"
            return Objection("taken", f"already in {where}{other}", candidate.key)
        return None

    def _check_words(self, candidate: Candidate) -> Objection | None:
        if overlap := self._heldout.find(candidate.conversation):
            evidence = f"{overlap.words} words, {overlap.share:.0%} of the prompt: {overlap.text}"
            return Objection("contaminated", evidence, overlap.key)
        if match := self._duplicates.find(_text(candidate)):
            if match.exact:
                return Objection("duplicate", "the same words", match.key)
            evidence = f"Jaccard similarity {match.similarity:.2f}"
            return Objection("near_duplicate", evidence, match.key)
        return None

    def admit(self, candidate: Candidate) -> None:
        """Take a candidate: what repeats it from now on is turned away."""
        self._taken[candidate.key] = ("this arm", candidate.conversation)
        self._duplicates.add(candidate.key, _text(candidate))


def assemble(
    parts: Sequence[Part],
    offers: Offers,
    admission: Admission,
    losses: Callable[[str], Losses] = lambda _: Losses(),
) -> Assembly:
    """Fill the parts of an arm in turn, exactly.

    A category that runs out is stood in for by the other categories of its part, one of each in
    turn, and said so in `moved`. What is still missing is a shortage.

    Args:
        parts: What to take.
        offers: Candidates that the filters keep, best first, of a pool and a category.
        admission: The gates; it keeps what earlier arms or parts have put in.
        losses: What the filters dropped from a pool, to explain a shortage.

    """
    arm = Assembly()
    for part in parts:
        walks = {name: offers(part.pool, name) for name, _ in part.shares}
        taken: Counter[str] = Counter()
        for name, count in part.shares:
            while taken[name] < count and _take(arm, part.pool, name, walks[name], admission):
                taken[name] += 1
        _stand_in(arm, part, walks, taken, admission)
        found = taken.total()
        if found < part.count:
            dropped = losses(part.pool)
            arm.shortages.append(
                Shortage(part.pool, part.count, found, _joined(dropped, arm, part))
            )
    return arm


def to_jsonl(conversations: Iterable[tuple[Sequence[str], str]]) -> bytes:
    """Return `(conversation, source)` as JSONL in LIMA's layout."""
    lines = (
        json.dumps({"conversations": list(turns), "source": source}, ensure_ascii=False) + "\n"
        for turns, source in conversations
    )
    return "".join(lines).encode()


def _take(
    arm: Assembly, pool: str, category: str, walk: Iterator[Candidate], admission: Admission
) -> bool:
    """Take the next candidate of a walk that passes the gates; False: there is none left."""
    for candidate in walk:
        objection = admission.check(candidate)
        if objection is None:
            admission.admit(candidate)
            arm.chosen.append(Choice(pool, category, candidate))
            return True
        arm.rejected.append(Rejection(pool, category, candidate, objection))
    return False


def _stand_in(
    arm: Assembly,
    part: Part,
    walks: dict[str, Iterator[Candidate]],
    taken: Counter[str],
    admission: Admission,
) -> None:
    """Fill what categories lack from the others of the part, and note every difference."""
    waiting = [name for name, count in part.shares if taken[name] == count]
    while waiting and taken.total() < part.count:
        name = waiting.pop(0)
        if _take(arm, part.pool, name, walks[name], admission):
            taken[name] += 1
            waiting.append(name)
    for name, count in part.shares:
        if taken[name] != count and len(part.shares) > 1:
            arm.moved.append((part.pool, name, taken[name] - count))


def _joined(filters: Losses, arm: Assembly, part: Part) -> Losses:
    """Return what filters and gates together cost a pool."""
    turned = [(r.objection.reason,) for r in arm.rejected if r.pool == part.pool]
    taken = sum(choice.pool == part.pool for choice in arm.chosen)
    gates = Losses.of(turned)
    return Losses(
        max(filters.seen, len(turned) + taken),
        filters.dropped + gates.dropped,
        filters.only + gates.only,
    )


def _text(candidate: Candidate) -> str:
    return "\n".join(candidate.conversation)
