"""Settings of a spec as paths and values: `train.optimizer.lr_start` to 1e-05."""

from collections.abc import Mapping
from typing import Any


def flatten(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return an encoded spec, or a part of one that lies at `above`, as paths to values."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{above}.{name}" if above else name
        found |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return found
