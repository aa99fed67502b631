"""Looking at a storage that may not answer, while somebody else has to be heard."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Generic, Self, TypeVar

from lima.errors import StorageError
from lima_k8s.terminal.output import say

T = TypeVar("T")
SAY_AFTER_S = 5.0
SAY_AGAIN_S = 60.0


class Looker(Generic[T]):
    """Looks again and again in a thread; used as `with Looker(…) as looker`."""

    def __init__(
        self, look: Callable[[], T], show: Callable[[T], None], pause_s: float, place: str
    ) -> None:
        """Prepare to look.

        Args:
            look: Asks; it may take long, and a failure is no news.
            show: Is given what was seen, in the thread of whoever calls `tell`.
            pause_s: Between two looks.
            place: What is looked at, in words.

        """
        self._look, self._show, self._pause_s, self._place = look, show, pause_s, place
        self._news: list[T] = []
        self._asked: float | None = None
        """Since when there has been no answer, of the monotonic clock; None: there was one."""
        self._why = ""
        self._said: float | None = None
        self._ended, self._left = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="looker", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        self._ended.set()

    def tell(self) -> None:
        """Show what is new; say now and then that there is no answer, and since when."""
        while self._news:
            self._show(self._news.pop(0))
        asked, now = self._asked, time.monotonic()
        silent = now - asked if asked is not None else 0.0
        if silent < SAY_AFTER_S:
            self._said = None
        elif self._said is None or now - self._said >= SAY_AGAIN_S:
            self._said = now
            since = datetime.now(UTC) - timedelta(seconds=silent)
            say(f"{self._place} has not answered since {since:%H:%M:%S} UTC{self._why}")

    def finish(self) -> None:
        """Look once more and show it, unless that takes long."""
        self._ended.set()
        self._thread.join(SAY_AFTER_S)
        self._left.set()
        self.tell()

    def _look_on(self) -> None:
        while not self._ended.wait(self._pause_s):
            self._once()
        if not self._left.is_set():  # else the process may be ending
            self._once()

    def _once(self) -> None:
        self._asked = self._asked or time.monotonic()
        try:
            self._news.append(self._look())
        except StorageError as error:
            self._why = self._why or f": {error}"
        else:
            self._asked, self._why = None, ""
