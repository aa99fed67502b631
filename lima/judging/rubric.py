"""What a rubric is: all that judging needs to know of one way to judge."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lima.endpoints.reading import Reading


@dataclass(frozen=True)
class Rubric:
    """A way to judge, whole; it reads answers as a `lima.endpoints.reading.Reader`.

    Args:
        name: What `judge.rubric` says.
        hash: sha256 of the whole wording, which names runs and judgments. Another wording is
            another rubric and needs another name.
        ask: Returns what the judge is asked: of a prompt (utterances in turn, the user's first and
            last), and of the responses as they are shown, one or two.
        read: Reads a verdict; None where it does not end as it was asked to.
        wanted: What a verdict ends with, in words.
        scale: Least and greatest score; None: a verdict is a label.
        told: sha256 of what people are told, where they can be asked the same.
        pairs: Whether it compares our response with one of a baseline.

    """

    name: str
    hash: str
    ask: Callable[[Sequence[str], Sequence[str]], str]
    read: Callable[[str], Reading | None]
    wanted: str
    scale: tuple[float, float] | None = None
    told: str | None = None
    pairs: bool = False
