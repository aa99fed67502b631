"""What changes while a command waits: a live table on a terminal, plain lines otherwise."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from lima_k8s.terminal.output import plain_console, say

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")
PLAIN_INTERVAL_S = 10.0
"""Between two plain lines about the same place of an item."""


@dataclass(frozen=True)
class Line:
    """What a plain line says of an item, and where the item is: a new place is said at once."""

    item: str
    place: tuple[str, ...]
    text: str


@contextlib.contextmanager
def live(
    table: "Callable[[Sequence[T]], RenderableType]", line: Callable[[T], Line]
) -> Iterator[Callable[[Sequence[T]], None]]:
    """Yield a function that shows items as they are now, on standard error."""
    if not sys.stderr.isatty():
        yield PlainLines(line).show
        return
    from rich.live import Live

    with Live(console=plain_console(stderr=True), refresh_per_second=4) as view:
        yield lambda items: view.update(table(items))


class PlainLines(Generic[T]):
    """A line when an item comes to a new place, and now and then while it is there."""

    def __init__(self, line: Callable[[T], Line]) -> None:
        """Begin with nothing said."""
        self._line = line
        self._said: dict[str, tuple[Line, float]] = {}

    def show(self, items: Sequence[T]) -> None:
        """Say what is new."""
        now = time.monotonic()
        for line in map(self._line, items):
            before, when = self._said.get(line.item, (None, 0.0))
            waits = before and line.place == before.place and now - when < PLAIN_INTERVAL_S
            if line.text and line != before and not waits:
                self._said[line.item] = (line, now)
                say(line.text)
