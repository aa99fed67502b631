"""Overlap of training texts with the prompts that a model is tested on, with the evidence.

A training text is contaminated if it shares a run of `RUN` words with a held-out prompt,
anywhere, or if a user's utterance holds all of a shorter held-out prompt.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RUN = 8
"""Words in a row. Between LIMA's training and test sets, runs of seven and more are one prompt
that stands in both; runs of six are turns of phrase (“can you help me write a”)."""
SHORTEST = 4
"""A held-out prompt of fewer words must be the whole of an utterance."""
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Overlap:
    """What a training text shares with a held-out prompt."""

    key: str
    """Of the held-out example."""
    text: str
    """The longest shared run, as the training text has it."""
    words: int
    share: float
    """Of the held-out prompt's words, how many the run covers."""


@dataclass(frozen=True)
class _Text:
    words: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]
    text: str


class HeldOut:
    """Held-out prompts, indexed by their runs of words."""

    def __init__(self, prompts: Iterable[tuple[str, str]], run: int = RUN) -> None:
        """Index `(key, prompt)`; a prompt of several utterances is given once for each."""
        self.run = run
        self._prompts: list[tuple[str, tuple[str, ...]]] = []
        self._runs: dict[tuple[str, ...], list[tuple[int, int]]] = defaultdict(list)
        self._short: dict[tuple[str, ...], int] = {}
        for key, text in prompts:
            self._add(key, _split(text).words)

    def find(self, conversation: Sequence[str]) -> Overlap | None:
        """Return the longest overlap of a training conversation; None: it shares nothing."""
        best: Overlap | None = None
        for index, utterance in enumerate(conversation):
            text = _split(utterance)
            found = [self._longest_run(text)]
            if index % 2 == 0:
                found.append(self._short_prompt(text))
            for overlap in found:
                if overlap and (best is None or overlap.words > best.words):
                    best = overlap
        return best

    def _add(self, key: str, prompt: tuple[str, ...]) -> None:
        number = len(self._prompts)
        self._prompts.append((key, prompt))
        if 0 < len(prompt) < self.run:
            self._short.setdefault(prompt, number)
        for start in range(len(prompt) - self.run + 1):
            self._runs[prompt[start : start + self.run]].append((number, start))

    def _longest_run(self, text: _Text) -> Overlap | None:
        best: Overlap | None = None
        for start in range(len(text.words) - self.run + 1):
            for number, position in self._runs.get(text.words[start : start + self.run], ()):
                prompt = self._prompts[number][1]
                if start and position and text.words[start - 1] == prompt[position - 1]:
                    continue  # the run began earlier and was measured there
                size = self.run
                rest = zip(text.words[start + size :], prompt[position + size :], strict=False)
                for mine, theirs in rest:
                    if mine != theirs:
                        break
                    size += 1
                if best is None or size > best.words:
                    best = self._overlap(number, text, start, size)
        return best

    def _short_prompt(self, text: _Text) -> Overlap | None:
        for size in sorted({len(words) for words in self._short}, reverse=True):
            whole = size == len(text.words)
            for start in range(len(text.words) - size + 1) if size >= SHORTEST or whole else ():
                number = self._short.get(text.words[start : start + size])
                if number is not None:
                    return self._overlap(number, text, start, size)
        return None

    def _overlap(self, number: int, text: _Text, start: int, size: int) -> Overlap:
        key, prompt = self._prompts[number]
        first, last = text.spans[start][0], text.spans[start + size - 1][1]
        return Overlap(key, text.text[first:last], size, size / len(prompt))


def _split(text: str) -> _Text:
    found = list(_WORD.finditer(text))
    plain = str if text.isascii() else _compatible
    words = tuple(plain(match[0]).casefold() for match in found)
    return _Text(words, tuple(match.span() for match in found), text)


def _compatible(word: str) -> str:
    return unicodedata.normalize("NFKC", word)
