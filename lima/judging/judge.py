"""The judge: the endpoint that is asked for verdicts (section 4.1, appendix D)."""

from collections.abc import Mapping
from types import TracebackType

from lima.endpoints.client import Client
from lima.endpoints.keys import judge_key
from lima.endpoints.peer import Peer
from lima.judging.budget import Budget
from lima.judging.rubrics import RUBRICS
from lima.spec import JudgeSpec


class Judge(Client):
    """Scores responses; use it as `async with Judge(spec) as judge`."""

    def __init__(self, spec: JudgeSpec, budget: Budget | None = None) -> None:
        """Prepare to ask; nothing is sent yet. `budget` knows what was spent before.

        Raises:
            InputError: the key is missing, the address is not one, or a budget has no prices.

        """
        self.spec, self._spending = spec, budget or Budget(spec)
        super().__init__(judge_peer(spec), spec, RUBRICS[spec.rubric], self._spending)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._spending.settle()
        await super().__aexit__(kind, error, trace)

    def body(self, text: str) -> Mapping[str, object]:
        """See `Client.body`."""
        return {
            "model": self.spec.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": self.spec.temperature,
            "max_tokens": self.spec.max_tokens,
        }


def judge_peer(spec: JudgeSpec) -> Peer:
    """Return the judge of a spec."""
    return Peer(
        name="the judge",
        key=judge_key(spec),
        model=spec.model,
        model_setting="judge.model",
        limits="judge",
        length_setting="judge.max_tokens",
        kept="finished judgments are kept",
    )
