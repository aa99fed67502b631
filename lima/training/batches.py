"""From examples to tensors: packed, or padded as the plain way that packing must agree with."""

import abc
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from lima.data.examples import Example
from lima.data.trimming import Lengths
from lima.errors import DataError
from lima.model.end_of_turn import Encoded, encode_dialogue, encode_text
from lima.spec import TrainSpec, names
from lima.training.packing import pack

IGNORED = -100
"""Label of a token that carries no loss, as torch's cross-entropy takes it."""


class Span(NamedTuple):
    """The tokens of one example in a micro-batch; `example` is its index in the data."""

    row: int
    start: int
    stop: int
    example: int


@dataclass(frozen=True)
class MicroBatch:
    """What a worker reads at once: token ids and labels, both (rows, longest), and whose they are.

    `packed`: the examples lie one after another in a single row.
    """

    input_ids: Tensor
    labels: Tensor
    spans: tuple[Span, ...]
    packed: bool = False

    def predictions(self) -> tuple[Tensor, Tensor]:
        """Return where a token with loss is predicted, in the flattened ids, and that token."""
        places = (self.labels[:, 1:] != IGNORED).nonzero()
        positions = places[:, 0] * self.labels.shape[1] + places[:, 1]
        return positions, self.labels.flatten()[positions + 1]


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


class Batches(abc.ABC):
    """What ways to batch share: whose tokens carry loss, and the totals of a batch."""

    packs = False
    """Whether examples share rows: then the model must keep them from seeing each other."""

    def __init__(
        self, encoded: Sequence[Encoded], spec: TrainSpec, pad_id: int, *, batch_size: int
    ) -> None:
        """Batch examples that are already encoded and trimmed."""
        self.encoded, self.pad_id = encoded, pad_id
        self.all_targets = spec.loss_on == "all"
        self.micro = spec.compute.micro_batch_size
        self.budget = self.micro * spec.max_length
        self.batch_size = batch_size

    def build(self, indices: Sequence[int], rank: int, world: int) -> Batch:
        """Return the part of worker `rank` of `world`: the same count of parts on each."""
        chosen = [self.encoded[i] for i in indices]
        return Batch(
            micro_batches=self._parts(indices, rank, world),
            examples=len(indices),
            tokens=sum(len(e.ids) for e in chosen),
            target_tokens=sum(sum(self._targets(e)[1:]) for e in chosen),
        )

    @abc.abstractmethod
    def _parts(self, indices: Sequence[int], rank: int, world: int) -> list[MicroBatch]: ...

    def _targets(self, encoded: Encoded) -> list[bool]:
        return [True] * len(encoded.ids) if self.all_targets else encoded.in_response

    def _lay(self, spans: Sequence[Span], shape: tuple[int, int], *, packed: bool) -> MicroBatch:
        """Return the tensors of examples that lie so."""
        input_ids = torch.full(shape, self.pad_id, dtype=torch.long)
        labels = torch.full_like(input_ids, IGNORED)
        for row, start, stop, example in spans:
            encoded = self.encoded[example]
            ids = torch.tensor(encoded.ids)
            carries_loss = torch.tensor(self._targets(encoded))
            # Nothing before it predicts the first token; before it may lie another example.
            carries_loss[0] = False
            input_ids[row, start:stop] = ids
            labels[row, start:stop] = torch.where(carries_loss, ids, torch.tensor(IGNORED))
        return MicroBatch(input_ids, labels, tuple(spans), packed)


class PaddedBatches(Batches):
    """One example a row, padded on the right to the longest of its micro-batch."""

    def _parts(self, indices: Sequence[int], rank: int, world: int) -> list[MicroBatch]:
        """Deal the examples out round robin."""
        count = math.ceil(self.batch_size / (world * self.micro))
        mine = list(indices[rank::world])
        return [self._pad(mine[i * self.micro : (i + 1) * self.micro]) for i in range(count)]

    def _pad(self, examples: Sequence[int]) -> MicroBatch:
        # Without attention mask: causal attention never looks at what comes to the right.
        lengths = [len(self.encoded[i].ids) for i in examples]
        spans = [Span(row, 0, lengths[row], i) for row, i in enumerate(examples)]
        return self._lay(spans, (max(len(spans), 1), max(lengths, default=2)), packed=False)


class PackedBatches(Batches):
    """Examples one after another in a single row, as many as `micro_batch_size` longest ones hold.

    The batch is the same as padded, and so are its gradients but for rounding: no example sees
    another, each starts at position 0, and the loss is the mean over the tokens of the batch.
    """

    packs = True

    def _parts(self, indices: Sequence[int], rank: int, world: int) -> list[MicroBatch]:
        lengths = [len(self.encoded[i].ids) for i in indices]
        steps = pack(lengths, self.budget, world)
        return [self._row([indices[i] for i in workers[rank]]) for workers in steps]

    def _row(self, examples: Sequence[int]) -> MicroBatch:
        ends = list(itertools.accumulate(len(self.encoded[i].ids) for i in examples))
        starts = [0, *ends][: len(ends)]
        spans = [Span(0, *place) for place in zip(starts, ends, examples, strict=True)]
        return self._lay(spans, (1, ends[-1] if ends else 2), packed=True)


BATCH_BUILDERS = names.Registry[type[Batches]](names.BATCH_BUILDERS)
"""What `compute.batching` may name. One more is a class like these, and a line here."""
BATCH_BUILDERS.add("packed", PackedBatches)
BATCH_BUILDERS.add("padded", PaddedBatches)


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


def packed_inputs(micro: MicroBatch, device: torch.device) -> dict[str, Any]:
    """Return what a model reads of a packed micro-batch (see `lima.model.attention`)."""
    positions, targets = micro.predictions()
    # A row without examples holds padding, which is kept as one.
    lengths = tuple(s.stop - s.start for s in micro.spans) or (micro.input_ids.shape[1],)
    starts = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    tensors = {
        "input_ids": micro.input_ids,
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "example_starts": starts,
        "positions": positions,
        "targets": targets,
    }
    moved = {name: value.to(device, non_blocking=True) for name, value in tensors.items()}
    return {**moved, "example_lengths": lengths, "use_cache": False}


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
