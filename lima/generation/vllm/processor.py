"""Our sampling inside of vLLM: a logits processor that leaves it nothing to choose.

vLLM's own sampling depends on what else is in a batch. Here it is greedy, over logits of which a
single one is above minus infinity: the token that our sampling takes, at its log-probability.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import torch
from torch import Tensor
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from lima.generation.addressed_noise import address_words
from lima.generation.processors import NO_TOKEN
from lima.generation.sampling import Sampler
from lima.generation.vllm import ADDRESS, DECODING
from lima.spec import DecodingSpec


@dataclass
class _Row:
    """A request that vLLM decodes. `response` is vLLM's own list, to which it appends."""

    address: Tensor
    prompt: Sequence[int]
    response: list[int]
    known: int = 0
    """Tokens of the response that the history has."""


class AddressedSampling:
    """Replaces the logits of a batch; vLLM finds it by its name, in each of its processes."""

    def __init__(self, vllm_config: Any, device: torch.device, is_pin_memory: bool) -> None:  # noqa: ARG002
        """Prepare for batches of as many rows, and as long, as the engine may have."""
        decoding = vllm_config.additional_config[DECODING]
        self.sampler = Sampler(msgspec.convert(decoding, DecodingSpec))
        rows = vllm_config.scheduler_config.max_num_seqs
        places = vllm_config.model_config.max_model_len
        self.device, self.rows = device, dict[int, _Row]()
        self.history = torch.full((rows, places + 1), NO_TOKEN, dtype=torch.int32)

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        """Refuse a request that does not say where it is sampled."""
        if ADDRESS not in (sampling_params.extra_args or {}):
            raise ValueError(f"a request needs extra_args[{ADDRESS!r}]")

    def is_argmax_invariant(self) -> bool:
        """Say that the most likely token changes."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Learn which requests have come, gone and moved to another row of the batch."""
        if batch_update is None:
            return
        for index in batch_update.removed:
            self.rows.pop(index, None)
        for index, params, prompt, response in batch_update.added:
            address = address_words([params.extra_args[ADDRESS]]).to(self.device)
            self._put(index, _Row(address, prompt or (), response))
        for source, target, direction in batch_update.moved:
            moved, other = self.rows.pop(source, None), self.rows.pop(target, None)
            if moved:
                self._put(target, moved)
            if other and direction == MoveDirectionality.SWAP:
                self._put(source, other)

    def apply(self, logits: Tensor) -> Tensor:
        """Return logits, float32 (rows, vocabulary), that leave one token of each row."""
        if not self.rows:
            return logits
        rows = [self.rows[index] for index in range(logits.shape[0])]
        for index, row in enumerate(rows):
            self._learn(index, row)
        longest = max(len(row.prompt) + len(row.response) for row in rows)
        history = self.history[: len(rows), :longest].to(logits.device).long()
        steps = torch.tensor([len(row.response) for row in rows], device=logits.device)
        addresses = torch.cat([row.address for row in rows])
        sampled, logprobs = self.sampler.sample(history, logits, addresses, steps)
        left = torch.full_like(logits, -math.inf)
        return left.scatter_(1, sampled.unsqueeze(-1), logprobs.unsqueeze(-1))

    def _put(self, index: int, row: _Row) -> None:
        """Let a row of the history be that of a request."""
        self.rows[index], row.known = row, 0
        self.history[index] = NO_TOKEN
        self.history[index, : len(row.prompt)] = torch.tensor(row.prompt, dtype=torch.int32)

    def _learn(self, index: int, row: _Row) -> None:
        """Append to the history what was sampled since."""
        new = row.response[row.known :]
        if new:
            start = len(row.prompt) + row.known
            self.history[index, start : start + len(new)] = torch.tensor(new, dtype=torch.int32)
            row.known += len(new)


LogitsProcessor.register(AddressedSampling)
