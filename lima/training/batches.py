"""From examples to tensors: the seam behind which other ways to batch (packing) can come."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lima.curation.dataset import Example
from lima.errors import DataError
from lima.model.tokens import Encoded, encode_dialogue, encode_text
from lima.spec import TrainSpec
from lima.training.lengths import Lengths

IGNORED = -100
"""Label of a token that carries no loss, as torch's cross-entropy takes it."""


@dataclass(frozen=True)
class MicroBatch:
    """What a worker reads at once: token ids and labels, both (examples, longest)."""

    input_ids: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Batch:
    """One worker's part of a batch, with totals over all workers."""

    micro_batches: list[MicroBatch]
    examples: int
    tokens: int
    target_tokens: int


class BatchBuilder(Protocol):
    """Makes one worker's part of a batch out of the indices of its examples."""

    def build(self, indices: Sequence[int], rank: int, world: int) -> Batch:
        """Return the part of worker `rank` of `world`: the same count of parts on each."""
        ...


class PaddedBatches:
    """One example a row, padded on the right to the longest of its micro-batch."""

    def __init__(
        self, encoded: Sequence[Encoded], spec: TrainSpec, pad_id: int, *, batch_size: int
    ) -> None:
        """Batch examples that are already encoded and trimmed."""
        self.encoded, self.pad_id = encoded, pad_id
        self.all_targets = spec.loss_on == "all"
        self.micro = spec.compute.micro_batch_size
        self.batch_size = batch_size

    def build(self, indices: Sequence[int], rank: int, world: int) -> Batch:
        """Return the part of worker `rank`: examples are dealt out round robin."""
        parts = math.ceil(self.batch_size / (world * self.micro))
        mine = list(indices[rank::world])
        chunks = [mine[i * self.micro : (i + 1) * self.micro] for i in range(parts)]
        chosen = [self.encoded[i] for i in indices]
        return Batch(
            micro_batches=[self._pad([self.encoded[i] for i in chunk]) for chunk in chunks],
            examples=len(indices),
            tokens=sum(len(e.ids) for e in chosen),
            target_tokens=sum(sum(self._targets(e)[1:]) for e in chosen),
        )

    def _targets(self, encoded: Encoded) -> list[bool]:
        return [True] * len(encoded.ids) if self.all_targets else encoded.in_response

    def _pad(self, rows: Sequence[Encoded]) -> MicroBatch:
        # Without attention mask: causal attention never looks at what comes to the right.
        longest = max((len(row.ids) for row in rows), default=2)
        input_ids = torch.full((max(len(rows), 1), longest), self.pad_id, dtype=torch.long)
        labels = torch.full_like(input_ids, IGNORED)
        for index, row in enumerate(rows):
            ids = torch.tensor(row.ids)
            input_ids[index, : len(ids)] = ids
            labels[index, : len(ids)] = torch.where(
                torch.tensor(self._targets(row)), ids, torch.tensor(IGNORED)
            )
        return MicroBatch(input_ids, labels)


def encode_examples(
    examples: Sequence[Example], spec: TrainSpec, tokenizer: Any, eot_id: int, path: str = ""
) -> list[Encoded]:
    """Return the examples as tokens, trimmed to `spec.max_length` (section 3).

    Args:
        examples: Of `spec.data`, or of another file.
        spec: How they are written as tokens.
        tokenizer: With the EOT token.
        eot_id: Its id.
        path: That other file, for messages.

    Raises:
        DataError: no token that carries loss is left in any example.

    """
    encoded = [_trim(_encode(e, spec, tokenizer, eot_id), spec.max_length) for e in examples]
    if spec.loss_on == "responses" and not any(any(e.in_response) for e in encoded):
        raise DataError(
            f"{path or spec.data.path}: every prompt fills max_length={spec.max_length} tokens, "
            "so that no token of a response is left; raise max_length"
        )
    return encoded


def lengths_of(encoded: Sequence[Encoded], spec: TrainSpec) -> Lengths:
    """Return how long examples were before they were trimmed to `spec.max_length`."""
    tokens = tuple(len(e.ids) + e.trimmed for e in encoded)
    return Lengths(tokens, spec.max_length, dialogue=spec.text_format == "dialogue")


def _encode(example: Example, spec: TrainSpec, tokenizer: Any, eot_id: int) -> Encoded:
    if spec.text_format == "text":
        return encode_text(tokenizer, example.conversation[0])
    return encode_dialogue(tokenizer, example.conversation, eot_id)


def _trim(encoded: Encoded, length: int) -> Encoded:
    cut = max(len(encoded.ids) - length, 0)
    return Encoded(encoded.ids[:length], encoded.in_response[:length], cut)


def total_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the summed cross-entropy in nats of the labels, each predicted one token before.

    Args:
        logits: (examples, tokens, vocabulary).
        labels: (examples, tokens); `IGNORED` carries no loss.

    """
    return torch.nn.functional.cross_entropy(
        logits[:, :-1].flatten(0, 1).float(),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        reduction="sum",
    )
