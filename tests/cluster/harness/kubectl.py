"""kubectl as a function."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lima.errors import ClusterError
from tests.cluster.harness.layout import BIN
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

    @contextlib.contextmanager
    def changes(self, namespace: str, *kinds: str) -> Iterator[threading.Event]:
        """Yield what is set when any object of these kinds in a namespace changes."""
        changed = threading.Event()
        access = (f"--kubeconfig={self.kubeconfig}", f"--namespace={namespace}")
        watches = [
            subprocess.Popen(
                [BIN / "kubectl", *access, "get", kind, "--watch-only", "--output=name"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            for kind in kinds
        ]
        threads = [threading.Thread(target=_tell, args=(w, changed)) for w in watches]
        for thread in threads:
            thread.start()
        try:
            yield changed
        finally:
            for watch in watches:
                watch.kill()
                watch.wait()
            for thread in threads:
                thread.join()


def _tell(watch: "subprocess.Popen[bytes]", changed: threading.Event) -> None:
    assert watch.stdout
    with watch.stdout as lines:
        for _ in lines:
            changed.set()
