"""Asking an OpenAI-compatible endpoint until it answers: a judge, a baseline, one to chat with."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Protocol, Self

import aiohttp
import msgspec

from lima.endpoints.attempt import Attempt, is_finished, read_completion
from lima.endpoints.dialect import OBJECTIONS, Dialect, objected, without, without_limit
from lima.endpoints.http import MASK, Endpoint, HttpAnswer, TooLongError, read_error, with_own_error
from lima.endpoints.peer import Peer
from lima.endpoints.ratelimit import LOOK_S, Gate
from lima.endpoints.reading import Reader
from lima.endpoints.refusals import ending, redirected
from lima.errors import EndpointError, Interrupted, LimaError
from lima.runs.stop import stop_requested
from lima.store.values import Status

BACKOFF_S = 1.0
"""Wait after the first failure; it doubles with each, and up to as much is added by chance."""
BACKOFF_MAX_S = 30.0

ERROR_CHARACTERS = 500
FORBIDDEN = 403


class Patience(Protocol):
    """How an endpoint is asked, as `JudgeSpec` and `EndpointSpec` say it."""

    @property
    def concurrency(self) -> int:
        """Requests in flight."""
        ...

    @property
    def attempts(self) -> int:
        """Tries a text."""
        ...

    @property
    def timeout_s(self) -> float:
        """Seconds to wait for an answer."""
        ...


class Allowance(Protocol):
    """What may be spent on answers."""

    def room_for(self, text: str) -> contextlib.AbstractAsyncContextManager[list[Attempt]]:
        """Hold what a request may cost; the attempt that was made goes into the list."""
        ...

    def unbounded(self) -> LimaError | None:
        """Return what ends a run whose answers may be of any length; None: nothing does."""
        ...

    async def close(self, reason: LimaError) -> None:
        """Let no request in any more; those that wait get `reason`."""
        ...


class Client:
    """Asks one endpoint; use it as `async with Client(…) as client`.

    A setting that the endpoint refuses is left out or renamed from then on; every attempt says in
    `settings` what was sent with it.
    """

    def __init__(
        self,
        peer: Peer,
        patience: Patience,
        reader: Reader,
        budget: Allowance | None = None,
        stopped: Callable[[], bool] = stop_requested,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            peer: who.
            patience: how often, how many at a time, and how long to wait for an answer.
            reader: how an answer is read.
            budget: what may be spent.
            stopped: says whether a stop is requested.

        Raises:
            InputError: the key is missing, or the address is not one.

        """
        self.peer, self.patience, self.reader = peer, patience, reader
        self._key = peer.key.find()
        self._budget = budget
        self._dialect = Dialect()
        self._stopped = stopped
        self._gate = Gate(patience.concurrency, peer, stopped)
        self._endpoint = Endpoint(peer.key.url, self._key, patience.concurrency)
        self._closed = asyncio.Event()
        self._reason: LimaError | None = None
        self.known = False
        """Whether a request was ever answered, in this run or before: what is forbidden then may be
        a text."""
        self._answered = False
        self._forbidden: list[EndpointError] = []

    async def __aenter__(self) -> Self:
        await self._endpoint.open()
        self._listener = asyncio.create_task(self._listen())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._listener.cancel()
        await self._endpoint.close()

    async def stop(self, reason: LimaError) -> None:
        """Send nothing more: whoever asks or waits gets `reason`. What is in flight goes on."""
        self._reason = self._reason or reason
        self._closed.set()
        await self._gate.close(self._reason)
        if self._budget:
            await self._budget.close(self._reason)

    async def ask(self, text: str) -> list[Attempt]:
        """Ask until there is an answer; return every attempt. The rest is that of `tries`."""
        return [attempts async for attempts in self.tries(text)][-1]

    async def tries(
        self, text: str, before: Sequence[Attempt] = ()
    ) -> AsyncIterator[list[Attempt]]:
        """Ask until there is an answer, at most `attempts` times; yield all attempts after each.

        Args:
            text: What is asked.
            before: Attempts of an earlier run, which count.

        Raises:
            EndpointError: the endpoint refuses the key, the model or the account, or the budget
                leaves no room for the request.
            Interrupted: a stop was requested before an attempt.

        """
        attempts = list(before)
        while not self.finished(attempts):
            await self._back_off(attempts)
            attempts = [*attempts, await self._paid(text)]
            yield attempts

    def finished(self, attempts: Sequence[Attempt]) -> bool:
        """Say whether a text needs no other attempt."""
        return is_finished(attempts, self.patience.attempts, self.is_good)

    def refused(self) -> EndpointError | None:
        """Return what ends a run of which all requests of this time were forbidden; None: not so.

        One alone may be a text that a firewall forbids. More are the key, which may be another one
        than that which was answered before.
        """
        return self._forbidden[-1] if len(self._forbidden) > 1 and not self._answered else None

    @staticmethod
    def is_good(attempt: Attempt) -> bool:
        """Say whether an attempt is what was wanted."""
        return attempt.status == "ok"

    def body(self, text: str) -> Mapping[str, object]:
        """Return the request that asks with a text, with all settings that are wanted."""
        raise NotImplementedError

    async def _listen(self) -> None:
        """Hear a stop for all that waits, whatever it waits for."""
        while not self._stopped():
            await asyncio.sleep(LOOK_S)
        await self.stop(Interrupted(f"stopped on request; {self.peer.kept}"))

    async def _back_off(self, attempts: Sequence[Attempt]) -> None:
        """Wait before the next attempt; not after an answer, which another one may mend."""
        if not attempts or attempts[-1].status != "api_error":
            return
        failures = sum(attempt.status == "api_error" for attempt in attempts)
        pause = min(BACKOFF_MAX_S, BACKOFF_S * 2.0 ** min(failures - 1, 30))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause + random.uniform(0, BACKOFF_S)):
                await self._closed.wait()
        if self._reason:
            raise self._reason

    async def _paid(self, text: str) -> Attempt:
        if self._budget is None:
            return await self._ask(text)
        async with self._budget.room_for(text) as made:
            made.append(await self._ask(text))
        return made[0]

    async def _ask(self, text: str) -> Attempt:
        async with self._gate:
            started = time.monotonic()
            attempt, sent = await self._send(self.body(text))
            seconds = time.monotonic() - started
            return replace(attempt, seconds=seconds, settings=_settings(sent))

    async def _send(self, wanted: Mapping[str, object]) -> tuple[Attempt, Mapping[str, object]]:
        """Send a request, and again without what the endpoint objects to; return what was sent."""
        refused = self._dialect.refused
        while True:
            body = without(wanted, refused)
            attempt = await self._post(body)
            new: frozenset[str] = frozenset()
            if attempt.http_status in OBJECTIONS and not attempt.answered:
                # Another request may have learnt meanwhile what this one was sent with.
                new = objected(body.keys(), attempt.error or "") | self._dialect.refused
            if new <= refused:
                break
            refused |= new
            if self._budget and without_limit(refused) and (end := self._budget.unbounded()):
                raise end
        self._answered |= attempt.answered
        self.known |= attempt.answered
        if attempt.answered and attempt.http_status not in OBJECTIONS:
            self._dialect.refused |= refused
        return attempt, body

    async def _post(self, body: Mapping[str, object]) -> Attempt:
        try:
            async with asyncio.timeout(self.patience.timeout_s):
                answer = await self._endpoint.ask(body)
        except TimeoutError:
            return self._failure(f"no answer within {self.patience.timeout_s:g} s")
        except TooLongError as error:
            return self._failure(f"the answer is no model's: {error}")
        except (aiohttp.ClientError, OSError) as error:
            return self._lost(error)
        attempt = None if answer.failed or answer.redirect else self._read(answer)
        if attempt and not attempt.answered:
            answer = with_own_error(answer)
        self._gate.observe(answer.status, answer.headers)
        if answer.redirect:
            raise redirected(self.peer, answer.status, self._safe(answer.redirect))
        if answer.failed or attempt is None:
            return self._refused(answer)
        return self._masked(attempt)

    def _read(self, answer: HttpAnswer) -> Attempt:
        limit = self.peer.length_setting
        return read_completion(answer.body, answer.status, answer.request_id, self.reader, limit)

    def _refused(self, answer: HttpAnswer) -> Attempt:
        """Record an HTTP error, or end the run where it would meet every request."""
        body = read_error(answer)
        failure = self._failure(body.message)
        error = ending(self.peer, answer.status, body.code, failure.error or "")
        if error and answer.of_every_request and not body.filtered:
            if not (answer.status == FORBIDDEN and self.known):
                raise error
            self._forbidden.append(error)
        status: Status = "refusal" if body.filtered else "api_error"
        told = replace(
            failure, status=status, http_status=answer.status, request_id=answer.request_id
        )
        return self._masked(told)

    def _lost(self, error: BaseException) -> Attempt:
        """Record that there was no answer, and whether there was a request."""
        if isinstance(error, aiohttp.ClientConnectorError):
            return replace(self._failure(f"no connection: {error.os_error}"), sent=False)
        # Bad HTTP is told in several lines, under a status that nobody sent.
        said = getattr(error, "message", None) or str(error) or repr(error)
        return self._failure(f"the answer was lost: {' '.join(str(said).split())}")

    def _failure(self, text: str) -> Attempt:
        return Attempt("api_error", error=self._safe(text)[:ERROR_CHARACTERS])

    def _masked(self, attempt: Attempt) -> Attempt:
        """Take the key out of what the endpoint says: it may repeat what it was given."""
        if not self._key:
            return attempt
        said = ("verdict", "error", "request_id", "judge_version")
        told: dict[str, Any] = {name: getattr(attempt, name) for name in said}
        repeated: dict[str, Any] = {
            name: self._safe(text) for name, text in told.items() if text and self._key in text
        }
        return replace(attempt, **repeated) if repeated else attempt

    def _safe(self, text: str) -> str:
        return text.replace(self._key, MASK) if self._key else text


def _settings(body: Mapping[str, object]) -> str:
    """Return what was sent beside the model and its text, as JSON."""
    sent = {name: value for name, value in body.items() if name not in ("model", "messages")}
    return msgspec.json.encode(sent, order="sorted").decode()
