"""Engines turn prompts into responses. Which one does it must not show in the responses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from lima.errors import LimaError, ModelError
from lima.generation.addressed_noise import address_words, seed_address
from lima.generation.padding import let_padding_look
from lima.generation.processors import NO_TOKEN
from lima.generation.sampling import Sampler
from lima.model.context import context_length
from lima.spec import DecodingSpec
from lima.store.values import FinishReason

if TYPE_CHECKING:
    from torch import Tensor

    from lima.generation.cache import RowCache

JOIN = 8
"""New rows start when this part of a batch is free (one place in eight)."""


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


class Engine(Protocol):
    """Samples responses; a response depends on its request and the engine's seed alone."""

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """Return the responses in the order of the requests.

        A prompt that leaves the context no room is answered by an empty response with the
        finish reason `prompt_too_long`. A response is cut (`length`) at `max_new_tokens`, EOT
        included, or at the end of the context.
        """
        ...


@dataclass(frozen=True)
class LoadedEngine:
    """An engine that is ready, and what turns prompts into its tokens and those into text."""

    engine: Engine
    tokenizer: Any
    eot_id: int


@dataclass
class Row:
    """A response in the making, of at most `limit` sampled tokens."""

    request: Request
    limit: int
    """0 or less if the prompt fills the context: then nothing is sampled."""
    token_ids: list[int] = field(default_factory=list)
    finish_reason: FinishReason = "prompt_too_long"
    logprob: float = 0.0
    finished: bool = False

    @classmethod
    def begin(cls, request: Request, decoding: DecodingSpec, context: int | None) -> "Row":
        """Begin a response by a model of `context` positions; None: they are not known."""
        room = math.inf if context is None else context - len(request.token_ids)
        return cls(request, int(min(decoding.max_new_tokens, room)))

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


