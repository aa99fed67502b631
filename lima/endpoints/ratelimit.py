"""Admission of requests to an endpoint: so many at a time, and none while it asks for a pause."""

import asyncio
import logging
import re
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from lima.endpoints.attempt import RATE_LIMITED
from lima.endpoints.peer import Peer
from lima.errors import EndpointError, Interrupted, LimaError
from lima.runs.stop import stop_requested

log = logging.getLogger(__name__)

PATIENCE_S = 600.0
"""Longest time without an answer under a rate limit: a pod that waits on holds its GPUs."""

LOOK_S = 1.0
"""Time between two looks at the request to stop during a pause."""
LOOK_AGAIN_S = 0.02
"""Time for which a look holds: it costs as much as a hundredth of a request."""

_UNITS = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|d|h|m|s)")


class Gate:
    """Holds requests back; used as `async with gate:` around each.

    At a 429 the number in flight is halved, and every answer lets one more in: an endpoint
    that also counts the requests it refuses would otherwise never be done refusing.
    """

    def __init__(
        self, concurrency: int, peer: Peer, stopped: Callable[[], bool] = stop_requested
    ) -> None:
        """Let at most `concurrency` requests to `peer` be in flight, until it is `stopped`."""
        self.concurrency, self.peer, self._stopped = concurrency, peer, stopped
        self.limit = concurrency
        self.in_flight = 0
        self._free = asyncio.Condition()
        self._paused_until = 0.0
        self._refused_since: float | None = None
        self._told = False
        self._closed: LimaError | None = None
        self._next_look = 0.0

    async def __aenter__(self) -> None:
        """Wait for a place and for the end of a pause.

        Raises:
            Interrupted: a stop was requested.
            EndpointError: the endpoint's rate limit asks for more patience than there is.
            LimaError: the gate was closed with it.

        """
        async with self._free:
            await self._free.wait_for(lambda: self.in_flight < self.limit or self._closed)
            self.in_flight += 1
        try:
            await self._pause()
        except BaseException:
            await self.__aexit__()
            raise

    async def __aexit__(self, *_: object) -> None:
        """Give the place back."""
        async with self._free:
            self.in_flight -= 1
            self._free.notify(max(0, self.limit - self.in_flight))

    def observe(self, status: int, headers: Mapping[str, str]) -> None:
        """Learn from an answer: its HTTP status and what its headers say about limits."""
        now = time.monotonic()
        if status == RATE_LIMITED:
            self.limit = max(1, self.limit // 2)
            if self._refused_since is None:
                self._refused_since = now
                self._tell()
        else:
            self.limit = min(self.concurrency, self.limit + 1)
            self._refused_since = None
        self._paused_until = max(self._paused_until, now + asked_pause(headers))

    def _tell(self) -> None:
        """Say once why nothing seems to happen."""
        if not self._told:
            log.warning(
                "%s answers HTTP 429, its rate limit: fewer requests are sent at a time, and one "
                "that is turned away is sent again",
                self.peer,
            )
        self._told = True

    async def close(self, reason: LimaError) -> None:
        """Let nobody in any more, not even those who wait; they get `reason`."""
        async with self._free:
            self._closed = reason
            self._free.notify_all()

    async def _pause(self) -> None:
        while True:
            self._refuse()
            pause = self._paused_until - time.monotonic()
            if pause <= 0:
                return
            await asyncio.sleep(min(LOOK_S, pause))

    def _refuse(self) -> None:
        """Raise what speaks against sending anything."""
        if self._closed:
            raise self._closed
        now = time.monotonic()
        if now >= self._next_look:
            if self._stopped():
                raise Interrupted(f"stopped on request; {self.peer.kept}")
            self._next_look = now + LOOK_AGAIN_S
        refused = now - (self._refused_since or now)
        pause = max(0.0, self._paused_until - now)
        if refused + pause > PATIENCE_S:
            asked = f", and it asks to wait {pause:.0f} s more" if pause else ""
            limits = self.peer.limits
            lower = f"lower {limits}.concurrency, now {self.concurrency}, or " if limits else ""
            raise EndpointError(
                f"the rate limit of {self.peer} lets nothing through: it answered HTTP 429 for "
                f"{refused:.0f} s{asked}; {lower}raise the account's limit, then start again: "
                f"{self.peer.kept}"
            )


def asked_pause(headers: Mapping[str, str]) -> float:
    """Return for how many seconds the headers of an answer ask to send nothing.

    Understood are `retry-after-ms`, `Retry-After` (seconds or a date), and, where nothing
    remains, `x-ratelimit-reset-requests` and `-tokens` (`1s`, `6m0s`, `20ms` or seconds).
    """
    pauses = [
        _seconds(headers.get(f"x-ratelimit-reset-{kind}", ""))
        for kind in ("requests", "tokens")
        if headers.get(f"x-ratelimit-remaining-{kind}", "").strip() == "0"
    ]
    if milliseconds := headers.get("retry-after-ms"):
        pauses.append(_seconds(milliseconds) / 1000)
    elif after := headers.get("retry-after"):
        pauses.append(_seconds(after))
    return max(pauses, default=0.0)


def _seconds(text: str) -> float:
    """Return a duration or a date as seconds from now; 0 where it is neither."""
    text = text.strip().lower()
    if re.fullmatch(r"\d+(?:\.\d+)?", text):
        return float(text)
    if re.fullmatch(f"(?:{_PART.pattern})+", text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    try:
        date = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    aware = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
