"""What is asked of runs, wherever they run: on a cluster, or on one machine."""

from collections.abc import Iterator
from typing import Protocol

from lima_k8s.runs.view import View


class Backend(Protocol):
    """Runs of one place: a namespace of a cluster, or the storage of jobs on a machine.

    RUN names runs by a name, a run id or its beginning, or ARM/SEED; None: all that there are.
    Methods raise an InputError where it names none, a ClusterError or a StorageError where the
    place cannot be read.
    """

    @property
    def place(self) -> dict[str, str]:
        """What names the place, as JSON says it: `{"namespace": …}`, `{"storage": …}`."""
        ...

    @property
    def empty(self) -> str:
        """What to say where there are no runs."""
        ...

    def states(self, run: str | None) -> list[View]:
        """Return runs as they are now."""
        ...

    def watch(self, run: str | None) -> list[View]:
        """Show runs live until each has ended or cannot go on; return them as they are then."""
        ...

    def logs(self, run: str, *, follow: bool) -> tuple[str, Iterator[str]]:
        """Return the name of a run and its log; with `follow` until it ends."""
        ...
