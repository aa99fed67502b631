"""The figures of a report: which data each shows, and what it says in words (section 5)."""

import math
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from lima.evaluation.cells.checkpoint_choice import Checkpoint, pairs_of
from lima.evaluation.cells.lines import Series, series_of
from lima.evaluation.cells.measures import OWN_STAGES, runs_of, summarise
from lima.evaluation.cells.settings import settings
from lima.evaluation.cells.study_data import Points, Study, lengths_of, mean_curve, quantile
from lima.evaluation.paper.numbers import paper_facts
from lima.evaluation.report import chart_kinds as figures
from lima.evaluation.report.chart_kinds import Bar, Curve, Range
from lima.evaluation.report.drawing import Drawing
from lima.runs.effort import Effort, total_effort
from lima.runs.lineage import Chain
from lima.spec import STAGES, Stage
from lima.store.values import FINISH_REASONS

SIZE = "train.data.count"
FAR = 5
"""Perplexities so many times as large as others are drawn on a logarithmic axis."""
PAPER_HUE = 7
"""Colour of what the paper reports; the arms of a study begin with the first one."""


@dataclass(frozen=True)
class Panel:
    """A figure, what it says in words, and what it is about; its texts are the page's."""

    drawing: Drawing
    alt: str
    about: str = ""


def panels(
    study: Study, points: Sequence[Checkpoint], theirs: Mapping[str, str | None]
) -> dict[str, Panel | None]:
    """Return the figures of a study by name; None where the data for one is missing.

    Args:
        study: as read from storage.
        points: its checkpoints.
        theirs: which arm of the paper each arm is; None: none of them.

    """
    makers: tuple[Callable[[Study], Panel | None], ...] = (
        loss,
        perplexity,
        lengths,
        stops,
        attempts,
        hours,
    )
    return {
        "checkpoints": checkpoints(points),
        "score": score(study, theirs),
        "quantity": quantity(study, theirs),
        **{m.__name__: m(study) for m in makers},
    }


def loss(study: Study) -> Panel | None:
    """Training loss by epoch."""
    lines = _curves(study, study.losses)
    if not lines:
        return None
    drawing = figures.curves(lines, "epoch", "loss, nats a token", whole_x=True)
    return Panel(drawing, _ends("Training loss at the end of each line", lines))


def perplexity(study: Study) -> Panel | None:
    """Held-out perplexity by epoch."""
    lines = _curves(study, study.perplexities)
    if not lines:
        return None
    drawing = figures.curves(lines, "epoch", "perplexity", whole_x=True, marked=True)
    return Panel(drawing, _ends("Held-out perplexity at the end of each line", lines))


def score(study: Study, theirs: Mapping[str, str | None]) -> Panel | None:
    """Mean score by arm (figure 5)."""
    rows = [row for s in _scored(study) if (row := _score_range(study, s))]
    if not rows:
        return None
    rows += _paper_scores({name for name in theirs.values() if name})
    said = "; ".join(f"{r.label} {_with_interval(r.value, r.inner)}" for r in rows)
    return Panel(figures.ranges(rows, "mean score, 1 to 6"), f"Mean score: {said}")


def quantity(study: Study, theirs: Mapping[str, str | None]) -> Panel | None:
    """Score, or without scores held-out perplexity, by training examples (figure 6)."""
    judged = [s for s in _scored(study) if _score_range(study, s)]
    members = judged or [s for s in series_of(study.chains, "train") if _perplexity(study, s)]
    members = [s for s in members if _examples(s)]
    if len({_examples(s) for s in members}) < 2:
        return None
    name = "mean score" if judged else "held-out perplexity"
    lines = _quantity_curves(study, members, bool(judged))
    lines += _paper_quantity({paper for s in judged if (paper := theirs.get(s.arm))})
    said = "; ".join(
        f"{c.label}: {', '.join(f'{y:.2f} with {x:,.0f}' for x, y in c.points)}" for c in lines
    )
    drawing = figures.curves(lines, "training examples", name, log_x=True, marked=True)
    return Panel(drawing, f"{name} by training examples: {said}", about=name)


