"""The figures and tables of labels: preferences, absolute labels and dialogue (figures 1-3, 7)."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from lima.evaluation import figures
from lima.evaluation.agreement import Agreement
from lima.evaluation.compare import as_row
from lima.evaluation.dialogues import Answer
from lima.evaluation.evidence import Evidence
from lima.evaluation.figures import Bar
from lima.evaluation.findings import compared
from lima.evaluation.labels import MODEL, Asked
from lima.evaluation.panels import Panel
from lima.evaluation.paper import BASELINES, find_arm, paper_facts
from lima.evaluation.rates import FIRST_TURNS, HUMAN, Counts, Labelled

OUTCOMES = ("win", "tie", "lose")
GRADES = ("excellent", "pass", "fail")
DIALOGUE_ARMS = {"lima": "zero-shot", "lima_dialogue": "with dialogues"}


def people_panels(has: Evidence) -> dict[str, Panel | None]:
    """Return the figures of labels by name; None where there are no labels for one."""
    makers: dict[str, Callable[[Evidence], Panel | None]] = {
        "preference": lambda e: _preference(e, HUMAN, "human"),
        "preference_model": lambda e: _preference(e, (MODEL,), "model"),
        "absolute": _absolute,
        "dialogue": _dialogue,
        "dialogues": _dialogues,
    }
    return {name: make(has) for name, make in makers.items()}


def rate_rows(has: Evidence) -> list[dict[str, Any]]:
    """Return the shares of every figure of labels, with intervals and what is missing."""
    drawn, unlike = has.labelled.drawn(), has.labelled.out_of_distribution()
    early = f"failed within {FIRST_TURNS} answers"
    rows = [
        *_pair_rows(has, "preference", "{} against {}"),
        *_single_rows(drawn, "absolute", "{}, absolute", GRADES),
        *_single_rows(unlike, "absolute", "{}, out of distribution", GRADES),
        *_single_rows(has.labelled, "safety", "{}, safety", ("safe", "unsafe")),
        *_single_rows(has.labelled.malicious(), "safety", "{}, malicious", ("safe", "unsafe")),
        *_single_rows(has.labelled, "dialogue", "{}, answers in dialogues", GRADES),
        *(
            _rate_row(f"{arm}, dialogues", "people", has.labelled.failed_early(arm),
                      {"failed": early, "not": "not"})
            for arm in has.labelled.arms("dialogue")
        ),
        *_pair_rows(has, "dialogues", "{} against {}, whole dialogues"),
    ]  # fmt: skip
    return [row for row in rows if row["n"]]


def agreement_rows(has: Evidence) -> list[Agreement]:
    """Return how far groups of raters agree."""
    return has.agreements()


def chat_rows(has: Evidence) -> list[dict[str, Any]]:
    """Return the runs of conversations: who answered, how often, and how much is labelled."""
    labelled = {x.item_id for x in has.labelled.labels if x.value is not None}
    by_run: dict[str, list[Answer]] = {}
    for answer in has.labelled.answers:
        by_run.setdefault(answer.run_id, []).append(answer)
    return [
        {
            "run": run,
            "arm": answers[0].arm,
            "model": answers[0].model,
            "conversations": len({a.conversation_id for a in answers}),
            "answers": len(answers),
            "labelled": sum(a.item_id in labelled for a in answers),
        }
        for run, answers in sorted(by_run.items(), key=lambda found: (found[1][0].arm, found[0]))
    ]


def paper_rows(has: Evidence) -> list[dict[str, Any]]:
    """Return the paper's numbers beside ours, those that we have data for."""
    return [{**as_row(c), "share": c.fact.n is not None} for c in compared(has) if c.ours]


