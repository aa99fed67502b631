"""Brings a whole cluster up and down."""

import os
import signal
import socket
import sys
import time
from dataclasses import dataclass
from functools import cached_property

from lima.errors import ClusterError
from tests.cluster.harness import addons, cgroups, daemons, images
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import API_PORT, CLUSTERS, KUBELET_PORT, NODE, S3_PORT, Layout
from tests.cluster.harness.programs import check_programs
from tests.cluster.harness.sandbox import Sandbox

GPUS = 16
VARIABLE = "LIMA_CLUSTER"
"""Names the cluster that tests use."""
READY = {"kube-apiserver": API_PORT, "kubelet": KUBELET_PORT, "coredns": 53, "s3": S3_PORT}
"""Daemons that others need to connect to, and their ports."""


@dataclass(frozen=True)
class Cluster:
    """A cluster by its name, up or not."""

    name: str

    @cached_property
    def layout(self) -> Layout:
        """Where its files are."""
        return Layout(self.name)

    @cached_property
    def box(self) -> Sandbox:
        """Its namespaces and daemons."""
        return Sandbox(self.layout)

    @cached_property
    def kubectl(self) -> Kubectl:
        """An administrator's kubectl."""
        return Kubectl(self.layout.kubeconfig)

    @property
    def s3_endpoint(self) -> str:
        """The S3 server, for pods and for this machine alike."""
        return f"http://{self.box.address}:{S3_PORT}"

    @property
    def is_up(self) -> bool:
        """Tell whether its API server runs."""
        return self.box.running("kube-apiserver")

    def up(self) -> None:
        """Bring it up, from whatever an earlier cluster of this name left."""
        if self.is_up:
            return
        check_programs()
        self.down()
        self._mark("namespaces")
        self.box.create()
        daemons.write_configuration(self.box)
        self._mark("images")
        images.fill_store(self.layout.folder / "lib/containerd")
        self._mark("control plane")
        for name in daemons.DAEMONS:
            self.start(name)
        self._mark("node")
        self.kubectl.until("wait", "--for=condition=Ready", f"node/{NODE}", what="the node")
        addons.set_gpus(self.kubectl, GPUS)
        self._mark("operators")
        self.kubectl.until("get", "serviceaccount", "default", what="the controller manager")
        addons.install_kuberay(self.kubectl)
        addons.install_kueue(self.layout)
        self._mark("image of the jobs")
        images.import_jobs(self.box)
        addons.await_operators(self.kubectl)
        if ended := [name for name in daemons.DAEMONS if not self.box.running(name)]:
            raise ClusterError(f"{', '.join(ended)} ended; see {self.layout.folder / 'logs'}")
        self._mark("ready")

    def down(self) -> None:
        """Remove all of it. Harmless when there is nothing."""
        self.box.destroy()

    def start(self, name: str) -> None:
        """Start a daemon and wait until it serves."""
        daemons.start_daemon(self.box, name)
        if name in READY:
            self._await_port(name, READY[name])
        if name == "kube-apiserver":
            self.kubectl.until("get", "--raw=/readyz", what="the API server")

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon, for tests of what others make of it; `start` brings it back."""
        self.box.stop(name, how)
        while name in READY and self._listens(READY[name]):  # the kernel closes it a moment later
            time.sleep(0.05)

    def restart(self, name: str) -> None:
        """End a daemon and start it again."""
        self.stop(name)
        self.start(name)
        if name == "kubelet":  # a new kubelet forgets what it did not find itself
            self.kubectl.until("wait", "--for=condition=Ready", f"node/{NODE}", what="the node")
            addons.set_gpus(self.kubectl, GPUS)

    def add_fake_nodes(self, count: int, *, gpus: int = 8, prefix: str = "fake") -> list[str]:
        """Add nodes that kwok pretends; return their names. For quota and scheduling at scale."""
        names = [f"{prefix}-{number}" for number in range(count)]
        self.kubectl.apply(*(addons.fake_node(name, gpus=gpus) for name in names))
        return names

    def _await_port(self, name: str, port: int) -> None:
        while self.box.running(name) or not self.layout.pid(name).exists():
            if self._listens(port):
                return
            time.sleep(0.05)
        log = self.layout.log(name)
        raise ClusterError(
            f"{name} ended at once (all of its log: {log}):\n{log.read_text()[-2000:]}"
        )

    def _listens(self, port: int) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex((self.box.address, port)) == 0

    def _mark(self, stage: str) -> None:
        sys.stderr.write(f"{time.strftime('%H:%M:%S')} {self.name}: {stage}\n")


def sweep() -> None:
    """Remove what test runs and image builds that were killed left."""
    for folder in [*CLUSTERS.glob("test-*"), *CLUSTERS.glob("images-*")]:
        if not cgroups.alive(int(folder.name.rpartition("-")[2])):
            Cluster(folder.name).down()


def own_name() -> str:
    """Return the name of this process's own cluster; by it `sweep` knows what is left over."""
    return f"test-{os.getpid()}"
