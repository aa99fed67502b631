"""The settings of a run as others are shown them: on a hub, in a tracker."""

from collections.abc import Mapping
from typing import Any

from lima.common.paths import file_name
from lima.spec.flat import flatten


def shown_settings(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return an encoded spec, or a part of one, as paths of settings to their values.

    Of files and folders the last part: where they lie is nobody's business but their owner's.
    """
    return {
        path: file_name(value) if path.split(".")[-1] == "path" and value else value
        for path, value in flatten(document).items()
    }
