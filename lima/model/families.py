"""Model families whose examples may share a row and whose loss may be made from hidden states.

Of each it is known that nothing but attention looks at other tokens, and that logits are a linear
layer of the last hidden states, without bias, scale or cap. Others train as well: one example a
row, with full logits.
"""

from typing import Any

FAMILIES = frozenset(
    {"gemma", "llama", "mistral", "olmo", "olmo2", "phi3", "qwen2", "qwen3", "smollm3"}
)
"""`model_type` of transformers' configurations."""


def is_packable(model: Any) -> bool:
    """Say whether `model` is of such a family, with attention that can keep examples apart."""
    config = model.config
    return (
        config.model_type in FAMILIES
        and config._attn_implementation == "sdpa"
        and getattr(model.get_output_embeddings(), "bias", None) is None
    )
