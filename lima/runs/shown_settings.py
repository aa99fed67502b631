"""The settings of a run as others are shown them: on a hub, in a tracker."""

from collections.abc import Mapping
from typing import Any

from lima.common.paths import file_name
from lima.inputs.places import PATHS
from lima.spec.flat import flatten


def shown_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encoded spec, or a part of one, as paths of settings to their values.

    Of files and folders the last part: where they lie is nobody's business but their owner's.
    """
    return flatten(_shown("", document))


def _shown(name: str, value: Any) -> Any:
    """Return the value of a field of this name, or an item of it, without folders."""
    if isinstance(value, Mapping):
        return {inner: _shown(inner, within) for inner, within in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(name, item) for item in value]
    return file_name(value) if name in PATHS and value else value
