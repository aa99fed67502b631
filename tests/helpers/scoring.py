"""Scores of a judge, without a run around them."""

import asyncio

from lima.endpoints.attempt import Attempt
from lima.judging.judge import Judge
from lima.judging.likert import build_request
from lima.spec import JudgeSpec


def score(spec: JudgeSpec, *responses: str) -> list[list[Attempt]]:
    """Return the attempts at each response, asked at the same time."""

    async def ask() -> list[list[Attempt]]:
        async with Judge(spec) as judge:
            return await asyncio.gather(*[judge.ask(build_request(["Why?"], r)) for r in responses])

    return asyncio.run(ask())
