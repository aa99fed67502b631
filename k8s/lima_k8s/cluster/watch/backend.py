"""The runs of a namespace of a cluster, as a `lima_k8s.runs.backend.Backend`."""

from collections.abc import Iterator

from lima.common.clock import now
from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.snapshot import read_runs
from lima_k8s.cluster.watch.follow import look, watch
from lima_k8s.cluster.watch.logs import lines
from lima_k8s.runs.choose import choose, choose_one
from lima_k8s.runs.records import Reader
from lima_k8s.runs.view import View
from lima_k8s.terminal.output import say


class ClusterRuns:
    """See `lima_k8s.runs.backend.Backend`."""

    def __init__(self, kube_context: str | None, namespace: str | None) -> None:
        """Name the cluster and the namespace; None: those of the kubeconfig."""
        self.cluster = Cluster(kube_context, namespace)

    @property
    def place(self) -> dict[str, str]:
        """See `Backend`."""
        return {"namespace": self.cluster.namespace}

    @property
    def empty(self) -> str:
        """See `Backend`."""
        return f"no runs in namespace {self.cluster.namespace}; lima-k8s submit starts some"

    def states(self, run: str | None) -> list[View]:
        """See `Backend`; says what keeps us from the records of a storage."""
        reader = Reader()
        found = look(self.cluster, lambda runs: choose(runs, run), reader, now())
        for problem in reader.problems.values():
            say(f"no progress, attempts and GPU hours from here: {problem}")
        return found

    def watch(self, run: str | None) -> list[View]:
        """See `Backend`."""
        return watch(self.cluster, lambda runs: choose(runs, run))

    def logs(self, run: str, *, follow: bool) -> tuple[str, Iterator[str]]:
        """See `Backend`: from its pod while there is one, else from its storage."""
        chosen = choose_one(read_runs(self.cluster), run)
        return chosen.name, lines(self.cluster, chosen, follow=follow)
