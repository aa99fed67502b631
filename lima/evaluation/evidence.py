"""What our tables say of each number of the paper."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import hypot
from typing import Any, TypeAlias

from lima.evaluation.agreement import DRAWS, Agreement, all_agreements
from lima.evaluation.correlation import Checkpoint, rank_correlation
from lima.evaluation.labels import MODEL, Label, of_kind
from lima.evaluation.lineage import Chain
from lima.evaluation.measures import Results, runs_of, summarise
from lima.evaluation.paper import (
    BOOTSTRAP,
    CLOPPER_PEARSON,
    CLUSTERED,
    EXACT,
    Fact,
    Ours,
    find_arm,
)
from lima.evaluation.rates import HUMAN, Labelled, Rate, first_labels

Found: TypeAlias = Ours | str
"""A number of ours, or why there is none."""


@dataclass(frozen=True)
class Evidence:
    """What the tables hold, and what the paper's arms are called in them."""

    labelled: Labelled
    chains: Sequence[Chain] = ()
    results: Results | None = None
    examples: Sequence[dict[str, Any]] = ()
    checkpoints: Sequence[Checkpoint] = ()
    curations: Sequence[dict[str, Any]] = ()
    named: Mapping[str, str] = field(default_factory=dict)
    draws: int = DRAWS
    seed: int = 0
    _agreements: list[Agreement] = field(default_factory=list)

    def of(self, fact: Fact) -> Found:
        """Return what we have on a fact."""
        what, *rest = fact.of
        return _FINDERS[what](self, *rest)

    def arm(self, name: str) -> str | None:
        """Return our name of an arm of the paper."""
        labels = self.labelled.labels
        arms = {c.arm for c in self.chains} | {x.arm_1 for x in labels}
        return find_arm(name, sorted(arms | {x.arm_2 for x in labels if x.arm_2}), self.named)

    def agreements(self) -> list[Agreement]:
        """Return the agreement of all groups on pairs, worked out once."""
        if not self._agreements:
            self._agreements.extend(
                all_agreements(self.labelled.labels, "preference", draws=self.draws, seed=self.seed)
            )
        return self._agreements


def _no_arm(name: str) -> str:
    return f"no arm is {name!r}; name yours with --arm {name}=ARM"


def _share(rate: Rate | None) -> Found:
    if rate is None:
        return "no labels"
    low, high = rate.interval
    return Ours(rate.value, low, high, CLOPPER_PEARSON, rate.total, rate.missing, *rate.bounds)


def _preference(has: Evidence, raters: str, baseline: str, outcome: str) -> Found:
    lima, other = has.arm("lima"), has.arm(baseline)
    if lima is None or other is None:
        return _no_arm("lima" if lima is None else baseline)
    groups = (MODEL,) if raters == "model" else HUMAN
    wanted = ("win", "tie") if outcome == "equal_or_better" else (outcome,)
    return _share(has.labelled.of("preference", lima, groups, other).rate(*wanted))


def _agreement(has: Evidence, first: str, second: str) -> Found:
    found = [a for a in has.agreements() if set(a.between) == {first, second}]
    if not found:
        return "no item has labels of both"
    accuracy = found[0].accuracy
    value = accuracy.value or 0.0
    return Ours(value, accuracy.low, accuracy.high, BOOTSTRAP, found[0].items)


def _absolute(has: Evidence, label: str) -> Found:
    arm = has.arm("lima")
    if arm is None:
        return _no_arm("lima")
    return _share(has.labelled.of("absolute", arm, HUMAN).rate(label))


def _out_of_distribution(has: Evidence, label: str) -> Found:
    flagged = _only(has, lambda x: bool(x.out_of_distribution))
    return _absolute(flagged, label) if flagged.labelled.labels else "no prompt is marked so"


def _safety(has: Evidence, which: str) -> Found:
    arm = has.arm("lima")
    if arm is None:
        return _no_arm("lima")
    part = has if which == "all" else _only(has, lambda x: bool(x.malicious))
    return _share(part.labelled.of("safety", arm, HUMAN).rate("safe"))


def _only(has: Evidence, keep: Callable[[Label], bool]) -> Evidence:
    """Return the part of the labels about some items: those with a label that says so."""
    items = {x.item_id for x in has.labelled.labels if keep(x)}
    labels = [x for x in has.labelled.labels if x.item_id in items]
    return replace(has, labelled=Labelled(labels, ()))


def _turns(has: Evidence, name: str) -> list[Label]:
    arm = has.arm(name)
    every = of_kind(has.labelled.labels, "dialogue")
    mine = [x for x in every if x.arm_1 == arm and x.arm_2 is None and x.turn is not None]
    return first_labels(x for x in mine if x.group in HUMAN)


def _dialogue(has: Evidence, name: str, label: str) -> Found:
    turns = _turns(has, name)
    return _share(Rate(sum(x.value == label for x in turns), len(turns)) if turns else None)


def _dialogue_failed(has: Evidence, name: str) -> Found:
    """Conversations with a failed answer among the first three."""
    turns = _turns(has, name)
    conversations = {x.conversation_id for x in turns}
    failed = {x.conversation_id for x in turns if x.value == "fail" and (x.turn or 0) <= 3}
    return _share(Rate(len(failed), len(conversations)) if turns else None)


