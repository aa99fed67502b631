"""The money that a run may spend: nothing is asked that could pass the limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal

from lima.common.money import ZERO, dollars, price_of
from lima.endpoints.attempt import Attempt
from lima.errors import EndpointError, LimaError, SpecError, StorageError
from lima.spec.endpoints import JudgeSpec

FRAME_TOKENS = 64
"""More than a chat template adds around one message."""

AHEAD = Decimal(1) / 8
"""Part of the requests in flight for which money is kept ahead. An answer costs less than was kept
for it, so that this lasts for far more of them; after a kill, all of it counts as spent."""

_BUSY = 503

Keep = Callable[[Decimal], Awaitable[None]]


class Budget:
    """What was spent, and what the requests in flight may still cost at most; US dollars."""

    def __init__(self, spec: JudgeSpec, before: Decimal = ZERO, keep: Keep | None = None) -> None:
        """Go on from what earlier attempts at the run have spent.

        Args:
            spec: Limit and prices.
            before: What earlier attempts may have spent, US dollars.
            keep: Told what this attempt may have spent so far, before it is spent (see
                `lima.judging.spending`).

        Raises:
            SpecError: there is a budget, but no prices to hold it with.

        """
        if spec.budget is not None and not (spec.input_price or spec.output_price):
            raise SpecError(
                "judge.budget: without prices nothing is known to cost anything; set "
                "judge.input_price and judge.output_price too"
            )
        self.spec, self.before, self.spent = spec, before, ZERO
        self.in_flight = 0
        self._limit = None if spec.budget is None else dollars(spec.budget)
        self._keep, self._kept, self._reserved = keep, ZERO, ZERO
        self._changed = asyncio.Condition()
        self._closed: LimaError | None = None

    def most(self, text: str) -> Decimal:
        """Return what asking with `text` can cost at most, US dollars.

        A token stands for at least one byte, so that there are no more of them than bytes.
        """
        tokens = len(text.encode()) + FRAME_TOKENS
        asked = price_of(tokens, self.spec.input_price)
        return asked + price_of(self.spec.max_tokens, self.spec.output_price)

    @contextlib.asynccontextmanager
    async def room_for(self, text: str) -> AsyncIterator[list[Attempt]]:
        """Hold what a request may cost, once others leave the room; put its attempt in the list.

        Raises:
            EndpointError: there is no room, and no request in flight that could leave some.
            StorageError: it could not be kept what the request may cost.
            LimaError: the budget was closed with it.

        """
        most, made = self.most(text), list[Attempt]()
        await self._enter(most)
        try:
            yield made
        except asyncio.CancelledError:
            self.spent += most  # it may have been sent
            raise
        finally:
            self.in_flight -= 1
            self._reserved -= most
            self.spent += sum((self._paid(attempt, most) for attempt in made), ZERO)
            async with self._changed:
                self._changed.notify_all()

    def unbounded(self) -> EndpointError | None:
        """Return what ends a run whose answers may be of any length; None: there is no limit."""
        if self._limit is None:
            return None
        return EndpointError(
            f"the judge at {self.spec.base_url} takes no limit of the length of its answers "
            "(neither max_tokens nor max_completion_tokens), so that what one may cost is not "
            "known and judge.budget cannot be held; ask without judge.budget, or another endpoint: "
            "finished judgments are kept"
        )

    async def close(self, reason: LimaError) -> None:
        """Let no request in any more, not even those that wait; they get `reason`."""
        async with self._changed:
            self._closed = reason
            self._changed.notify_all()

    async def settle(self) -> None:
        """Say what was really spent, once nothing is in flight any more."""
        if self._keep and self._kept:
            # Else what was kept goes on to count, which is safe.
            with contextlib.suppress(StorageError):
                await self._keep(self.spent)

    async def _enter(self, most: Decimal) -> None:
        async with self._changed:
            # Requests are counted: whether money is left over is no sign that none is under way.
            await self._changed.wait_for(
                lambda: self._closed or self._fits(most) or not self.in_flight
            )
            if self._closed:
                raise self._closed
            if not self._fits(most):
                raise self._passed(most)
            # Nobody else gets in meanwhile: what they need would have to be kept too.
            await self._keep_for(most)
            self.in_flight += 1
            self._reserved += most

    def _left(self) -> Decimal | None:
        """Return what requests may cost that are not in flight yet, US dollars; None: no limit."""
        if self._limit is None:
            return None
        return self._limit - self.before - self.spent - self._reserved

    def _fits(self, most: Decimal) -> bool:
        left = self._left()
        return left is None or most <= left

    async def _keep_for(self, most: Decimal) -> None:
        """Have it kept what a request may cost, and some more ahead."""
        used = self.spent + self._reserved
        if self._keep and used + most > self._kept:
            ahead, left = max(Decimal(1), AHEAD * self.spec.concurrency) * most, self._left()
            enough = used + (ahead if left is None else min(ahead, left))
            await self._keep(enough)
            self._kept = enough

    def _paid(self, attempt: Attempt, most: Decimal) -> Decimal:
        """Return what an attempt cost; one that may have been billed unseen, at most.

        Only a refusal is free. An answer that was lost on its way, or that does not tell its
        tokens, may have been billed whole.
        """
        if attempt.prompt_tokens is not None and attempt.completion_tokens is not None:
            return attempt_cost(self.spec, attempt) or ZERO
        status = attempt.http_status or 0
        refused = not attempt.sent or 300 <= status < 500 or status == _BUSY
        return ZERO if refused else most

    def _passed(self, most: Decimal) -> EndpointError:
        spent = self.before + self.spent
        return EndpointError(
            f"the next request may cost {most:.4f} US dollars, which could pass the budget of "
            f"{self.spec.budget:g} ({spent:.4f} count as spent); raise judge.budget, then start "
            "again: finished judgments are kept"
        )


def attempt_cost(spec: JudgeSpec, attempt: Attempt) -> Decimal | None:
    """Return what an attempt cost, US dollars; None: it answered, and does not tell its tokens.

    A refusal by an HTTP error, as a filter of prompts gives, is none of a model: it is free.
    """
    prompt = (attempt.prompt_tokens, spec.input_price)
    sides = (prompt, (attempt.completion_tokens, spec.output_price))
    by_model = attempt.answered and (attempt.http_status or 0) < 400
    if by_model and any(tokens is None and price for tokens, price in sides):
        return None
    return sum((price_of(tokens or 0, price) for tokens, price in sides), ZERO)
