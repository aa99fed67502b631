"""Engines turn prompts into responses. Which one does it must not show in the responses."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from lima.errors import LimaError, ModelError
from lima.generation.padding import let_padding_look
from lima.generation.philox import address_words, gumbel_noise, seed_address
from lima.generation.processors import NO_TOKEN, build_processors
from lima.model.context import context_length
from lima.spec import DecodingSpec

if TYPE_CHECKING:
    from torch import Tensor

FinishReason = Literal["eot", "length", "prompt_too_long"]


@dataclass(frozen=True)
class Request:
    """A response to sample: the tokens of its prompt, and where it is sampled."""

    token_ids: Sequence[int]
    prompt_key: str
    sample: int


@dataclass(frozen=True)
class Response:
    """A sampled response.

    `token_ids` come without EOT. `logprob` (nats) is that of all sampled tokens, EOT included,
    under the processed distribution: 0 is certain.
    """

    token_ids: list[int]
    finish_reason: FinishReason
    logprob: float


class Engine(Protocol):
    """Samples responses; a response depends on its request and the engine's seed alone."""

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Return the responses in the order of the requests.

        A prompt that leaves the context no room is answered by an empty response with the
        finish reason `prompt_too_long`. A response is cut (`length`) at `max_new_tokens`, EOT
        included, or at the end of the context.
        """
        ...


class TransformersEngine:
    """Decodes batches with a causal language model of transformers and its key-value cache.

    In fp32 the token ids do not depend on the size of the batch or the order of requests.
    In lower precision rounding differs between batch sizes: there, equal calls agree.
    """

    def __init__(
        self, model: Any, eot_id: int, decoding: DecodingSpec, seed: int, batch_size: int
    ) -> None:
        """Sample from `model`, in evaluation mode on its device, `batch_size` rows at a time."""
        self.model, self.eot_id, self.seed = model, eot_id, seed
        self.decoding, self.batch_size = decoding, batch_size
        self.processors = build_processors(decoding)
        self.context = context_length(model.config.to_dict())
        let_padding_look(model)

    def generate(self, requests: Sequence[Request]) -> list[Response]:
        """See `Engine.generate`.

        Raises:
            ModelError: the model's logits are not numbers.
            LimaError: the batch does not fit into the memory of the GPU.

        """
        rows = [_Row(request, self._limit(request)) for request in requests]
        # Prompts of like length waste little padding; the longest first, so that memory which
        # does not suffice is noticed at once. The order of the requests has no influence.
        decoded = sorted(
            (row for row in rows if row.limit > 0),
            key=lambda row: (
                -len(row.request.token_ids),
                row.request.prompt_key,
                row.request.sample,
            ),
        )
        for batch in _batches(decoded, self.batch_size):
            self._decode_in_memory(batch)
        return [Response(row.token_ids, row.finish_reason, row.logprob) for row in rows]

    def _limit(self, request: Request) -> int:
        """Return how many tokens may be sampled: 0 or less if the prompt fills the context."""
        context = self.context or math.inf
        return int(min(self.decoding.max_new_tokens, context - len(request.token_ids)))

    def _decode_in_memory(self, batch: "list[_Row]") -> None:
        import torch

        try:
            with torch.inference_mode():
                self._decode(batch)
        except torch.OutOfMemoryError as error:
            raise LimaError(
                f"the GPU has no memory to decode {len(batch)} responses together; lower "
                f"generate.batch_size ({self.batch_size}) or decoding.max_new_tokens"
            ) from error

    def _decode(self, rows: "list[_Row]") -> None:
        """Sample until every row has finished; finished rows leave the batch."""
        import torch

        device = self.model.device
        tokens, mask = _left_padded([row.request.token_ids for row in rows], device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        history = tokens.masked_fill(mask == 0, NO_TOKEN)
        addresses = address_words([row.address(self.seed) for row in rows]).to(device)
        cache = None
        for step in itertools.count():
            output = self.model(
                input_ids=tokens,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            cache = output.past_key_values
            scores = self.processors(history, output.logits[:, -1].float())
            sampled, logprobs = self._sample(scores, addresses, step)
            for row, token, logprob in zip(rows, sampled.tolist(), logprobs.tolist(), strict=True):
                row.add(token, logprob, self.eot_id)
            going = [i for i, row in enumerate(rows) if not row.finished]
            if not going:
                return
            if len(going) < len(rows):
                # On the CPU, since the cache of a model that is spread lies on several GPUs.
                kept = torch.tensor(going)
                cache.batch_select_indices(kept)
                rows = [rows[i] for i in going]
                sampled, mask, positions, history, addresses = (
                    t[kept] for t in (sampled, mask, positions, history, addresses)
                )
            tokens = sampled.unsqueeze(-1)
            mask = torch.cat([mask, torch.ones_like(tokens)], dim=-1)
            history = torch.cat([history, tokens], dim=-1)
            positions = positions[:, -1:] + 1

    def _sample(self, scores: "Tensor", addresses: "Tensor", step: int) -> "tuple[Tensor, Tensor]":
        """Return a token of each row and its log-probability, both of shape (rows,)."""
        noisy = scores
        if self.decoding.temperature > 0:
            noisy = scores + gumbel_noise(addresses, step, scores.shape[-1])
        sampled = noisy.argmax(-1)
        chosen = scores.gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
        return sampled, chosen - scores.logsumexp(-1)


@dataclass
class _Row:
    """A response in the making, of at most `limit` sampled tokens."""

    request: Request
    limit: int
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "prompt_too_long"
    logprob: float = 0.0
    finished: bool = False

    def address(self, seed: int) -> str:
        return seed_address(seed, self.request.prompt_key, self.request.sample)

    def add(self, token: int, logprob: float, eot_id: int) -> None:
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


def _batches(rows: list[_Row], size: int) -> Iterator[list[_Row]]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _left_padded(prompts: Sequence[Sequence[int]], device: Any) -> "tuple[Tensor, Tensor]":
    """Return tokens and attention mask, int64 (rows, longest): 0 in both where a row is padded."""
    import torch

    longest = max(len(prompt) for prompt in prompts)
    padding = [[0] * (longest - len(prompt)) for prompt in prompts]
    tokens = [[*pad, *prompt] for pad, prompt in zip(padding, prompts, strict=True)]
    mask = [[*pad, *([1] * len(prompt))] for pad, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
