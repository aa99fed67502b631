"""Arms as selections from the candidates: quotas, ranking, gates, and nothing filled silently."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from lima.curation.arms.assembly import (
    Admission,
    Assembly,
    Choice,
    Objection,
    Part,
    Rejection,
    Shortage,
    assemble,
)
from lima.curation.arms.by_hand import load_hands
from lima.curation.arms.picks import NOT_PICKED
from lima.curation.arms.ranking import ALL, Ranking
from lima.curation.arms.temperature_quotas import quotas
from lima.curation.arms.undrawn import undrawn
from lima.curation.candidates.candidate import Candidate
from lima.curation.candidates.losses import Losses
from lima.curation.candidates.table import CandidateStore, losses, total
from lima.curation.stackexchange.sites import POOL
from lima.errors import DataError
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec

SPLITS = ("test", "dev", "train")
"""In the order in which they are drawn: what is held out is known before training data is."""


@dataclass
class DrawnArm:
    """An arm with its examples."""

    spec: ArmSpec
    inherited: list[tuple[str, Choice]] = field(default_factory=list)
    """Arm that took it first, and the example."""
    assembly: Assembly = field(default_factory=Assembly)

    @property
    def choices(self) -> list[Choice]:
        """All examples in the order of lines, inherited ones first."""
        return [*(choice for _, choice in self.inherited), *self.assembly.chosen]

    @property
    def examples(self) -> list[Candidate]:
        """The texts of `choices`."""
        return [choice.candidate for choice in self.choices]


class _Recording(Admission):
    """Gates that also tell what has passed them."""

    def __init__(self, spec: CurateSpec, arm: ArmSpec, heldout: Iterable[Candidate]) -> None:
        super().__init__(
            near_duplicate=spec.assembly.near_duplicate,
            overlap_words=spec.assembly.overlap_words,
            refuse_licences=spec.assembly.refuse_licences,
            heldout=heldout,
            responses=arm.split == "train",
        )
        self.admitted: set[str] = set()

    def admit(self, candidate: Candidate) -> None:
        super().admit(candidate)
        self.admitted.add(candidate.key)


def draw_arms(spec: CurateSpec, store: CandidateStore) -> list[DrawnArm]:
    """Return the arms of `spec`, in its order.

    Test arms are drawn first, then dev arms, which avoid their prompts, then training arms, which
    avoid both. An arm that extends others holds all of their examples.

    Raises:
        DataError: an exact arm cannot be filled; every shortage is told with its numbers.

    """
    drawer = _Drawer(spec, store)
    for split in SPLITS:
        heldout = [c for a in drawer.drawn.values() for c in a.examples if a.spec.split != split]
        for arm in spec.arms:
            if arm.split == split:
                drawer.draw(arm, heldout)
    _refuse_shortages(drawer.drawn.values())
    return [drawer.drawn[arm.name] for arm in spec.arms]


def check_arms(spec: CurateSpec, pools: Iterable[str]) -> None:
    """Refuse arms that cannot be drawn, before anything is read.

    Raises:
        DataError: two arms share a name, one extends an arm that is not drawn before it, or a
            part draws from a pool that no source makes.

    """
    known = set(pools)
    names = Counter(arm.name for arm in spec.arms)
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(f"curate.arms: more than one arm is called {', '.join(twice)}")
    before: list[str] = []
    for arm in sorted(spec.arms, key=lambda arm: SPLITS.index(arm.split)):
        if missing := [name for name in arm.extends if name not in before]:
            raise DataError(
                f"curate.arms: {arm.name} extends {', '.join(missing)}, which is not drawn before "
                f"it; drawn before it: {', '.join(before) or 'nothing'}"
            )
        if unknown := sorted({part.pool for part in arm.parts} - known):
            raise DataError(
                f"curate.arms: {arm.name} draws from {', '.join(unknown)}, which no source fills; "
                f"pools: {', '.join(sorted(known))}"
            )
        before.append(arm.name)


class _Drawer:
    """Draws arm after arm."""

    def __init__(self, spec: CurateSpec, store: CandidateStore) -> None:
        self.spec, self.store, self.records = spec, store, store.records()
        self.hands = load_hands(spec)
        self.rankings: dict[tuple[str, bool, str], Ranking] = {}
        self.drawn: dict[str, DrawnArm] = {}

    def draw(self, arm: ArmSpec, heldout: Sequence[Candidate]) -> None:
        """Draw an arm that avoids `heldout`."""
        result, gates = DrawnArm(arm), _Recording(self.spec, arm, heldout)
        for name in arm.extends:
            for choice in self.drawn[name].choices:
                if choice.candidate.key not in gates.admitted:
                    gates.admit(choice.candidate)
                    result.inherited.append((name, choice))
        for part in arm.parts:
            _Part(self, part, result, gates).draw()
        self.drawn[arm.name] = result

    def ranking(self, part: PartSpec) -> Ranking:
        """Return the ranking of a part; parts that differ in counts only share one."""
        key = (part.pool, part.filtered, part.order)
        if key not in self.rankings:
            hands = self.hands[part.pool]
            may_take = hands.may_take if hands.picks is not None else None
            self.rankings[key] = Ranking(self.store, self.records, part, self.spec.seed, may_take)
        return self.rankings[key]


class _Part:
    """One part of one arm, while it is drawn."""

    def __init__(self, drawer: _Drawer, part: PartSpec, arm: DrawnArm, gates: _Recording) -> None:
        self.drawer, self.part, self.arm, self.gates = drawer, part, arm, gates
        self.ranking, self.hands = drawer.ranking(part), drawer.hands[part.pool]
        inherited = [c for _, c in arm.inherited if c.pool == part.pool]
        balanced = part.balance != "none"
        self.taken = Counter(c.candidate.category if balanced else ALL for c in inherited)

    def draw(self) -> None:
        """Add to the arm what the part draws."""
        sizes, kept = self._sizes()
        shares = quotas(self.part, self.drawer.spec.seed, sizes, kept, self.taken)
        asked = {name: count - self.taken[name] for name, count in shares.counts.items()}
        missing = (self.part.count or 0) - sum(shares.counts.values())
        if missing > 0:  # asked for all the same, so that the shortage is told
            fullest = max(asked, key=lambda name: (kept[name], name), default=ALL)
            asked[fullest] = asked.get(fullest, 0) + missing
        self.ranking.prepare(shares.counts)
        part = Part(self.part.pool, tuple(asked.items()))
        got = assemble([part], self._offers, self.gates, self._losses)
        assembly = self.arm.assembly
        assembly.chosen += got.chosen
        assembly.rejected += got.rejected
        if self.part.count is not None:
            assembly.shortages += map(self._explained, got.shortages)
        if self.part.balance != "none":
            final = self.taken + Counter(choice.category for choice in got.chosen)
            assembly.moved += [
                (self.part.pool, name, final[name] - ideal)
                for name, ideal in shares.ideal.items()
                if final[name] != ideal
            ]

    def _sizes(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return the size of each category, and how many of it can be drawn."""
        counts = total(self.drawer.records, self.part.pool)
        sizes = {name: n.usable for name, n in counts.items() if n.usable}
        if self.hands.picks is not None:
            picked = self.ranking.count()
            kept = {name: picked.get(name, 0) for name in sizes}
        else:
            kept = {name: n.kept if self.part.filtered else n.usable for name, n in counts.items()}
        if self.part.balance == "none":
            return {ALL: sum(sizes.values())}, {ALL: sum(kept.values())}
        return sizes, kept

    def _offers(self, pool: str, category: str) -> Iterator[Candidate]:
        """Yield what can be taken of a category, with its edits, and no more than allowed."""
        limit = self.part.per_category
        left = None if limit is None else limit - self.taken[category]
        for original in self.ranking.offers(category):
            if left is not None and left <= 0:
                return
            candidate = self.hands.apply(original)
            if new := candidate.reasons[len(original.reasons) :]:
                objection = Objection(new[0], "by hand")
                self.arm.assembly.rejected.append(Rejection(pool, category, candidate, objection))
                continue
            yield candidate
            if left is not None and candidate.key in self.gates.admitted:
                left -= 1

    def _explained(self, shortage: Shortage) -> Shortage:
        elsewhere = "; ".join(undrawn(self.drawer.records, self.drawer.spec))
        of_sites = shortage.pool.startswith(POOL.format(""))
        return replace(shortage, elsewhere=elsewhere) if of_sites else shortage

    def _losses(self, pool: str) -> Losses:
        found = losses(self.drawer.records, pool)
        if self.hands.picks is None:
            return found
        kept = sum(n.kept for n in total(self.drawer.records, pool).values())
        not_picked = kept - sum(self.ranking.count().values())
        more = Counter({NOT_PICKED: not_picked})
        return Losses(found.seen, found.dropped + more, found.only + more)


def _refuse_shortages(arms: Iterable[DrawnArm]) -> None:
    short = [
        f"{arm.spec.name}: {shortage}"
        for arm in arms
        for shortage in arm.assembly.shortages
        if arm.spec.exact
    ]
    if short:
        raise DataError(
            "not enough candidates:\n  " + "\n  ".join(short) + "\n  Add data, relax that filter, "
            "ask for less, or set `exact: false` on the arm; all candidates are kept, so the same "
            "command only draws again"
        )
