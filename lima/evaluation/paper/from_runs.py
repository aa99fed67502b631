"""What runs say of the paper's numbers: sections 2, 3 and 5, and appendix B."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import hypot

from lima.evaluation.cells.checkpoint_choice import Checkpoint, correlations, pairs_of
from lima.evaluation.cells.measures import runs_of, summarise
from lima.evaluation.paper.numbers import Ours
from lima.evaluation.paper.our_numbers import Evidence, Found, exact, no_arm
from lima.evaluation.paper.used_settings import used_of_cell, used_of_curation
from lima.evaluation.statistics.correlation import LEAST_POINTS, combined
from lima.evaluation.statistics.intervals import CLUSTERED, STUDENT, clustered_interval
from lima.spec import DataSpec
from lima.training.schedule import Plan


def score(has: Evidence, name: str) -> Found:
    """The mean score of an arm (figures 5 and 6)."""
    cells = has.cells(name)
    row = summarise(has.results, cells) if has.results else {}
    if row.get("score") is None:
        return "no scores" if cells else no_arm(name)
    missing = row["judged"] - row["scored"] + (row["not_judged"] or 0)
    return Ours(
        row["score"],
        row["ci_low"],
        row["ci_high"],
        CLUSTERED,
        row["scored"],
        missing,
        row["bound_low"],
        row["bound_high"],
    )


def score_difference(has: Evidence, first: str, second: str) -> Found:
    """How much better one arm scores than another (section 5)."""
    one, two = score(has, first), score(has, second)
    if isinstance(one, str) or isinstance(two, str):
        return one if isinstance(one, str) else two
    value, method = one.value - two.value, f"{CLUSTERED}, both arms"
    if one.low is None or one.high is None or two.low is None or two.high is None:
        return Ours(value, None, None, method)
    # From the ends of both (Zou and Donner, 2008), which need not be as far from the means.
    low = value - hypot(one.value - one.low, two.high - two.value)
    high = value + hypot(one.high - one.value, two.value - two.low)
    rows = (one.n or 0) + (two.n or 0)
    return Ours(value, low, high, method, rows, one.missing + two.missing)


def setting(has: Evidence, name: str, path: str) -> Found:
    """A setting of the runs of an arm, or of curation, as far as they did anything with it."""
    if name == "curation":
        used = [used_of_curation(spec, path) for spec in has.curated.specs]
    else:
        cells = has.cells(name)
        if not cells:
            return no_arm(name)
        used = [used_of_cell(cell, path, has.not_applied) for cell in cells]
    return exact(used, f"run that uses {path}")


def count(has: Evidence, data_set: str, pools: Sequence[str]) -> Found:
    """How many examples a data set has from some pools (table 1)."""
    sizes = [len(rows) for rows in has.curated.of(data_set, pools)]
    return exact(sizes, f"data set {data_set!r} from {' and '.join(pools)}")


def categories(has: Evidence, data_set: str, pools: Sequence[str]) -> Found:
    """How many categories they are from (section 2.1)."""
    sizes = [len({row.category for row in rows}) for rows in has.curated.of(data_set, pools)]
    return exact(sizes, f"data set {data_set!r} from {' and '.join(pools)}")


def exchanges(has: Evidence, group: str) -> Found:
    """How many exchanges there are of a set (section 2.1)."""
    return exact(has.curated.exchanges_of(group), "run of curation that read such exchanges")


def tokens(has: Evidence, data_set: str, pools: Sequence[str], side: str) -> Found:
    """How long prompts or responses are on average, in tokens (table 1)."""
    runs = has.curated.of(data_set, pools)
    if not runs:
        return f"no data set {data_set!r} from {' and '.join(pools)}"
    if len(runs) > 1:
        return f"{len(runs)} runs of curation have it; choose one with --experiment"
    lengths = [n for row in runs[0] if (n := getattr(row, side)) is not None]
    found = clustered_interval(lengths, [1] * len(lengths))
    if found.mean is None:
        return has.curated.uncounted or f"its examples have no {side}s"
    return Ours(found.mean, found.low, found.high, STUDENT, len(lengths))


def examples(has: Evidence, name: str) -> Found:
    """How many examples an arm was trained on."""
    return exact([chain.examples for chain in has.cells(name)], f"training of {name!r}")


def steps(has: Evidence, name: str) -> Found:
    """How many steps its training took."""
    training = has.results.training if has.results else {}
    found = [training[run].steps for run in runs_of(has.cells(name), "train", training)]
    return exact(found, f"training of {name!r}")


def steps_per_epoch(has: Evidence, name: str) -> Found:
    """How many steps an epoch of its training has; need not be whole."""
    plans = [
        Plan(c.examples, 1, c.spec["train"]["batch_size"], 0)
        for c in has.cells(name)
        if c.examples and c.spec.get("train")
    ]
    return exact([plan.steps_per_epoch for plan in plans], f"training of {name!r}")


def perplexity_sign(has: Evidence) -> Found:
    """How perplexity and score of checkpoints go together (appendix B).

    Within one training each: see `correlations` and `combined`.
    """
    every = correlations(_of_lima(has)).values()
    found = combined(list(every))
    if found.value is None or found.low is None:
        if found.points >= LEAST_POINTS:
            return "checkpoints with the same score or the same perplexity have no order"
        return f"{found.points} checkpoints with score and perplexity; {LEAST_POINTS} are needed"
    usable = sum(c.low is not None for c in every)
    method = "Fisher's, for ranks" + (f"; mean of {usable} series" if usable > 1 else "")
    return Ours(found.value, found.low, found.high, method, found.points)


def checkpoint_range(has: Evidence, which: int) -> Found:
    """From where to where the perplexity (0), or the score (1), of checkpoints goes (figure 9).

    The paper's perplexity is that of Stack Exchange; on other texts the same model has another.
    """
    if not has.cells("lima"):
        return no_arm("lima")
    points = _series(c for c in _of_lima(has) if pairs_of([c]))
    if not points:
        return "no two checkpoints of one training have a score and a held-out perplexity"
    if which == 0:
        others = {c.heldout for c in points if c.heldout and not _is_stackexchange(c.heldout)}
        points = [c for c in points if c.heldout not in others]
        if not points:
            names = " and ".join(sorted(_named(data) for data in others))
            return f"measured on {names}; the paper's is on Stack Exchange"
    values = [pair[which] for pair in pairs_of(points)]
    middle = sum(values) / len(values)
    return Ours(middle, min(values), max(values), "range over checkpoints", len(values))


def _series(checkpoints: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Return the checkpoints that have others of their series beside them."""
    listed = list(checkpoints)
    counts = Counter(c.label for c in listed)
    return [c for c in listed if counts[c.label] > 1]


def _of_lima(has: Evidence) -> list[Checkpoint]:
    """Return the checkpoints of LIMA, which appendix B is about; without LIMA, those of all."""
    arm = has.arm("lima") if has.cells("lima") else None
    return [c for c in has.checkpoints if arm in (None, c.arm)]


def _is_stackexchange(data: DataSpec) -> bool:
    """Say whether examples may be those of Stack Exchange, as far as their names tell."""
    texts = ["".join(c for c in text.lower() if c.isalnum()) for text in (data.path, *data.sources)]
    path, *sources = ["stackexchange" in text for text in texts]
    return path or (bool(sources) and all(sources))


def _named(data: DataSpec) -> str:
    """Return a selection of examples in words."""
    size = f"{data.count:,d} examples of " if data.count else ""
    return f"{size}{data.path}" + (f" from {', '.join(data.sources)}" if data.sources else "")
