"""Keys and values of rows that come and go while others are decoded."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

ROOM = 64
"""Places that are made at a time, so that not every token moves all that came before it."""


class RowLayer(DynamicLayer):  # type: ignore[misc]
    """One layer's `keys` and `values`, both (rows, heads, places, width), padded on the left."""

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append places to every row, and return the keys and values of all places."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
            self._lay([keys], [values])
            return self.keys, self.values
        length = self.get_seq_length()
        end = length + keys.shape[-2]
        if end > self._stored[0].shape[-2]:
            self._lay([self.keys], [self.values])
        for stored, new in zip(self._stored, (keys, values), strict=True):
            stored[:, :, length:end] = new
        self._show(end)
        return self.keys, self.values

    def rearrange(self, kept: Tensor, trimmed: int, joined: "RowLayer | None") -> None:
        """Keep some rows without their first `trimmed` places; put those of `joined` below."""
        own = [tensor[kept, :, trimmed:] for tensor in (self.keys, self.values)]
        others = [] if joined is None else [(joined.keys, joined.values)]
        self._lay([own[0], *(keys for keys, _ in others)], [own[1], *(v for _, v in others)])

    def _lay(self, keys: Sequence[Tensor], values: Sequence[Tensor]) -> None:
        length = max(tensor.shape[2] for tensor in keys)
        self._stored = tuple(_flush_right(tensors, length) for tensors in (keys, values))
        self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = (stored[:, :, :length] for stored in self._stored)


def _flush_right(parts: Sequence[Tensor], length: int) -> Tensor:
    """Return the rows of all parts, each ending at place `length`, with room behind it."""
    _, heads, _, width = parts[0].shape
    rows = sum(part.shape[0] for part in parts)
    laid = parts[0].new_zeros(rows, heads, length + ROOM, width)
    start = 0
    for part in parts:
        laid[start : start + part.shape[0], :, length - part.shape[2] : length] = part
        start += part.shape[0]
    return laid


class RowCache(Cache):  # type: ignore[misc]
    """A model's cache whose rows can be left out and added."""

    def __init__(self) -> None:
        """Hold nothing yet; layers come as the model runs."""
        super().__init__(layer_class_to_replicate=RowLayer)

    def rearrange(self, kept: Tensor, trimmed: int, joined: "RowCache | None" = None) -> None:
        """Keep some rows without their first places; put those of `joined` below.

        Args:
            kept: Indices of the rows that stay, (rows,), on the device of the model.
            trimmed: Places on the left that are padding in all of them.
            joined: Of the same model. The shorter of the two is padded on the left.

        """
        others = [None] * len(self.layers) if joined is None else joined.layers
        for layer, other in zip(self.layers, others, strict=True):
            layer.rearrange(kept, trimmed, other)
