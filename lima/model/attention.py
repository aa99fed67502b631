"""Attention of examples that lie one after another in a row: each sees itself alone."""

from typing import Any

import torch
from torch import Tensor, nn

PACKED = "lima_packed"
"""The name under which transformers finds it."""


def attend_within_examples(model: Any) -> None:
    """Let `model(..., example_lengths=(3, 5))` keep the examples of a row apart.

    Without `example_lengths` a row is one example, as before.
    """
    from transformers import AttentionInterface

    AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(PACKED)


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001
    *,
    example_lengths: tuple[int, ...] | None = None,
    example_starts: Tensor | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return causal attention within each example, as transformers' attention functions do.

    Args:
        module: The attention layer.
        query: (1, heads, tokens, width of a head); (rows, ...) without `example_lengths`.
        key: (1, heads of keys, tokens, width of a head).
        value: As `key`.
        attention_mask: None; padding stands on the right, where nothing looks.
        example_lengths: Tokens of each example, in order.
        example_starts: (examples + 1,) int32, the same as running sums on the device of `query`.
        sliding_window: How many tokens back a token sees, itself included.
        options: `scaling` and others of transformers.

    Returns:
        (1, tokens, heads, width of a head) and None.

    """
    if example_lengths is None:
        example_lengths = (query.shape[2],)
    elif example_starts is not None and _has_kernel(query):
        back = -1 if sliding_window is None else sliding_window - 1
        scale = options.get("scaling")
        longest = max(example_lengths)
        return _by_kernel((query, key, value), example_starts, longest, back, scale), None
    parts = zip(
        *(torch.split(tensor, list(example_lengths), dim=2) for tensor in (query, key, value)),
        strict=True,
    )
    attended = [_one_example(module, part, sliding_window, options) for part in parts]
    return (attended[0] if len(attended) == 1 else torch.cat(attended, dim=1)), None


def _one_example(
    module: nn.Module, part: tuple[Tensor, ...], window: int | None, options: dict[str, Any]
) -> Tensor:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    query, key, value = part
    length = query.shape[2]
    mask = None if window is None or length <= window else _window(length, window, query.device)
    output, _ = sdpa_attention_forward(module, query, key, value, mask, **options)
    attended: Tensor = output
    return attended


def _window(length: int, window: int, device: torch.device) -> Tensor:
    back = torch.arange(length, device=device)[:, None] - torch.arange(length, device=device)
    return ((back >= 0) & (back < window))[None, None]


def _has_kernel(query: Tensor) -> bool:
    return query.is_cuda and query.dtype in (torch.bfloat16, torch.float16)


def _by_kernel(
    tensors: tuple[Tensor, ...], starts: Tensor, longest: int, back: int, scale: float | None
) -> Tensor:
    """Attend to all examples at once with torch's kernel for lengths that vary."""
    from torch.nn.attention.varlen import varlen_attn

    query, key, value = (tensor[0].transpose(0, 1) for tensor in tensors)
    output = varlen_attn(
        query,
        key,
        value,
        starts,
        starts,
        longest,
        longest,
        scale=scale,
        window_size=(back, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(output, Tensor)  # a pair only where `return_aux` is given
    return output[None]
