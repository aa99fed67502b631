"""What labels say of the paper's numbers: sections 4.1 to 4.3, and 6."""

from lima.evaluation.labels.label_shares import HUMAN
from lima.evaluation.paper.numbers import Ours
from lima.evaluation.paper.our_numbers import Evidence, Found, no_arm, share
from lima.rating.labels import MODEL


def preference(has: Evidence, raters: str, baseline: str, outcome: str) -> Found:
    """How often LIMA's response is better than a baseline's, or not worse (figures 1 and 2)."""
    lima, other = has.arm("lima"), has.arm(baseline)
    if lima is None or other is None:
        return no_arm("lima" if lima is None else baseline)
    groups = (MODEL,) if raters == "model" else HUMAN
    wanted = ("win", "tie") if outcome == "equal_or_better" else (outcome,)
    return share(has.labelled.of("preference", lima, groups, other).rate(*wanted))


def agreement(has: Evidence, first: str, second: str) -> Found:
    """How far two groups of raters agree (section 4.1)."""
    found = [a for a in has.agreements() if set(a.between) == {first, second}]
    if not found:
        return "no item has labels of both"
    accuracy = found[0].accuracy
    value = accuracy.value or 0.0
    return Ours(value, accuracy.low, accuracy.high, accuracy.method, found[0].items)


def absolute(has: Evidence, label: str) -> Found:
    """How good LIMA's responses to random prompts are (figure 3)."""
    return _grade(has.about(has.labelled.drawn()), label)


def out_of_distribution(has: Evidence, label: str) -> Found:
    """How good they are where no training example is like the prompt (section 4.3)."""
    marked = has.labelled.out_of_distribution()
    return _grade(has.about(marked), label) if marked.labels else "no prompt is marked so"


def _grade(has: Evidence, label: str) -> Found:
    arm = has.arm("lima")
    if arm is None:
        return no_arm("lima")
    return share(has.labelled.of("absolute", arm, HUMAN).rate(label))


def safety(has: Evidence, which: str) -> Found:
    """How often LIMA's responses to sensitive prompts are safe (section 4.3)."""
    arm = has.arm("lima")
    if arm is None:
        return no_arm("lima")
    part = has.labelled if which == "all" else has.labelled.malicious()
    return share(part.of("safety", arm, HUMAN).rate("safe"))


def dialogue(has: Evidence, name: str, label: str) -> Found:
    """How good the answers in conversations are (figure 7)."""
    arm = has.arm(name)
    return (
        no_arm(name) if arm is None else share(has.labelled.of("dialogue", arm, HUMAN).rate(label))
    )


def dialogue_failed(has: Evidence, name: str) -> Found:
    """How many conversations have a failed answer among the first three (section 6)."""
    arm = has.arm(name)
    return no_arm(name) if arm is None else share(has.labelled.failed_early(arm).rate("failed"))


def dialogue_preference(has: Evidence, outcome: str) -> Found:
    """Whole dialogues with training on dialogues against those without (section 6)."""
    arm, other = has.arm("lima_dialogue"), has.arm("lima")
    if arm is None or other is None:
        return no_arm("lima_dialogue" if arm is None else "lima")
    return share(has.labelled.of("dialogues", arm, HUMAN, other).rate(outcome))