class TransformersEngine:
    """Decodes with a causal language model of transformers and its key-value cache.

    A row that has finished makes room for the next request: nothing waits for the longest row. In
    fp32 the token ids do not depend on the size of the batch or the order of requests.
    In lower precision rounding differs between batch sizes: there, equal calls agree.
    """

    def __init__(
        self, model: Any, eot_id: int, decoding: DecodingSpec, seed: int, batch_size: int
    ) -> None:
        """Sample from `model`, in evaluation mode on its device, `batch_size` rows at a time."""
        self.model, self.eot_id, self.seed = model, eot_id, seed
        self.decoding, self.batch_size = decoding, batch_size
        self.sampler = Sampler(decoding)
        self.context = context_length(model.config.to_dict())
        let_padding_look(model)

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """See `Engine.generate`.

        Raises:
            ModelError: the model's logits are not numbers.
            LimaError: the batch does not fit into the memory of the GPU.

        """
        rows = [Row.begin(request, self.decoding, self.context) for request in requests]
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
        self._decode_in_memory(decoded)
        return [row.response() for row in rows]

    def _decode_in_memory(self, rows: list[Row]) -> None:
        import torch

        try:
            with torch.inference_mode():
                self._decode(rows)
        except torch.OutOfMemoryError as error:
            raise LimaError(
                f"the GPU has no memory to decode {self.batch_size} responses together; lower "
                f"generate.batch_size ({self.batch_size}) or decoding.max_new_tokens"
            ) from error

    def _decode(self, rows: list[Row]) -> None:
        """Sample until every row has finished."""
        going: _Batch | None = None
        start = 0
        while going or start < len(rows):
            free = self.batch_size - (len(going.rows) if going else 0)
            # A prompt is read faster beside others, so that single places wait for more.
            if start < len(rows) and free >= min(-(-self.batch_size // JOIN), len(rows) - start):
                started = self._start(rows[start : start + free])
                start += free
                going = _joined(going, started)
            else:
                going = self._continue(going) if going else None

    def _start(self, rows: list[Row]) -> "_Batch | None":
        """Read the prompts of some rows, and sample the first token of each."""
        from lima.generation.cache import RowCache

        device = self.model.device
        tokens, mask = _left_padded([row.request.token_ids for row in rows], device)
        addresses = address_words([row.address(self.seed) for row in rows]).to(device)
        history = tokens.masked_fill(mask == 0, NO_TOKEN)
        batch = _Batch(rows, RowCache(), mask, history, addresses)
        return self._advance(batch, tokens, (mask.cumsum(-1) - 1).clamp(min=0))

    def _continue(self, batch: "_Batch") -> "_Batch | None":
        """Sample the next token of each row."""
        return self._advance(batch, batch.history[:, -1:], batch.mask.sum(-1, keepdim=True) - 1)

    def _advance(self, batch: "_Batch", tokens: "Tensor", positions: "Tensor") -> "_Batch | None":
        """Run the model on each row's next tokens, sample one, and leave out what has finished."""
        import torch

        output = self.model(
            input_ids=tokens,
            attention_mask=batch.mask,
            position_ids=positions,
            past_key_values=batch.cache,
            use_cache=True,
            logits_to_keep=1,
        )
        steps = torch.tensor([len(row.token_ids) for row in batch.rows], device=tokens.device)
        sampled, logprobs = self.sampler.sample(
            batch.history, output.logits[:, -1].float(), batch.addresses, steps
        )
        for row, token, logprob in zip(
            batch.rows, sampled.tolist(), logprobs.tolist(), strict=True
        ):
            row.add(token, logprob, self.eot_id)
        return batch.with_tokens(sampled).without_finished()


@dataclass(frozen=True)
class _Batch:
    """Rows that are decoded together.

    `mask` and `history` are int64 (rows, places): 1 and the token where a row has one, 0 and
    `NO_TOKEN` where it is padded on the left. `addresses` is (rows, 4).
    """

    rows: list[Row]
    cache: "RowCache"
    mask: "Tensor"
    history: "Tensor"
    addresses: "Tensor"

    def with_tokens(self, sampled: "Tensor") -> "_Batch":
        import torch

        tokens = sampled.unsqueeze(-1)
        mask = torch.cat([self.mask, torch.ones_like(tokens)], dim=-1)
        return replace(self, mask=mask, history=torch.cat([self.history, tokens], dim=-1))

    def without_finished(self) -> "_Batch | None":
        """Return what goes on, without places that all of it pads; None if nothing does."""
        import torch

        going = [i for i, row in enumerate(self.rows) if not row.finished]
        if len(going) == len(self.rows):
            return self
        if not going:
            return None
        kept = torch.tensor(going, device=self.mask.device)
        trimmed = int(self.mask[kept].amax(0).argmax())
        self.cache.rearrange(kept, trimmed)
        return _Batch(
            [self.rows[i] for i in going],
            self.cache,
            self.mask[kept, trimmed:],
            self.history[kept, trimmed:],
            self.addresses[kept],
        )


def _joined(upper: _Batch | None, lower: _Batch | None) -> _Batch | None:
    """Return the rows of both as one batch."""
    import torch

    if upper is None or lower is None:
        return upper or lower
    everything = torch.arange(len(upper.rows), device=upper.mask.device)
    upper.cache.rearrange(everything, 0, lower.cache)
    length = max(upper.mask.shape[1], lower.mask.shape[1])
    return _Batch(
        [*upper.rows, *lower.rows],
        upper.cache,
        _stacked((upper.mask, lower.mask), length, 0),
        _stacked((upper.history, lower.history), length, NO_TOKEN),
        torch.cat([upper.addresses, lower.addresses]),
    )


def _stacked(parts: "Sequence[Tensor]", length: int, padding: int) -> "Tensor":
    """Return the rows of all parts, padded on the left to `length`."""
    import torch
    from torch.nn.functional import pad

    return torch.cat([pad(part, (length - part.shape[1], 0), value=padding) for part in parts])


def _left_padded(prompts: Sequence[Sequence[int]], device: Any) -> "tuple[Tensor, Tensor]":
    """Return tokens and attention mask, int64 (rows, longest): 0 in both where a row is padded."""
    import torch

    longest = max(len(prompt) for prompt in prompts)
    padding = [[0] * (longest - len(prompt)) for prompt in prompts]
    tokens = [[*pad, *prompt] for pad, prompt in zip(padding, prompts, strict=True)]
    mask = [[*pad, *([1] * len(prompt))] for pad, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(tokens, device=device), torch.tensor(mask, device=device)