def checkpoints(points: Sequence[Checkpoint]) -> Panel | None:
    """Score against held-out perplexity, checkpoint by checkpoint (figure 9)."""
    lines, said = [], []
    for label in dict.fromkeys(c.label for c in points):
        mine = [c for c in points if c.label == label]
        pairs = pairs_of(mine)
        if len(pairs) > 1:
            notes = [f"epoch {c.epoch}" for c in mine if pairs_of([c])]
            lines.append(Curve(label, mine[0].colour, pairs, notes=notes))
            marks = zip(notes, pairs, strict=True)
            said.append(f"{label} {', '.join(f'{n}: {y:.2f} at {x:.2f}' for n, (x, y) in marks)}")
    if not lines:
        return None
    lines.append(_paper_checkpoints())
    xs = [x for line in lines for x, _ in line.points]
    drawing = figures.curves(
        lines, "held-out perplexity", "mean score", log_x=max(xs) > FAR * min(xs), marked=True
    )
    return Panel(drawing, f"Mean score at a held-out perplexity: {'; '.join(said)}")


def lengths(study: Study) -> Panel | None:
    """Lengths of responses."""
    rows = []
    for s in series_of(study.chains, "generate"):
        counts = lengths_of(study, s.chains)
        if counts:
            q = [quantile(counts, share) for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
            rows.append(Range(s.label, s.colour, q[2], (q[1], q[3]), (q[0], q[4])))
    if not rows:
        return None
    said = "; ".join(f"{r.label} {r.value:.0f}" for r in rows)
    return Panel(figures.ranges(rows, "tokens a response"), f"Median tokens a response: {said}")


def stops(study: Study) -> Panel | None:
    """Why responses ended."""
    rows = []
    for s in series_of(study.chains, "generate"):
        row = summarise(study.results, s.chains)
        if row.get("responses"):
            rows.append(Bar(s.label, [row[reason] for reason in FINISH_REASONS]))
    if not rows:
        return None
    parts = ("ended by itself", "cut at the limit", "prompt too long")
    said = "; ".join(f"{r.label} {r.parts[0]:.0%}" for r in rows)
    drawing = figures.bars(rows, parts, "responses, %", share=True)
    return Panel(drawing, f"Responses that ended by themselves: {said}")


def attempts(study: Study) -> Panel | None:
    """How attempts ended."""
    rows = [
        Bar(s.label, _outcomes(e))
        for s in series_of(study.chains, last="generate")
        if (e := _effort(study, s))
    ]
    if not rows:
        return None
    said = "; ".join(f"{r.label} {r.parts[0]:.0f} of {sum(r.parts):.0f}" for r in rows)
    parts = ("completed", "interrupted", "killed", "failed", "open")
    return Panel(figures.bars(rows, parts, "attempts"), f"Attempts that were completed: {said}")


def hours(study: Study) -> Panel | None:
    """Hours by stage."""
    of_gpus = any(e.gpu_hours for e in study.results.efforts.values())
    unit = "GPU hours" if of_gpus else "hours"
    rows = [
        Bar(s.label, [_hours(study, s, stage, of_gpus) for stage in OWN_STAGES])
        for s in series_of(study.chains, last="generate")
    ]
    if not any(sum(row.parts) for row in rows):
        return None
    said = "; ".join(f"{r.label} {sum(r.parts):.2f}" for r in rows)
    return Panel(figures.bars(rows, OWN_STAGES, unit), f"{unit}: {said}", about=unit)


def _scored(study: Study) -> list[Series]:
    """Return the series whose judge gives scores."""
    return series_of([chain for chain in study.chains if not chain.compares], "judge")


def _curves(study: Study, points: dict[str, Points]) -> list[Curve]:
    lines = []
    for s in series_of(study.chains, "train"):
        runs = [points[run] for run in runs_of(s.chains, "train", points)]
        if runs:
            thin = runs if len(runs) > 1 else []
            lines.append(Curve(s.label, s.colour, mean_curve(runs), runs=thin))
    return lines


def _score_range(study: Study, series: Series) -> Range | None:
    row = summarise(study.results, series.chains)
    if row.get("score") is None:
        return None
    by_seed = [summarise(study.results, [c]).get("score") for c in series.chains]
    singles = [value for value in by_seed if value is not None]
    return Range(
        series.label,
        series.colour,
        row["score"],
        (row["ci_low"], row["ci_high"]) if row["ci_low"] is not None else None,
        (row["bound_low"], row["bound_high"]),
        singles if len(singles) > 1 else (),
    )


def _quantity_curves(study: Study, members: Sequence[Series], judged: bool) -> list[Curve]:
    """Join arms that differ in nothing but the number of examples; the rest are points."""
    groups: dict[tuple[Any, ...], list[Series]] = {}
    for s in sorted(members, key=lambda s: _examples(s) or 0):
        groups.setdefault(_all_but_size(s.chains[0], judged), []).append(s)
    lines: list[Curve] = []
    for group in groups.values():
        rows = [_score_range(study, s) for s in group] if judged else []
        values = [r.value if r else None for r in rows] or [_perplexity(study, s) for s in group]
        points = [(float(_examples(s) or 0), v or 0.0) for s, v in zip(group, values, strict=True)]
        label = group[0].label if len(group) == 1 else f"{group[0].label} to {group[-1].label}"
        intervals = [r.inner if r else None for r in rows]
        lines.append(Curve(label, group[0].colour, points, intervals=intervals))
    return lines


def _paper_scores(arms: AbstractSet[str]) -> list[Range]:
    """Return the paper's means of the arms that are here too (figure 5)."""
    told = {str(f.of[1]): f.value for f in paper_facts() if f.of[0] == "score"}
    return [Range(f"paper: {arm}", PAPER_HUE, told[arm]) for arm in told if arm in arms]


def _paper_quantity(arms: AbstractSet[str]) -> list[Curve]:
    """Return the paper's means by quantity, if its arms are here (figure 6)."""
    told = {f.of[1]: f for f in paper_facts() if f.of[0] == "score_by_quantity"}
    if not arms & told.keys():
        return []
    sizes = {f.of[1]: f.value for f in paper_facts() if f.of[0] == "examples"}
    points = [(sizes[arm], (f.value + f.top) / 2) for arm, f in told.items()]
    return [Curve("paper", PAPER_HUE, points, intervals=[(f.value, f.top) for f in told.values()])]


def _all_but_size(chain: Chain, judged: bool) -> tuple[Any, ...]:
    stages = STAGES if judged else STAGES[: STAGES.index("train") + 1]
    flat = {path: value for stage in stages for path, value in settings(chain, stage).items()}
    return tuple((path, str(value)) for path, value in flat.items() if path != SIZE)


def _paper_checkpoints() -> Curve:
    """Return from where to where the paper's checkpoints go; it tells no more of them."""
    told = {f.of[0]: f for f in paper_facts() if f.of[0] in ("perplexity", "checkpoint_score")}
    x, y = told["perplexity"], told["checkpoint_score"]
    return Curve("paper, about", PAPER_HUE, [(x.value, y.value), (x.top, y.top)])


def _examples(series: Series) -> int | None:
    sizes = {chain.examples for chain in series.chains}
    return sizes.pop() if len(sizes) == 1 else None


def _perplexity(study: Study, series: Series) -> float | None:
    """Return the perplexity after the last epoch, over the seeds."""
    found = study.results.training
    values = [found[run].perplexity() for run in runs_of(series.chains, "train", found)]
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None


def _effort(study: Study, series: Series) -> Effort | None:
    runs = [r for stage in OWN_STAGES for r in runs_of(series.chains, stage, study.results.efforts)]
    return total_effort(study.results.efforts[run] for run in runs) if runs else None


def _outcomes(effort: Effort) -> list[float]:
    ended = (effort.interrupted, effort.killed, effort.failed, effort.open)
    return [float(n) for n in (effort.stage_starts - sum(ended), *ended)]


def _hours(study: Study, series: Series, stage: Stage, of_gpus: bool) -> float:
    efforts = [
        study.results.efforts[r] for r in runs_of(series.chains, stage, study.results.efforts)
    ]
    return sum(e.gpu_hours if of_gpus else e.wall_hours for e in efforts)


def _ends(what: str, lines: Sequence[Curve]) -> str:
    return f"{what}: " + "; ".join(f"{c.label} {c.points[-1][1]:.3g}" for c in lines)


def _with_interval(value: float, interval: tuple[float, float] | None) -> str:
    return f"{value:.2f} ({interval[0]:.2f} to {interval[1]:.2f})" if interval else f"{value:.2f}"
