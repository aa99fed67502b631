"""kubectl as a function."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lima.errors import ClusterError
from tests.cluster.harness.programs import run


@dataclass(frozen=True)
class Kubectl:
    """kubectl with the access that a kubeconfig gives."""

    kubeconfig: Path

    def __call__(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it wrote; raise ClusterError with its message."""
        return run(["kubectl", f"--kubeconfig={self.kubeconfig}", *words], stdin=stdin)

    def get(self, *words: str) -> dict[str, Any]:
        """Return an object, or a list's `items`, as `kubectl get` finds it."""
        found: dict[str, Any] = yaml.load(self("get", *words, "--output=json"), yaml.CSafeLoader)
        return found

    def apply(self, *objects: dict[str, Any]) -> None:
        """Create or change objects."""
        self("apply", "--filename=-", stdin=yaml.safe_dump_all(objects))

    def until(self, *words: str, stdin: str | None = None, what: str) -> str:
        """Repeat a command until it succeeds. `what` names what is awaited, for the error."""
        for _ in range(600):
            try:
                return self(*words, stdin=stdin)
            except ClusterError as error:
                last = error
                time.sleep(0.5)
        raise ClusterError(f"{what} did not come up: {last}")
