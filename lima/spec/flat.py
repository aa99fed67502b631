"""Settings of a spec as paths and values: `train.optimizer.lr_start` to 1e-05."""

from collections.abc import Mapping
from typing import Any

from lima.common.paths import file_name


def flatten(document: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return an encoded spec, or a part of one that lies at `above`, as paths to values."""
    found: dict[str, Any] = {}
    for name, value in document.items():
        path = f"{above}.{name}" if above else name
        found |= flatten(value, path) if isinstance(value, Mapping) else {path: value}
    return found


def flatten_for_others(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same, of paths the last part: folders are nobody's business but their owner's."""
    return {
        path: file_name(value) if path.split(".")[-1] == "path" and value else value
        for path, value in flatten(document).items()
    }
