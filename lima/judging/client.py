"""The judge: an OpenAI-compatible endpoint that is asked until it gives a verdict."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

import aiohttp
import stamina

from lima.errors import JudgeError, LimaError
from lima.judging.attempt import Attempt, Status, read_completion
from lima.judging.budget import Budget
from lima.judging.endpoint import Answer, Endpoint, read_error
from lima.judging.key import NO_KEY, api_key
from lima.judging.likert import build_request
from lima.judging.ratelimit import Gate
from lima.judging.rubrics import RUBRICS
from lima.spec import JudgeSpec

BACKOFF_S = 1.0
"""Wait after the first failure; it doubles with each, and up to as much is added by chance."""
BACKOFF_MAX_S = 30.0

ERROR_CHARACTERS = 500
_FILTERED = ("content_filter", "content_policy_violation")


class Judge:
    """Scores responses; use it as `async with Judge(spec) as judge`."""

    settled: tuple[Status, ...] = ("ok",)
    """What an attempt may come to that needs no other one."""

    def __init__(self, spec: JudgeSpec, budget: Budget | None = None) -> None:
        """Prepare to ask; nothing is sent yet. `budget` knows what was spent before.

        Raises:
            InputError: the key is missing, the address is not one, or a budget has no prices.

        """
        self.spec = spec
        self._key = api_key(spec)
        self._budget = budget or Budget(spec)
        self.rubric = RUBRICS[spec.rubric]
        self._gate = Gate(spec.concurrency)
        self._endpoint = Endpoint(spec.base_url, self._key, spec.concurrency)

    async def __aenter__(self) -> Self:
        await self._endpoint.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._budget.settle()
        await self._endpoint.close()

    async def stop(self, reason: LimaError) -> None:
        """Send nothing more: `score` raises `reason` instead. What is in flight goes on."""
        await self._gate.close(reason)

    async def score(self, prompt: Sequence[str], response: str) -> list[Attempt]:
        """Ask until there is a score, at most `spec.attempts` times; return every attempt.

        An endpoint that turns a request away for its rate limit has not tried: such attempts
        are returned too, but not counted. A request it calls wrong is not sent again.

        Args:
            prompt: Utterances in turn, the user's first and last.
            response: What the model answered.

        Raises:
            JudgeError: the endpoint refuses the key, the model or the account, or the budget
                leaves no room for the request.
            Interrupted: a stop was requested before an attempt.

        """
        return await self.ask(build_request(prompt, response))

    async def ask(self, text: str) -> list[Attempt]:
        """Ask with a ready text; the rest is that of `score`."""
        attempts = [await self._paid(text)]
        if attempts[-1].status not in self.settled:
            await self._again(text, attempts)
        return attempts

    async def _again(self, text: str, attempts: list[Attempt]) -> None:
        """Add more attempts to a first one that gave nothing."""
        trials = stamina.retry_context(
            on=self._backoff,
            attempts=None,
            timeout=None,
            wait_initial=BACKOFF_S,
            wait_max=BACKOFF_MAX_S,
            wait_jitter=BACKOFF_S,
        )
        with contextlib.suppress(_UnscoredError):
            async for trial in trials:
                with trial:
                    if trial.num > 1:
                        attempts.append(await self._paid(text))
                    if attempts[-1].status not in self.settled:
                        raise _UnscoredError(attempts)

    async def _paid(self, text: str) -> Attempt:
        async with self._budget.room_for(text) as made:
            made.append(await self._ask(text))
        return made[0]

    def _backoff(self, error: Exception) -> bool | float:
        """Say whether to try again, and for a judge that did answer, to do so at once."""
        if not isinstance(error, _UnscoredError):
            return False
        last = error.attempts[-1]
        counted = sum(not attempt.rate_limited for attempt in error.attempts)
        if last.permanent or counted >= self.spec.attempts:
            return False
        return True if last.status == "api_error" else 0.0

    async def _ask(self, text: str) -> Attempt:
        async with self._gate:
            started = time.monotonic()
            attempt = await self._send(text)
            return replace(attempt, seconds=time.monotonic() - started)

    async def _send(self, text: str) -> Attempt:
        try:
            async with asyncio.timeout(self.spec.timeout_s):
                answer = await self._endpoint.ask(self._body(text))
        except TimeoutError:
            return self._failure(f"no answer within {self.spec.timeout_s:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return self._lost(error)
        self._gate.observe(answer.status, answer.headers)
        if answer.failed:
            return self._refused(answer)
        return read_completion(answer.body, answer.status, answer.request_id, self.rubric)

    def _body(self, text: str) -> dict[str, object]:
        return {
            "model": self.spec.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": self.spec.temperature,
            "max_tokens": self.spec.max_tokens,
        }

    def _refused(self, answer: Answer) -> Attempt:
        """Record an HTTP error, or end the run where it would meet every request."""
        status, body = answer.status, read_error(answer)
        failure = replace(
            self._failure(body.message), http_status=status, request_id=answer.request_id
        )
        endpoint = f"the judge at {self.spec.base_url}"
        said, variable = f"(HTTP {status}: {failure.error})", self.spec.api_key_env
        if status in (401, 403):
            raise JudgeError(
                f"{endpoint} refuses the key {said}; check the environment variable {variable}"
            )
        if status == 404:
            raise JudgeError(
                f"{endpoint} does not know model {self.spec.model!r}, or there is none {said}; "
                "check judge.model and judge.base_url"
            )
        if body.code == "insufficient_quota":
            raise JudgeError(
                f"{endpoint} says that the account has no credit left {said}; top up the account "
                f"of the key in {variable}, then start again: finished judgments are kept"
            )
        return replace(failure, status="refusal") if body.code in _FILTERED else failure

    def _lost(self, error: BaseException) -> Attempt:
        """Record that there was no answer, and whether there was a request."""
        if isinstance(error, aiohttp.ClientConnectorError):
            return replace(self._failure(f"no connection: {error.os_error}"), sent=False)
        # Bad HTTP is told in several lines, under a status that nobody sent.
        said = getattr(error, "message", None) or str(error) or repr(error)
        return self._failure(f"the answer was lost: {' '.join(str(said).split())}")

    def _failure(self, text: str) -> Attempt:
        # An endpoint may repeat the key that it was given.
        safe = text if self._key == NO_KEY else text.replace(self._key, "***")
        return Attempt("api_error", error=safe[:ERROR_CHARACTERS])


class _UnscoredError(Exception):
    """An attempt gave no score; carries all attempts at this response so far."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        super().__init__(attempts[-1].status)
        self.attempts = attempts
