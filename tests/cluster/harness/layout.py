"""Where a cluster keeps its files, and what its parts are called."""

import re
from dataclasses import dataclass
from pathlib import Path

from lima.errors import InputError

ROOT = Path(__file__).resolve().parents[3]
CACHE = ROOT / ".cache"
BIN = CACHE / "bin"
CLUSTERS = CACHE / "clusters"

NODE = "node"
POD_RANGE = "10.244.0.0/16"
SERVICE_RANGE = "10.96.0.0/16"
"""Ranges inside a cluster's own network namespace: the same for every cluster."""
API_PORT, KUBELET_PORT, S3_PORT = 6443, 10250, 7070


@dataclass(frozen=True)
class Layout:
    """The names of one cluster."""

    name: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?", self.name):
            raise InputError(
                f"cluster name {self.name!r}: give at most 32 lower-case letters, digits and dashes"
            )

    @property
    def folder(self) -> Path:
        """All files of this cluster; removed with it."""
        return CLUSTERS / self.name

    @property
    def kubeconfig(self) -> Path:
        """An administrator's access, for programs on this machine."""
        return self.folder / "kubeconfig"

    @property
    def cgroup(self) -> str:
        """The name of the cgroup, below the root of each hierarchy."""
        return f"lima-{self.name}"

    def log(self, daemon: str) -> Path:
        """Return the log file of a daemon."""
        return self.folder / "logs" / f"{daemon}.log"

    def pid(self, daemon: str) -> Path:
        """Return the file that holds a daemon's process id."""
        return self.folder / "pids" / daemon
