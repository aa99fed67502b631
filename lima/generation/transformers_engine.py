"""Our own engine: a causal language model of transformers, decoded in batches that stay full."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lima.errors import LimaError
from lima.generation.addressed_noise import address_words
from lima.generation.engine import Arriving, Request, Row, SampledResponse, answers_of
from lima.generation.padding import let_padding_look
from lima.generation.processors import NO_TOKEN
from lima.generation.sampling import Sampler
from lima.model.context import context_length
from lima.spec import DecodingSpec

if TYPE_CHECKING:
    from torch import Tensor

    from lima.generation.cache import RowCache

JOIN = 8
"""New rows start when this part of a batch is free (one place in eight)."""


def _longest_first(row: Row) -> tuple[int, str, int]:
    """Order rows so that little is padded, and memory that does not suffice is noticed at once."""
    return -len(row.request.token_ids), row.request.prompt_key, row.request.sample


class TransformersEngine:
    """Decodes with a causal language model of transformers and its key-value cache.

    A row that has finished makes room for the next request: nothing waits for the longest row. In
    fp32 the token ids do not depend on the size of the batch or the order of requests.
    In lower precision rounding differs between batch sizes: there, equal calls agree.
    """

    def __init__(
        self,
        model: Any,
        eot_id: int,
        decoding: DecodingSpec,
        seed: int,
        batch_size: int,
        *,
        batch_tokens: int | None = None,
    ) -> None:
        """Sample from `model`, in evaluation mode on its device, `batch_size` rows at a time.

        Fewer where their keys and values would take more than `batch_tokens` places; a single row
        takes what it needs.
        """
        self.model, self.eot_id, self.seed = model, eot_id, seed
        self.decoding, self.batch_size = decoding, batch_size
        self.places = math.inf if batch_tokens is None else batch_tokens
        self.sampler = Sampler(decoding)
        self.context = context_length(model.config.to_dict())
        let_padding_look(model)

    def generate(self, requests: Sequence[Request]) -> list[SampledResponse]:
        """See `Engine.generate`.

        Raises:
            ModelError: the model's logits are not numbers.
            LimaError: the batch does not fit into the memory of the GPU.

        """
        return answers_of(self, requests)

    def serve(self, arriving: Arriving) -> Iterator[tuple[int, SampledResponse]]:
        """See `ServingEngine.serve`."""
        going: _Batch | None = None
        waiting: deque[Row] = deque()
        arrived, more = 0, True
        while more or waiting or going:
            asked = arriving(not (waiting or going)) if more else ()
            more = asked is not None
            rows = Row.begin(asked or (), arrived, self.decoding, self.context)
            arrived += len(rows)
            yield from ((row.number, row.response()) for row in rows if row.limit <= 0)
            waiting.extend(sorted((row for row in rows if row.limit > 0), key=_longest_first))
            going, ended = self._turn(going, waiting)
            yield from ((row.number, row.response()) for row in ended)

    def _turn(
        self, going: "_Batch | None", waiting: deque[Row]
    ) -> "tuple[_Batch | None, list[Row]]":
        """Start some rows, or go on with those that are decoded; return also what has ended."""
        import torch

        try:
            with torch.inference_mode():
                return self._decode(going, waiting)
        except torch.OutOfMemoryError as error:
            raise LimaError(
                f"the GPU has no memory to decode {self.batch_size} responses together; lower "
                f"generate.batch_size ({self.batch_size}), or set generate.batch_tokens"
            ) from error

    def _decode(
        self, going: "_Batch | None", waiting: deque[Row]
    ) -> "tuple[_Batch | None, list[Row]]":
        if count := self._to_start(going, waiting):
            rows = [waiting.popleft() for _ in range(count)]
            going = _joined(going, self._start(rows))
        elif going:
            # Read again later, with what they have: a row does not depend on when.
            going, put_back = self._within_places(going)
            waiting.extendleft(reversed(put_back))
            rows = going.rows
            going = self._continue(going)
        else:
            rows = []
        return going, [row for row in rows if row.finished]

    def _to_start(self, going: "_Batch | None", waiting: Sequence[Row]) -> int:
        """Return how many of the waiting rows start now, at least one if nothing else goes on."""
        from lima.generation.cache import ROOM

        decoded, longest = (len(going.rows), going.mask.shape[1]) if going else (0, 0)
        count = min(self.batch_size - decoded, len(waiting))
        # A prompt is read faster beside others, so that single places wait for more.
        if count < min(-(-self.batch_size // JOIN), len(waiting)):
            return 0
        for starting in range(1, count + 1):
            longest = max(longest, len(waiting[starting - 1].known()))
            # Some way to go, or they would be put back at once.
            if (decoded + starting) * (longest + 2 * ROOM) > self.places:
                return starting - 1 if decoded else max(1, starting - 1)
        return count

    def _within_places(self, batch: "_Batch") -> "tuple[_Batch, list[Row]]":
        """Return what may take one more token each, and the latest rows, which may not."""
        from lima.generation.cache import ROOM

        kept = len(batch.rows)
        while kept > 1 and kept * (batch.mask.shape[1] + 1 + ROOM) > self.places:
            kept -= 1
        return batch.with_rows(range(kept)), batch.rows[kept:]

    def _start(self, rows: list[Row]) -> "_Batch | None":
        """Read the tokens of some rows, and sample the next one of each.

        Samples of one prompt have it read once.
        """
        import torch

        from lima.generation.cache import RowCache

        device = self.model.device
        known = [tuple(row.known()) for row in rows]
        different = list(dict.fromkeys(known))
        tokens, mask = _left_padded(different, device)
        cache = RowCache()
        logits = self._logits(tokens, mask, (mask.cumsum(-1) - 1).clamp(min=0), cache)
        history = tokens.masked_fill(mask == 0, NO_TOKEN)
        if len(different) < len(rows):
            place = {text: number for number, text in enumerate(different)}
            of = torch.tensor([place[text] for text in known], device=device)
            cache.rearrange(of, 0)
            logits, mask, history = logits[of], mask[of], history[of]
        addresses = address_words([row.address(self.seed) for row in rows]).to(device)
        return self._sampled(_Batch(rows, cache, mask, history, addresses), logits)

    def _continue(self, batch: "_Batch") -> "_Batch | None":
        """Sample the next token of each row."""
        positions = batch.mask.sum(-1, keepdim=True) - 1
        logits = self._logits(batch.history[:, -1:], batch.mask, positions, batch.cache)
        return self._sampled(batch, logits)

    def _logits(
        self, tokens: "Tensor", mask: "Tensor", positions: "Tensor", cache: "RowCache"
    ) -> "Tensor":
        """Run the model on each row's next tokens; return float32 (rows, vocabulary)."""
        output = self.model(
            input_ids=tokens,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        logits: Tensor = output.logits[:, -1].float()
        return logits

    def _sampled(self, batch: "_Batch", logits: "Tensor") -> "_Batch | None":
        """Sample the next token of each row, and leave out what has finished."""
        import torch

        steps = torch.tensor([len(row.token_ids) for row in batch.rows], device=logits.device)
        sampled, logprobs = self.sampler.sample(batch.history, logits, batch.addresses, steps)
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
        """Return what goes on; None if nothing does."""
        going = [i for i, row in enumerate(self.rows) if not row.finished]
        return self.with_rows(going) if going else None

    def with_rows(self, going: Sequence[int]) -> "_Batch":
        """Return some of its rows, without places that all of them pad."""
        import torch

        if len(going) == len(self.rows):
            return self
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
