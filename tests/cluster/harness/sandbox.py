"""A network and a mount namespace of a cluster's own, with daemons in them.

A veth pair joins the namespace to this machine. `/run`, `/var/lib` and `/var/log` are the cluster's
own inside, so that containerd, the kubelet and CNI use their usual paths and meet nobody. All of it
goes with the last process: the kernel unmounts and unlinks what only they saw.
"""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lima.errors import ClusterError
from tests.cluster.harness import cgroups
from tests.cluster.harness.layout import Layout
from tests.cluster.harness.programs import SEARCH, run

SETUP = """
set -e
mount --make-rshared /
mount --bind "$1/lib" /var/lib
mount --bind "$1/log" /var/log
mount -t tmpfs tmpfs /run
ip link set lo up
ip addr add "$2/30" dev eth0
ip link set eth0 up
ip route add default via "$3"
echo 1 > /proc/sys/net/ipv4/ip_forward
"""
JOIN = 'for file in $1; do echo $$ > "$file"; done; shift; exec "$@"'
"""Writes its process id to files, then becomes the program."""
HOLDER = "holder"
"""The daemon that does nothing but keep the namespaces."""


class Sandbox:
    """The namespaces and the daemons of one cluster."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    @property
    def _subnet(self) -> str:
        return (self.layout.folder / "subnet").read_text()

    @property
    def host_address(self) -> str:
        """This machine as the cluster sees it."""
        return f"{self._subnet}.1"

    @property
    def address(self) -> str:
        """The node as this machine and the pods see it."""
        return f"{self._subnet}.2"

    def create(self) -> None:
        """Make the namespaces."""
        folder = self.layout.folder
        for part in ("lib", "log", "logs", "pids", "etc"):
            (folder / part).mkdir(parents=True)
        cgroups.create(self.layout.cgroup)
        keep = ["unshare", "--net", "--mount", "--propagation=private", "sleep", "infinity"]
        self._start(HOLDER, keep)
        holder = self._holder()
        while _text(Path(f"/proc/{holder}/comm")) != "sleep":  # until then it is not inside
            time.sleep(0.01)
        index = _link(holder)
        (folder / "subnet").write_text(f"10.201.{index}")
        run(["ip", "addr", "add", f"{self.host_address}/30", "dev", _device(index)])
        run(["ip", "link", "set", _device(index), "up"])
        self.run(["sh", "-c", SETUP, "sh", folder, self.address, self.host_address])

    def run(self, argv: Sequence[str | Path], *, log: Path | None = None) -> str:
        """Run a program inside to its end; return its output."""
        return run([*self._enter(), *argv], env={"PATH": SEARCH}, log=log)

    def start(
        self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> None:
        """Start a daemon inside."""
        self._start(name, [*self._enter(), *argv], env)

    def stop(self, name: str, how: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon and wait until it is gone, so that its port is free."""
        pid = int(self.layout.pid(name).read_text())
        if self.running(name):
            os.kill(pid, how)
        while cgroups.alive(pid):
            time.sleep(0.05)

    def running(self, name: str) -> bool:
        """Tell whether a daemon runs."""
        try:
            pid = int(self.layout.pid(name).read_text())
        except (OSError, ValueError):
            return False
        return pid in cgroups.processes(self.layout.cgroup)

    def destroy(self) -> None:
        """Remove processes, namespaces, cgroups and files, however the cluster ended."""
        cgroups.destroy(self.layout.cgroup)
        shutil.rmtree(self.layout.folder, ignore_errors=True)
        if self.layout.folder.exists():  # the kernel unmounts a moment after the last process
            time.sleep(1)
            shutil.rmtree(self.layout.folder)

    def _holder(self) -> int:
        while not (text := _text(self.layout.pid(HOLDER))):
            time.sleep(0.01)
        return int(text)

    def inside(self, argv: Sequence[str | Path]) -> list[str]:
        """Return the command line that runs a program inside."""
        return [*self._enter(), *(str(word) for word in argv)]

    def _enter(self) -> list[str]:
        if not self.running(HOLDER):
            raise ClusterError(f"cluster {self.layout.name} is not up; type: make cluster-up")
        return ["nsenter", f"--target={self._holder()}", "--net", "--mount", "--"]

    def _start(
        self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None
    ) -> None:
        files = [*cgroups.create(self.layout.cgroup), self.layout.pid(name)]
        joins = " ".join(str(file) for file in files)
        words = ["setsid", "--fork", "sh", "-c", JOIN, "sh", joins, *(str(word) for word in argv)]
        self.layout.pid(name).unlink(missing_ok=True)
        with self.layout.log(name).open("a") as log:
            subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={"PATH": SEARCH, "HOME": "/root", **(env or {})},
                check=True,
            )


def _text(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def _device(index: int) -> str:
    return f"lima{index}"


def _link(holder: int) -> int:
    """Join the namespace to this machine; return the number of the free subnet that was taken."""
    for index in range(256):
        pair = ["type", "veth", "peer", "name", "eth0", "netns", str(holder)]
        made = subprocess.run(
            ["ip", "link", "add", _device(index), *pair],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode == 0:
            return index
        if "exists" not in made.stderr:
            raise ClusterError(f"no network for the cluster: {made.stderr.strip()}")
    raise ClusterError("256 clusters are up already; take some down: make cluster-down")
