"""The money that a run may spend: nothing is asked that could pass the limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

from lima.errors import JudgeError, SpecError, StorageError
from lima.judging.attempt import Attempt
from lima.spec_judge import JudgeSpec

FRAME_TOKENS = 64
"""More than a chat template adds around one message."""

AHEAD = 1 / 8
"""Part of the requests in flight for which money is kept ahead. An answer costs less than was kept
for it, so that this lasts for far more of them; after a kill, all of it counts as spent."""

_BUSY = 503

Keep = Callable[[float], Awaitable[None]]


class Budget:
    """What was spent, and what the requests in flight may still cost at most."""

    def __init__(self, spec: JudgeSpec, before: float = 0.0, keep: Keep | None = None) -> None:
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
        self.spec, self.before, self.spent = spec, before, 0.0
        self._keep, self._kept, self._reserved = keep, 0.0, 0.0
        self._changed = asyncio.Condition()

    def most(self, text: str) -> float:
        """Return what asking with `text` can cost at most, US dollars.

        A token stands for at least one byte, so that there are no more of them than bytes.
        """
        tokens = len(text.encode()) + FRAME_TOKENS
        return (tokens * self.spec.input_price + self._completions()) / 1e6

    @contextlib.asynccontextmanager
    async def room_for(self, text: str) -> AsyncIterator[list[Attempt]]:
        """Hold what a request may cost, once others leave the room; put its attempt in the list.

        Raises:
            JudgeError: there is no room, and no request in flight that could leave some.
            StorageError: it could not be kept what the request may cost.

        """
        most, made = self.most(text), list[Attempt]()
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or not self._reserved)
            if not self._fits(most):
                raise self._passed(most)
            # Nobody else gets in meanwhile: what they need would have to be kept too.
            await self._keep_for(most)
            self._reserved += most
        try:
            yield made
        except asyncio.CancelledError:
            self.spent += most  # it may have been sent
            raise
        finally:
            async with self._changed:
                self._reserved = max(0.0, self._reserved - most)
                self.spent += sum(self._paid(attempt, most) for attempt in made)
                self._changed.notify_all()

    async def settle(self) -> None:
        """Say what was really spent, once nothing is in flight any more."""
        if self._keep and self._kept:
            # Else what was kept goes on to count, which is safe.
            with contextlib.suppress(StorageError):
                await self._keep(self.spent)

    def _left(self) -> float:
        """Return what requests may cost that are not in flight yet, US dollars."""
        limit = self.spec.budget
        used = self.before + self.spent + self._reserved
        return float("inf") if limit is None else limit - used

    def _fits(self, most: float) -> bool:
        return most <= self._left()

    async def _keep_for(self, most: float) -> None:
        """Have it kept what a request may cost, and some more ahead."""
        used = self.spent + self._reserved
        if self._keep and used + most > self._kept:
            ahead = max(1, AHEAD * self.spec.concurrency)
            enough = used + min(ahead * most, self._left())
            await self._keep(enough)
            self._kept = enough

    def _paid(self, attempt: Attempt, most: float) -> float:
        """Return what an attempt cost; one that may have been billed unseen, at most.

        Only a refusal is free. An answer that was lost on its way, or that does not tell its
        tokens, may have been billed whole.
        """
        if attempt.prompt_tokens is not None and attempt.completion_tokens is not None:
            return attempt_cost(self.spec, attempt)
        status = attempt.http_status or 0
        refused = not attempt.sent or 400 <= status < 500 or status == _BUSY
        return 0.0 if refused else most

    def _completions(self) -> float:
        return self.spec.max_tokens * self.spec.output_price

    def _passed(self, most: float) -> JudgeError:
        spent = self.before + self.spent
        return JudgeError(
            f"the next request may cost {most:.4f} US dollars, which could pass the budget of "
            f"{self.spec.budget:g} ({spent:.4f} count as spent); raise judge.budget, then start "
            "again: finished judgments are kept"
        )


def attempt_cost(spec: JudgeSpec, attempt: Attempt) -> float:
    """Return what an attempt cost, US dollars."""
    prompt, completion = attempt.prompt_tokens or 0, attempt.completion_tokens or 0
    return (prompt * spec.input_price + completion * spec.output_price) / 1e6
