"""Style of authored examples: what a reader should look at again (section 2.2).

The authors wrote their responses in one tone, with "some acknowledgment of the question followed
by the answer itself". Measures say how far an example is from that; nothing is dropped by them.
"""

import re
from collections.abc import Sequence

from lima.curation.candidates.candidate import Candidate

SAFETY, STRUCTURE, DIALOGUE = "safety", "structure", "dialogue"
"""Categories of authored examples that the paper names (sections 2.2 and 6, appendix E)."""
SHORT, LONG = 40, 8000
"""Characters of a response outside which its length is worth a look."""
FIRST_PERSON, EXCLAMATIONS = 3, 5
"""More than these in one response are worth a look."""

_FENCE = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)
_SENTENCE = re.compile(r"[.!?:\n]")
_WORD = re.compile(r"[^\W\d_]{4,}")
_STEM = 5
_OPENING = re.compile(
    r"\W*(?:sure|certainly|of course|absolutely|here(?:'s|’s| is| are)|thank|sorry|"
    r"i(?:'m|’m| am) (?:sorry|happy|glad|afraid)|yes\b|no\b|to answer|(?:that|this)(?:'s|’s| is))",
    re.IGNORECASE,
)
_FIRST_PERSON = re.compile(r"\b(?:I|[Mm]y|[Mm]e|[Mm]ine|[Mm]yself)\b")
_REFUSAL = re.compile(
    r"\b(?:(?:can|could|will|would|should)(?:not|n['’]t)|can not|won['’]t|sorry|refuse|unable|"
    r"illegal|against the law|not (?:ok|okay|appropriate|advis\w+|recommend\w*)|"
    r"(?:rather|advise|recommend|warn)\b[^.]{0,200}?\b(?:not|against|that)|(?:do not|don['’]t))\b",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"^[^\S\n]*(?:#{1,6}\s|[-*•]\s|\d+[.)]\s|\||\**[\w' ]{2,60}\**:[^\S\n]*$)", re.MULTILINE
)


def style_measures(conversation: Sequence[str]) -> dict[str, float]:
    """Return the measures of a conversation's responses; none for a prompt alone.

    `acknowledges`: share of responses whose first sentence takes up a word of the prompt or
    opens as an answer does; `first_person`, `exclamations`, `structure_marks` (headings and
    items of lists): counts; `refuses`: share that declines or warns.
    """
    responses = conversation[1::2]
    if not responses:
        return {}
    plain = [_FENCE.sub("", text) for text in responses]
    pairs = zip(conversation[::2], plain, strict=False)
    return {
        "response_characters": float(sum(map(len, responses))),
        "acknowledges": _share([acknowledges(prompt, text) for prompt, text in pairs]),
        "refuses": _share([bool(_REFUSAL.search(text)) for text in plain]),
        "first_person": float(sum(len(_FIRST_PERSON.findall(text)) for text in plain)),
        "exclamations": float(sum(text.count("!") for text in plain)),
        "structure_marks": float(sum(len(_MARK.findall(text)) for text in plain)),
    }


def acknowledges(prompt: str, response: str) -> bool:
    """Say whether a response begins by taking up the question."""
    if _OPENING.match(response):
        return True
    first = next((s for s in _SENTENCE.split(response) if _WORD.search(s)), "")
    asked = {word[:_STEM].casefold() for word in _WORD.findall(prompt)}
    return any(word[:_STEM].casefold() in asked for word in _WORD.findall(first))


def style_warnings(candidate: Candidate) -> tuple[str, ...]:
    """Return what a reader should look at again, in words."""
    measures = candidate.measures
    if "acknowledges" not in measures:
        return ()
    characters = measures["response_characters"] / max(1, len(candidate.conversation) // 2)
    doubts = {
        "a response does not take up its question": measures["acknowledges"] < 1,
        f"the responses have {characters:.0f} characters": not SHORT <= characters <= LONG,
        f"the first person {measures['first_person']:.0f} times": (
            measures["first_person"] > FIRST_PERSON
        ),
        f"{measures['exclamations']:.0f} exclamation marks": (
            measures["exclamations"] > EXCLAMATIONS
        ),
        "a safety example that neither declines nor warns": (
            candidate.category == SAFETY and not measures["refuses"]
        ),
        "a structure example without headings or lists": (
            candidate.category == STRUCTURE and not measures["structure_marks"]
        ),
        "a dialogue of a single turn": (
            candidate.category == DIALOGUE and len(candidate.conversation) < 4
        ),
    }
    return tuple(doubt for doubt, holds in doubts.items() if holds)


def _share(values: Sequence[bool]) -> float:
    return sum(values) / len(values)
