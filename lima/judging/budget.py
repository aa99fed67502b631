"""The money that a run may spend: nothing is asked that could pass the limit."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from lima.errors import JudgeError, SpecError
from lima.judging.attempt import Attempt
from lima.spec_judge import JudgeSpec

FRAME_TOKENS = 64
"""More than a chat template adds around one message."""


class Budget:
    """What was spent, and what the requests in flight may still cost at most."""

    def __init__(self, spec: JudgeSpec, spent: float = 0.0) -> None:
        """Go on from what earlier attempts at the run have spent, US dollars.

        Raises:
            SpecError: there is a budget, but no prices to hold it with.

        """
        if spec.budget is not None and not (spec.input_price or spec.output_price):
            raise SpecError(
                "judge.budget: without prices nothing is known to cost anything; set "
                "judge.input_price and judge.output_price too"
            )
        self.spec, self.spent = spec, spent
        self._reserved = 0.0
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

        """
        most, made = self.most(text), list[Attempt]()
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or not self._reserved)
            if not self._fits(most):
                raise self._passed(most)
            self._reserved += most
        try:
            yield made
        finally:
            async with self._changed:
                self._reserved = max(0.0, self._reserved - most)
                self.spent += sum(self._paid(attempt, most) for attempt in made)
                self._changed.notify_all()

    def _fits(self, most: float) -> bool:
        limit = self.spec.budget
        return limit is None or self.spent + self._reserved + most <= limit

    def _paid(self, attempt: Attempt, most: float) -> float:
        """Return what an attempt cost; one that got no answer may have been billed whole."""
        return most if attempt.http_status is None else attempt_cost(self.spec, attempt)

    def _completions(self) -> float:
        return self.spec.max_tokens * self.spec.output_price

    def _passed(self, most: float) -> JudgeError:
        return JudgeError(
            f"the next request may cost {most:.4f} US dollars, which could pass the budget of "
            f"{self.spec.budget:g} ({self.spent:.4f} are spent); raise judge.budget, then start "
            "again: finished judgments are kept"
        )


def attempt_cost(spec: JudgeSpec, attempt: Attempt) -> float:
    """Return what an attempt cost, US dollars."""
    prompt, completion = attempt.prompt_tokens or 0, attempt.completion_tokens or 0
    return (prompt * spec.input_price + completion * spec.output_price) / 1e6