def _pair_rows(has: Evidence, asked: Asked, what: str) -> list[dict[str, Any]]:
    words = dict(zip(OUTCOMES, OUTCOMES, strict=True))
    return [
        _rate_row(what.format(subject, other), raters,
                  has.labelled.of(asked, subject, groups, other), words)
        for raters, groups in (("people", HUMAN), ("models", (MODEL,)))
        for subject in [_subject(has, asked, groups)]
        for other in has.labelled.opponents(asked, subject)
    ]  # fmt: skip


def _single_rows(
    labelled: Labelled, asked: Asked, what: str, labels: Sequence[str]
) -> list[dict[str, Any]]:
    words = dict(zip(labels, labels, strict=True))
    return [
        _rate_row(what.format(arm), "people", labelled.of(asked, arm, HUMAN), words)
        for arm in labelled.arms(asked)
    ]


def _rate_row(what: str, raters: str, counts: Counts, words: dict[str, str]) -> dict[str, Any]:
    """Return a row of shares; `words` are what the labels are called on the page."""
    shares = []
    for label, word in words.items():
        rate = counts.rate(label)
        if rate:
            shares.append((word, rate.count, rate.value, *rate.interval, *rate.bounds))
    row = {"what": what, "raters": raters, "n": counts.total, "missing": counts.missing}
    return {**row, "shares": shares}


def _preference(has: Evidence, groups: Sequence[str], rater: str) -> Panel | None:
    """Wins, ties and losses against each baseline, over the paper's own."""
    subject, bars = _subject(has, "preference", groups), []
    for other in has.labelled.opponents("preference", subject):
        counts = has.labelled.of("preference", subject, groups, other)
        if counts.total:
            bars.append(_bar(other, counts, OUTCOMES))
            bars += [b for name, b in _paper_preferences(rater) if has.arm(name) == other]
    return _panel(bars, [f"{subject} wins", "tie", "it loses"], "items, %")


def _absolute(has: Evidence) -> Panel | None:
    bars: list[Bar] = []
    parts = (("", has.labelled.drawn(), "absolute", "paper: LIMA"),
             (", out of distribution", has.labelled.out_of_distribution(),
              "out_of_distribution", "paper: LIMA, out of distribution"))  # fmt: skip
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
        bars += [Bar(f"paper: {said}", _paper(GRADES, "dialogue", name))
                 for name, said in DIALOGUE_ARMS.items()]  # fmt: skip
    return _panel(bars, list(GRADES), "answers, %")


def _dialogues(has: Evidence) -> Panel | None:
    """Whole dialogues of two arms, the better one's first."""
    subject = _subject(has, "dialogues", HUMAN)
    found = [(other, has.labelled.of("dialogues", subject, HUMAN, other))
             for other in has.labelled.opponents("dialogues", subject)]  # fmt: skip
    bars = [_bar(f"against {other}", counts, OUTCOMES) for other, counts in found if counts.total]
    if bars:
        words = " against ".join(reversed(DIALOGUE_ARMS.values()))
        bars.append(Bar(f"paper: {words}", _paper(OUTCOMES, "dialogue_preference")))
    return _panel(bars, [f"{subject} is better", "tie", "it is worse"], "dialogues, %")


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


def _paper_preferences(rater: str) -> list[tuple[str, Bar]]:
    return [
        (name, Bar(f"paper: {words}", _paper(OUTCOMES, "preference", rater, name)))
        for name, words in BASELINES.items()
    ]


def _subject(has: Evidence, asked: Asked, groups: Sequence[str]) -> str:
    """Return the arm that is compared: LIMA by its name, else the one in most pairs.

    Of whole dialogues, LIMA with training on dialogues is compared with LIMA.
    """
    labels = [x for x in has.labelled.labels if x.asked == asked and x.group in groups]
    counted = Counter(arm for x in labels for arm in (x.arm_1, x.arm_2 or ""))
    wanted = "lima_dialogue" if asked == "dialogues" else "lima"
    named = find_arm(wanted, sorted(counted), has.named)
    return named or next((arm for arm, _ in counted.most_common(1)), "")
