"""How many positions a model reads."""

from collections.abc import Mapping
from typing import Any

SCALED = ("linear", "dynamic", "yarn")
"""Kinds of RoPE whose factor says how far beyond its original positions a model reads.

Others (llama3, longrope) say their full length in `max_position_embeddings`.
"""


def text_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what config.json says of texts, of a model that also reads images or sounds."""
    part = config.get("text_config")
    return part if isinstance(part, Mapping) else config


def context_length(config: Mapping[str, Any]) -> int | None:
    """Return the positions of a model in tokens; None if its configuration does not say.

    Args:
        config: Content of config.json, as transformers 4 or 5 writes it.

    """
    config = text_part(config)
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int):
        return None
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    # By kind of layer: those that see all of the text say how long it may be.
    kinds = [r for r in rope.values() if r] if _by_layer(rope) else [rope]
    return max((_scaled(positions, kind) for kind in kinds), default=positions)


def _by_layer(rope: Mapping[str, Any]) -> bool:
    return bool(rope) and all(isinstance(value, Mapping | None) for value in rope.values())


def _scaled(positions: int, rope: Mapping[str, Any]) -> int:
    kind, factor = rope.get("rope_type") or rope.get("type"), rope.get("factor")
    if kind not in SCALED or not isinstance(factor, int | float):
        return positions
    original = rope.get("original_max_position_embeddings") or positions
    return max(positions, int(original * factor))
