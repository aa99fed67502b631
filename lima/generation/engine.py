"""Engines turn prompts into responses. Which one does it must not show in the responses."""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from lima.errors import ModelError
from lima.generation.addressed_noise import seed_address
from lima.spec import DecodingSpec
from lima.store.values import FinishReason


@dataclass(frozen=True)
class Request:
    """A response to sample: the tokens of its prompt, and where it is sampled."""

    token_ids: Sequence[int]
    prompt_key: str
    sample: int


@dataclass(frozen=True)
class SampledResponse:
    """A sampled response.

    `token_ids` come without EOT. `logprob` (nats) is that of all sampled tokens, EOT included,
    under the processed distribution: 0 is certain.
    """

    token_ids: list[int]
    finish_reason: FinishReason
    logprob: float


Arriving = Callable[[bool], Sequence[Request] | None]
"""Returns the requests that have arrived since it was last called; told to wait, at least one.
None: no more will come, and it is not to be called again."""


class Engine(Protocol):
    """Samples responses; a response depends on its request and the engine's seed alone."""

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """Return the responses in the order of the requests.

        A prompt that leaves the context no room is answered by an empty response with the
        finish reason `prompt_too_long`. A response is cut (`length`) at `max_new_tokens`, EOT
        included, or at the end of the context.
        """
        ...


@runtime_checkable
class ServingEngine(Engine, Protocol):
    """An engine that takes more requests while it samples others."""

    def serve(self, arriving: Arriving) -> Iterator[tuple[int, SampledResponse]]:
        """Yield each response when it ends, with the number of its request by arrival, from 0.

        Ends with the last response once no more requests come; raises what `generate` does.
        """
        ...


def answers_of(engine: ServingEngine, requests: Sequence[Request]) -> list[SampledResponse]:
    """Return the responses to requests that are all there."""
    left = [requests]
    served = dict(engine.serve(lambda _: left.pop() if left else None))
    return [served[number] for number in range(len(requests))]


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that is ready, and what turns prompts into its tokens and those into text."""

    engine: Engine
    tokenizer: Any
    eot_id: int
    tokenizing: threading.Lock = field(default_factory=threading.Lock)
    """Held while the tokenizer is used, which two threads may not do at a time."""


@dataclass
class Row:
    """A response in the making, of at most `limit` sampled tokens."""

    request: Request
    number: int
    limit: int
    """0 or less if the prompt fills the context: then nothing is sampled."""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "prompt_too_long"
    logprob: float = 0.0
    finished: bool = False

    @classmethod
    def begin(
        cls, requests: Sequence[Request], first: int, decoding: DecodingSpec, context: int | None
    ) -> "list[Row]":
        """Begin responses, numbered from `first`, by a model of `context` positions.

        None: they are not known.
        """
        room = math.inf if context is None else context
        limits = [min(decoding.max_new_tokens, room - len(r.token_ids)) for r in requests]
        numbered = enumerate(zip(requests, limits, strict=True), first)
        return [cls(request, number, int(limit)) for number, (request, limit) in numbered]

    def known(self) -> list[int]:
        """Return the tokens of the prompt and of the response so far."""
        return [*self.request.token_ids, *self.token_ids]

    def address(self, seed: int) -> str:
        """Return where it is sampled."""
        return seed_address(seed, self.request.prompt_key, self.request.sample)

    def add(self, token: int, logprob: float, eot_id: int) -> None:
        """Append a sampled token.

        Raises:
            ModelError: the model's logits are not numbers.

        """
        if not math.isfinite(logprob):
            raise ModelError(
                f"prompt {self.request.prompt_key[:12]}, token {len(self.token_ids) + 1} of the "
                "response: the model's logits are not numbers, so its weights are damaged or its "
                "training diverged; generate from an earlier epoch (generate.model.epoch)"
            )
        self.logprob += logprob
        if token == eot_id:
            self.finish_reason, self.finished = "eot", True
            return
        self.token_ids.append(token)
        if len(self.token_ids) == self.limit:
            self.finish_reason, self.finished = "length", True

    def response(self) -> SampledResponse:
        """Return what was sampled."""
        return SampledResponse(self.token_ids, self.finish_reason, self.logprob)
