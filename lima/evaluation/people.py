"""The figures and tables of labels: preferences, absolute labels and dialogue (figures 1-3, 7)."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lima.evaluation import figures
from lima.evaluation.agreement import Agreement
from lima.evaluation.compare import as_row
from lima.evaluation.evidence import Evidence
from lima.evaluation.figures import Bar
from lima.evaluation.labels import MODEL, Label
from lima.evaluation.panels import Panel
from lima.evaluation.paper import BASELINES, find_arm, judge_fact, paper_facts
from lima.evaluation.rates import HUMAN, Counts, first_labels
from lima.judging.instructions import Kind

OUTCOMES = ("win", "tie", "lose")
GRADES = ("excellent", "pass", "fail")


def people_panels(has: Evidence) -> dict[str, Panel | None]:
    """Return the figures of labels by name; None where there are no labels for one."""
    makers: dict[str, Callable[[Evidence], Panel | None]] = {
        "preference": lambda e: _preference(e, HUMAN, "human"),
        "preference_model": lambda e: _preference(e, (MODEL,), "model"),
        "absolute": _absolute,
        "dialogue": _dialogue,
    }
    return {name: make(has) for name, make in makers.items()}


def rate_rows(has: Evidence) -> list[dict[str, Any]]:
    """Return the shares of every figure of labels, with intervals and what is missing."""
    rows = []
    for raters, groups in (("people", HUMAN), ("models", (MODEL,))):
        subject = _subject(has, groups)
        for other in _opponents(has, subject, groups):
            counts = has.labelled.of("preference", subject, groups, other)
            rows.append(_rate_row(f"{subject} against {other}", raters, counts, OUTCOMES))
    singles: tuple[tuple[Kind, tuple[str, ...]], ...] = (
        ("absolute", GRADES),
        ("safety", ("safe", "unsafe")),
    )
    for kind, labels in singles:
        for arm in sorted({x.arm_1 for x in has.labelled.labels if x.kind == kind}):
            counts = has.labelled.of(kind, arm, HUMAN)
            rows.append(_rate_row(f"{arm}, {kind}", "people", counts, labels))
    return [row for row in rows if row["n"]]


def agreement_rows(has: Evidence) -> list[Agreement]:
    """Return how far groups of raters agree."""
    return has.agreements()


def paper_rows(has: Evidence) -> list[dict[str, Any]]:
    """Return the paper's numbers beside ours, those that we have data for."""
    compared = [judge_fact(fact, has.of(fact)) for fact in paper_facts()]
    return [{**as_row(c), "share": c.fact.n is not None} for c in compared if c.ours]


def _rate_row(what: str, raters: str, counts: Counts, labels: Sequence[str]) -> dict[str, Any]:
    shares = []
    for label in labels:
        rate = counts.rate(label)
        if rate:
            shares.append((label, rate.value, *rate.interval, *rate.bounds))
    row = {"what": what, "raters": raters, "n": counts.total, "missing": counts.missing}
    return {**row, "shares": shares}


def _preference(has: Evidence, groups: Sequence[str], rater: str) -> Panel | None:
    """Wins, ties and losses against each baseline, over the paper's own."""
    subject, bars = _subject(has, groups), []
    for other in _opponents(has, subject, groups):
        counts = has.labelled.of("preference", subject, groups, other)
        if counts.total:
            bars.append(Bar(other, [counts.counts[o] / counts.total for o in OUTCOMES]))
            bars += [b for name, b in _paper_preferences(rater) if has.arm(name) == other]
    return _panel(bars, [f"{subject} wins", "tie", "it loses"], "items, %")


def _absolute(has: Evidence) -> Panel | None:
    arms = sorted({x.arm_1 for x in has.labelled.labels if x.kind == "absolute"})
    bars = []
    for arm in arms:
        counts = has.labelled.of("absolute", arm, HUMAN)
        if counts.total:
            bars.append(Bar(arm, [counts.counts[g] / counts.total for g in GRADES]))
    bars += [Bar("paper: LIMA", _paper("absolute"))] if bars else []
    return _panel(bars, list(GRADES), "responses, %")


def _dialogue(has: Evidence) -> Panel | None:
    turns = [x for x in has.labelled.labels if x.kind == "dialogue" and x.turn is not None]
    bars = []
    for arm in sorted({x.arm_1 for x in turns if x.arm_2 is None}):
        said = Counter(x.value for x in first_labels(x for x in turns if x.arm_1 == arm))
        if said.total():
            bars.append(Bar(arm, [said[g] / said.total() for g in GRADES]))
    if bars:
        names = {"lima": "zero-shot", "lima_dialogue": "with dialogues"}
        bars += [Bar(f"paper: {said}", _paper("dialogue", n)) for n, said in names.items()]
    return _panel(bars, list(GRADES), "answers, %")


def _panel(bars: Sequence[Bar], parts: Sequence[str], x_label: str) -> Panel | None:
    if not bars:
        return None
    said = "; ".join(
        f"{bar.label} {', '.join(f'{p} {v:.0%}' for p, v in zip(parts, bar.parts, strict=True))}"
        for bar in bars
    )
    return Panel(figures.bars(bars, parts, x_label, share=True), f"Shares of labels: {said}")


def _paper(*of: str) -> list[float]:
    """Return the paper's shares of grades; what it does not tell is what the others leave."""
    told = {f.of[-1]: f.value for f in paper_facts() if f.of[:-1] == of}
    rest = 1 - sum(told.values())
    return [told.get(grade, rest) for grade in GRADES]


def _paper_preferences(rater: str) -> list[tuple[str, Bar]]:
    values = {f.of[1:]: f.value for f in paper_facts() if f.of[0] == "preference"}
    return [
        (name, Bar(f"paper: {words}", [values[rater, name, o] for o in OUTCOMES]))
        for name, words in BASELINES.items()
    ]


def _pairs(has: Evidence, groups: Sequence[str]) -> list[Label]:
    return [
        x
        for x in has.labelled.labels
        if x.kind == "preference" and x.arm_2 and x.group in groups and x.conversation_id is None
    ]


def _subject(has: Evidence, groups: Sequence[str]) -> str:
    """Return the arm that is compared: LIMA by its name, else the one in most pairs."""
    counted = Counter(arm for x in _pairs(has, groups) for arm in (x.arm_1, x.arm_2 or ""))
    named = find_arm("lima", sorted(counted), has.named)
    return named or next((arm for arm, _ in counted.most_common(1)), "")


def _opponents(has: Evidence, subject: str, groups: Sequence[str]) -> list[str]:
    arms = {(x.arm_1, x.arm_2 or "") for x in _pairs(has, groups)}
    return sorted({b if a == subject else a for a, b in arms if subject in (a, b)})
