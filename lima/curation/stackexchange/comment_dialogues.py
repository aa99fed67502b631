"""Comments below an answer as turns of a dialogue (section 6: 20 of its 30 dialogues)."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lima.curation.stackexchange.xml_rows import Attributes
from lima.data.plain_text import tidy, without_links

_MENTION = re.compile(r"^\s*@(\S+)(?:\s[,:;.\s-]*(?<=\s)|\s|$)")
_INNER_MENTION = re.compile(r"(?<![\w.])@(?=[A-Za-z])")
_BOT_WORDS = re.compile(r"comments are not for extended discussion|let us continue this", re.I)


@dataclass(frozen=True)
class Talk:
    """What two people said to each other, the asker first and the answerer last."""

    utterances: tuple[str, ...]
    left_out: int
    """Comments by others, to others, or without words."""


def dialogue(
    comments: Sequence[Attributes], people: tuple[str, str], name: Callable[[str], str]
) -> Talk:
    """Return the talk of the asker and the answerer below an answer.

    Comments in a row by one person are one utterance. Left out are comments by others and to
    others, what the answerer says before the asker does, and a last word of the asker.

    Args:
        comments: Comments on the answer.
        people: User ids of the asker and of the answerer.
        name: Display name of a user.

    """
    asker, answerer = people
    if not asker or not answerer or asker == answerer:
        return Talk((), len(comments))
    turns: list[tuple[str, list[str]]] = []
    used = 0
    for comment in sorted(comments, key=_order):
        speaker = comment.get("UserId", "")
        text = _text(comment, {asker: answerer, answerer: asker}.get(speaker, ""), name)
        if not text or (speaker == answerer and not turns):
            continue
        used += 1
        if turns and turns[-1][0] == speaker:
            turns[-1][1].append(text)
        else:
            turns.append((speaker, [text]))
    if turns and turns[-1][0] == asker:
        used -= len(turns.pop()[1])
    return Talk(tuple("\n\n".join(texts) for _, texts in turns), len(comments) - used)


def _text(comment: Attributes, other: str, name: Callable[[str], str]) -> str:
    """Return the words of a comment that is said to `other`; empty if it is to someone else."""
    text = tidy(without_links(comment.get("Text", "")))
    if not other or _BOT_WORDS.search(text):
        return ""
    if mention := _MENTION.match(text):
        spoken_to = mention[1].rstrip(",:;.'’s-").casefold()
        if not name(other).replace(" ", "").casefold().startswith(spoken_to):
            return ""
        text = text[mention.end() :]
    return _INNER_MENTION.sub("", text).strip()


def _order(comment: Attributes) -> tuple[str, int]:
    number = comment.get("Id", "")
    return comment.get("CreationDate", ""), int(number) if number.isdecimal() and len(
        number
    ) < 19 else 0
