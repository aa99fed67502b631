"""The figures and tables of labels: preferences, absolute labels and dialogue (figures 1-3, 7)."""

from collections.abc import Callable, Sequence
from typing import Any

from lima.evaluation.labels.contests import (
    OUTCOMES,
    PEOPLE,
    Contest,
    Lengths,
    contest_rows,
    contests,
    matrices,
)
from lima.evaluation.labels.label_shares import HUMAN, Counts
from lima.evaluation.labels.share_tables import GRADES, chat_rows, rate_rows
from lima.evaluation.paper.arms import BASELINES
from lima.evaluation.paper.compare import as_row
from lima.evaluation.paper.numbers import paper_facts
from lima.evaluation.paper.our_numbers import Evidence
from lima.evaluation.paper.registry import compared
from lima.evaluation.report import chart_kinds as figures
from lima.evaluation.report.chart_kinds import Bar
from lima.evaluation.report.figures_of_runs import Panel

DIALOGUE_ARMS = {"lima": "zero-shot", "lima_dialogue": "with dialogues"}


def people_panels(has: Evidence) -> dict[str, Panel | None]:
    """Return the figures of labels by name; None where there are no labels for one."""
    makers: dict[str, Callable[[Evidence], Panel | None]] = {
        "preference": lambda e: _preference(e, by_people=True),
        "preference_model": lambda e: _preference(e, by_people=False),
        "absolute": _absolute,
        "dialogue": _dialogue,
        "dialogues": _dialogues,
    }
    return {name: make(has) for name, make in makers.items()}


def people_tables(has: Evidence, lengths: Lengths) -> dict[str, Any]:
    """Return the tables of labels, by the names that the page's template uses.

    Args:
        has: the labels, and what the paper's arms are here; LIMA is named first in pairs, and of
            whole dialogues LIMA that was trained on dialogues.
        lengths: of the responses that were compared.

    """
    heroes = {"preference": has.arm("lima"), "dialogues": has.arm("lima_dialogue")}
    pairs = contest_rows(has.labelled, lengths, has.arm("lima"))
    return {
        "rates": rate_rows(has.labelled, heroes),
        "chats": chat_rows(has.labelled),
        "pairs": pairs,
        "matrices": matrices(pairs),
        "agreements": has.agreements(),
        "facts_of_paper": _paper_rows(has),
    }


def _paper_rows(has: Evidence) -> list[dict[str, Any]]:
    """Return the paper's numbers beside ours, those that we have data for."""
    return [{**as_row(c), "share": c.fact.n is not None} for c in compared(has) if c.ours]


def _preference(has: Evidence, *, by_people: bool) -> Panel | None:
    """Wins, ties and losses of every pair, over the paper's own of that pair."""
    lima, bars = has.arm("lima"), []
    shown = [
        c
        for c in contests(has.labelled, "preference", lima)
        if c.counts.total and (c.raters == PEOPLE) == by_people
    ]
    for contest in shown:
        bars.append(_bar(_named(contest, shown), contest.counts, OUTCOMES))
        name = has.name_of(contest.other) if contest.arm == lima else None
        if name in BASELINES:
            said = _paper(OUTCOMES, "preference", "human" if by_people else "model", str(name))
            bars.append(Bar(f"paper: {BASELINES[str(name)]}", said))
    return _panel(bars, _outcomes(shown, "wins", "it loses"), "items, %")


def _named(contest: Contest, among: Sequence[Contest]) -> str:
    """Return the label of a pair: as much of it as the pairs do not have in common."""
    alone = len({c.arm for c in among}) == 1
    words = contest.other if alone else f"{contest.arm} against {contest.other}"
    return words if len({c.raters for c in among}) == 1 else f"{words} ({contest.raters})"


def _outcomes(among: Sequence[Contest], better: str, worse: str) -> list[str]:
    """Return what the parts of the bars are called."""
    arms = {contest.arm for contest in among}
    if len(arms) == 1:
        return [f"{arms.pop()} {better}", "tie", worse]
    return [f"the first {better}", "tie", worse]


def _absolute(has: Evidence) -> Panel | None:
    bars: list[Bar] = []
    parts = (
        ("", has.labelled.drawn(), "absolute", "paper: LIMA"),
        (
            ", out of distribution",
            has.labelled.out_of_distribution(),
            "out_of_distribution",
            "paper: LIMA, out of distribution",
        ),
    )
    for words, labelled, fact, paper in parts:
        found = [(arm, labelled.of("absolute", arm, HUMAN)) for arm in labelled.arms("absolute")]
        mine = [_bar(f"{arm}{words}", counts, GRADES) for arm, counts in found if counts.total]
        bars += [*mine, *([Bar(paper, _paper(GRADES, fact))] if mine else [])]
    return _panel(bars, list(GRADES), "responses, %")


def _dialogue(has: Evidence) -> Panel | None:
    """Grades of answers, the paper's model with dialogues after the one without."""
    bars: list[Bar] = []
    paper = {has.arm(name): name for name in DIALOGUE_ARMS}
    arms = has.labelled.arms("dialogue")
    for arm in [a for a in paper if a in arms] + [a for a in arms if a not in paper]:
        counts = has.labelled.of("dialogue", str(arm), HUMAN)
        bars += [_bar(str(arm), counts, GRADES)] if counts.total else []
    if bars:
        bars += [
            Bar(f"paper: {said}", _paper(GRADES, "dialogue", name))
            for name, said in DIALOGUE_ARMS.items()
        ]
    return _panel(bars, list(GRADES), "answers, %")


def _dialogues(has: Evidence) -> Panel | None:
    """Whole dialogues of two arms, the better one's first."""
    found = [
        c
        for c in contests(has.labelled, "dialogues", has.arm("lima_dialogue"))
        if c.counts.total and c.raters == PEOPLE
    ]
    bars = [
        _bar(
            f"against {_named(c, found)}" if len({f.arm for f in found}) == 1 else _named(c, found),
            c.counts,
            OUTCOMES,
        )
        for c in found
    ]
    if bars:
        words = " against ".join(reversed(DIALOGUE_ARMS.values()))
        bars.append(Bar(f"paper: {words}", _paper(OUTCOMES, "dialogue_preference")))
    return _panel(bars, _outcomes(found, "is better", "it is worse"), "dialogues, %")


def _bar(label: str, counts: Counts, parts: Sequence[str]) -> Bar:
    return Bar(label, [counts.counts[part] / counts.total for part in parts])


def _panel(bars: Sequence[Bar], parts: Sequence[str], x_label: str) -> Panel | None:
    if not bars:
        return None
    said = "; ".join(
        f"{bar.label} {', '.join(f'{p} {v:.0%}' for p, v in zip(parts, bar.parts, strict=True))}"
        for bar in bars
    )
    return Panel(figures.bars(bars, parts, x_label, share=True), f"Shares of labels: {said}")


def _paper(parts: Sequence[str], *of: str) -> list[float]:
    """Return the paper's shares."""
    told = {f.of[-1]: f.value for f in paper_facts() if f.of[:-1] == of}
    return [told[part] for part in parts]
