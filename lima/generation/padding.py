"""Attention in batches of prompts that are padded on the left.

A padded place comes before every token, so that causal attention leaves it nothing to look at.
The softmax of nothing is not a number with some CUDA kernels, and from a padded place it spreads
to the tokens: the weight of a masked value is 0, and 0 times NaN is NaN. So padding looks at
everything; nothing looks at padding.
"""

from typing import Any

NAME = "sdpa_with_padding"


def let_padding_look(model: Any) -> None:
    """Let a model of transformers never compute the attention of a row that sees nothing.

    Only torch's own attention needs it: `eager` masks by a large number.
    """
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if model.config._attn_implementation != "sdpa":
        return
    AttentionInterface.register(NAME, sdpa_attention_forward)
    AttentionMaskInterface.register(NAME, _mask)
    model.set_attn_implementation(NAME)


def _mask(*arguments: Any, **settings: Any) -> Any:
    """Return the mask, bool (rows, 1, queries, keys), with no row empty; None: all are causal."""
    from transformers.masking_utils import sdpa_mask

    mask = sdpa_mask(*arguments, **settings)
    return None if mask is None else mask | ~mask.any(dim=-1, keepdim=True)
