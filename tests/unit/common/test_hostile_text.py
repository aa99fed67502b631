"""No text makes a pattern of the project take more than a few steps a character."""

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import pytest

from lima.curation.arms.edits import parse_patches
from lima.curation.arms.picks import parse_picks
from lima.curation.reading.damage import Damage
from lima.curation.reading.record_files import document, records
from lima.curation.sources import wikihow
from lima.curation.sources.wikihow_files import Section
from lima.curation.stackexchange import comment_dialogues as dialogues
from lima.curation.text import html
from lima.curation.text.style import style_measures
from lima.data.plain_text import one_line, without_links
from lima.errors import DataError
from lima.generation.response_files import read_responses_file
from tests.helpers.patterns import Use, hostile, uses

SIZE = 200_000
STEPS = 600
"""Passes over a text that are allowed: a pattern that looks back at all of it from each of its
characters makes 200,000."""
BOUNDED = {
    "lima.endpoints.ratelimit._PART": "sought only in what is made of it alone",
}


class _TooManySteps(BaseException):
    pass


@pytest.fixture(scope="module")
def step() -> float:
    """Seconds of the CPU for a pass of the simplest alternative over a text: the least of some."""
    pattern, text = re.compile("(?:b|c)d"), "b" * SIZE
    times = []
    for _ in range(5):
        start = time.thread_time()
        pattern.search(text)
        times.append(time.thread_time() - start)
    return min(times)


@contextmanager
def bounded(step: float) -> Iterator[None]:
    """End what takes more of the CPU than its steps: time that others use does not count."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise _TooManySteps

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, STEPS * step)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


@pytest.mark.parametrize("use", uses(), ids=lambda use: f"{use.where} {use.method}")
def test_every_pattern(use: Use, step: float) -> None:
    if use.where in BOUNDED:
        pytest.skip(BOUNDED[use.where])
    for text in hostile(use.pattern, SIZE):
        with bounded(step):
            use.on(text)


def test_the_bound_holds_back_a_quadratic_pattern(step: float) -> None:
    with pytest.raises(_TooManySteps), bounded(step):
        re.compile(r"[^.]*\bb").search("a " * (SIZE // 2))


PIECES = [
    *("[", "![", "[[", "[[File:", "[a](/", "[a](/ ", "![](", "(www.", "<a ", "see this ", "a "),
    *("\n ", "\n\n", "&#", "&#x0", "$", "\\(", "\\[", "warn ", "```", "**", "# ", "1. ", "I "),
    *("@a,", "--", "0", "<b>", "<sup>", "<ul><li>", "<p>x:</p>", "</p>", "https://a ", "&lt;"),
    *("( ", "<blockquote>"),
]
WORK: dict[str, Callable[[str], object]] = {
    "posts": html.clean,
    "formulas": html.without_formulas,
    "plain text": without_links,
    "lines": one_line,
    "wikiHow": lambda text: wikihow.response(text, [Section("", (text,))]),
    "style": lambda text: style_measures([text, text]),
    "comments": lambda text: dialogues.dialogue(
        [{"UserId": "1", "Text": text}, {"UserId": "2", "Text": text}], ("1", "2"), lambda _: "a"
    ),
}


@pytest.mark.parametrize("work", WORK)
def test_all_that_reads_text_of_others(work: str, step: float) -> None:
    for piece in PIECES:
        with bounded(step * 20):  # many passes, and text that grows
            WORK[work](piece * (SIZE // 8 // len(piece)))


DEEP = ["[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 100_000]


@pytest.mark.parametrize("line", DEEP, ids=("lists", "objects", "open"))
def test_a_line_nested_without_end_is_damage(tmp_path: Path, line: str) -> None:
    path, good = tmp_path / "a.jsonl", json.dumps({"id": 1})
    path.write_text(f'{good}\n{{"deep": {line}}}\n{good}\n')
    damage = Damage()
    assert len(list(records(str(path), damage))) == 2
    assert damage.counts == {"not JSON": 1}
    (tmp_path / "a.json").write_text(line)
    assert document(str(tmp_path / "a.json"), damage) is None
    assert damage.counts["not a JSON document"] == 1


@pytest.mark.parametrize(
    "read",
    [
        lambda path: parse_patches(path.read_bytes(), str(path)),
        lambda path: parse_picks(path.read_bytes(), str(path)),
        lambda path: read_responses_file(str(path)),
    ],
    ids=("patches", "picks", "responses"),
)
@pytest.mark.parametrize("line", DEEP, ids=("lists", "objects", "open"))
def test_other_files_of_people_nested_without_end(
    tmp_path: Path, read: Callable[[Path], object], line: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"deep": {line}}}\n')
    with pytest.raises(DataError, match=r"a\.jsonl"):
        read(path)