def _dialogue_preference(has: Evidence, outcome: str) -> Found:
    """Whole dialogues with and without training on dialogues."""
    arm, other = has.arm("lima_dialogue"), has.arm("lima")
    if arm is None or other is None:
        return _no_arm("lima_dialogue" if arm is None else "lima")
    whole = [x for x in has.labelled.labels if x.conversation_id is not None and x.turn is None]
    pairs = [x for x in whole if {x.arm_1, x.arm_2} == {arm, other} and x.group in HUMAN]
    said = [x.for_arm(arm) for x in first_labels(pairs)]
    return _share(Rate(said.count(outcome), len(said)) if said else None)


def _cells(has: Evidence, name: str) -> list[Chain]:
    arm = has.arm(name)
    return [chain for chain in has.chains if chain.arm == arm]


def _score(has: Evidence, name: str) -> Found:
    row = summarise(has.results, _cells(has, name)) if has.results else {}
    if row.get("score") is None:
        return "no scores" if _cells(has, name) else _no_arm(name)
    missing = row["judged"] - row["scored"] + (row["not_judged"] or 0)
    return Ours(row["score"], row["ci_low"], row["ci_high"], CLUSTERED, row["scored"], missing,
                row["bound_low"], row["bound_high"])  # fmt: skip


def _score_difference(has: Evidence, first: str, second: str) -> Found:
    one, two = _score(has, first), _score(has, second)
    if isinstance(one, str) or isinstance(two, str):
        return one if isinstance(one, str) else two
    value, method = one.value - two.value, f"{CLUSTERED}, both arms"
    if one.high is None or two.high is None:
        return Ours(value, None, None, method)
    reach = hypot(one.high - one.value, two.high - two.value)
    rows = (one.n or 0) + (two.n or 0)
    return Ours(value, value - reach, value + reach, method, rows, one.missing + two.missing)


def _exact(values: Sequence[Any], what: str) -> Found:
    """Return a number without chance; what differs between runs is no number."""
    different = sorted({v for v in values if v is not None})
    if not different:
        return f"no {what}"
    if len(different) > 1:
        return f"runs differ: {', '.join(map(str, different))}"
    value = float(different[0])
    return Ours(value, value, value, EXACT, len(values))


def _setting(has: Evidence, name: str, path: str) -> Found:
    if name == "curation":
        specs = list(has.curations)
    else:
        specs = [chain.spec for chain in _cells(has, name)]
        if not specs:
            return _no_arm(name)
    return _exact([_at(spec, path.split(".")) for spec in specs], f"run with {path}")


def _at(value: Any, path: Sequence[str]) -> Any:
    """Return what lies at a path; an entry of a list goes by its name or its pool."""
    for key in path:
        if isinstance(value, list):
            found = [v for v in value if key in (v.get("name"), v.get("pool"))]
            value = found[0] if found else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _taken(has: Evidence, data_set: str, pools: Sequence[str]) -> list[list[dict[str, Any]]]:
    """Return the examples that a data set took from some pools, by run of curation."""
    by_run: dict[str, list[dict[str, Any]]] = {}
    for row in has.examples:
        if row["data_set"] == data_set and row["pool"] in pools and row["line"] is not None:
            by_run.setdefault(row["run_id"], []).append(row)
    return list(by_run.values())


def _count(has: Evidence, data_set: str, pools: Sequence[str]) -> Found:
    sizes = [len(rows) for rows in _taken(has, data_set, pools)]
    return _exact(sizes, f"data set {data_set!r} from {' and '.join(pools)}")


def _categories(has: Evidence, data_set: str, pools: Sequence[str]) -> Found:
    sizes = [len({row["category"] for row in rows}) for rows in _taken(has, data_set, pools)]
    return _exact(sizes, f"data set {data_set!r} from {' and '.join(pools)}")


def _examples(has: Evidence, name: str) -> Found:
    return _exact([chain.examples for chain in _cells(has, name)], f"training of {name!r}")


def _steps(has: Evidence, name: str) -> Found:
    training = has.results.training if has.results else {}
    steps = [training[run].steps for run in runs_of(_cells(has, name), "train", training)]
    return _exact(steps, f"training of {name!r}")


def _perplexity_sign(has: Evidence) -> Found:
    found = rank_correlation([(c.perplexity, c.score) for c in has.checkpoints])
    if found.value is None or found.low is None:
        return f"{found.points} checkpoints with score and perplexity; 4 are needed"
    return Ours(found.value, found.low, found.high, "Fisher's, for ranks", found.points)


def _range(has: Evidence, which: str) -> Found:
    values = [getattr(c, which) for c in has.checkpoints]
    if not values:
        return "no checkpoint has a score and a held-out perplexity"
    middle = sum(values) / len(values)
    return Ours(middle, min(values), max(values), "range over checkpoints", len(values))


_FINDERS: dict[str, Callable[..., Found]] = {
    "preference": _preference,
    "agreement": _agreement,
    "absolute": _absolute,
    "out_of_distribution": _out_of_distribution,
    "safety": _safety,
    "dialogue": _dialogue,
    "dialogue_failed": _dialogue_failed,
    "dialogue_preference": _dialogue_preference,
    "score": _score,
    "score_by_quantity": _score,
    "score_difference": _score_difference,
    "setting": _setting,
    "count": _count,
    "categories": _categories,
    "examples": _examples,
    "steps": _steps,
    "perplexity_sign": _perplexity_sign,
    "perplexity": lambda has: _range(has, "perplexity"),
    "checkpoint_score": lambda has: _range(has, "score"),
    "tokens": lambda *_: "lengths in tokens are in the data card of a curated set",
    "exchanges": lambda *_: "the tables do not tell kinds of exchanges apart",
}
