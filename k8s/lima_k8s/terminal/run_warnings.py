"""What runs warn of in their progress records: each warning is said once."""

from collections.abc import Mapping
from typing import Any

from lima.runs.progress import warnings_of
from lima_k8s.terminal.output import say


class RunWarnings:
    """Says what is new of the warnings of some runs."""

    def __init__(self) -> None:
        """Begin with nothing said."""
        self._said: set[tuple[str, str]] = set()

    def tell(self, run: str, name: str, record: Mapping[str, Any]) -> None:
        """Say what was not said before of the last progress record of a run, called `name`."""
        for text in warnings_of(record):
            if (run, text) not in self._said:
                self._said.add((run, text))
                say(f"{name}: warning: {text}")
