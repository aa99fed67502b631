"""Faults of a cluster, one function each; a seed decides their order and moments."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.cluster.harness.cluster import Cluster
from tests.cluster.helpers.outage import Proxy
from tests.cluster.helpers.studies import OWN_PODS

OPERATORS = {
    "kuberay": ("default", "app.kubernetes.io/component=kuberay-operator"),
    "kueue": ("kueue-system", "control-plane=controller-manager"),
}
NOW = ("--grace-period=0", "--force", "--wait=false")


@dataclass
class Faults:
    """Does harm to the runs of a namespace, and to the cluster below them."""

    cluster: Cluster
    namespace: str
    storage: Proxy
    moments: random.Random
    done: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.kinds: dict[str, Callable[[], bool]] = {
            "head pod": lambda: self._kill_pod("ray.io/node-type=head"),
            "worker pod": lambda: self._kill_pod("ray.io/node-type=worker"),
            "submitter pod": lambda: self._kill_pod("batch.kubernetes.io/job-name"),
            "KubeRay": lambda: self._kill_operator("kuberay"),
            "Kueue": lambda: self._kill_operator("kueue"),
            "kubelet": lambda: self._restart("kubelet"),
            "API server": lambda: self._restart("kube-apiserver"),
            "503 from S3": self._outage,
        }

    def plan(self, count: int) -> list[str]:
        """Return the kinds of `count` faults: each as often as the others, in random order."""
        planned: list[str] = []
        while len(planned) < count:  # of fewer than all kinds, any
            planned += self.moments.sample(list(self.kinds), len(self.kinds))
        return planned[:count]

    def do(self, kind: str) -> bool:
        """Do one; say whether there was something to do it to."""
        if not self.kinds[kind]():
            return False
        self.done.append(kind)
        return True

    def _kill_pod(self, selector: str) -> bool:
        where = (f"--namespace={self.namespace}", f"--selector={OWN_PODS},{selector}")
        pods = self.cluster.kubectl.get("pods", *where)["items"]
        names = sorted(p["metadata"]["name"] for p in pods if p["status"]["phase"] == "Running")
        if not names:
            return False
        victim = self.moments.choice(names)
        self.cluster.kubectl("delete", "pod", victim, where[0], *NOW, "--ignore-not-found")
        return True

    def _kill_operator(self, name: str) -> bool:
        namespace, selector = OPERATORS[name]
        where = (f"--namespace={namespace}", f"--selector={selector}")
        self.cluster.kubectl("delete", "pod", *where, *NOW)
        return True

    def _restart(self, daemon: str) -> bool:
        self.cluster.restart(daemon)
        return True

    def _outage(self) -> bool:
        before = self.storage.refused
        self.storage.out.set()
        time.sleep(self.moments.uniform(3, 10))
        self.storage.out.clear()
        return self.storage.refused > before  # between two stages nobody may have asked
