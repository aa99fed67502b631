"""The cgroup that holds all of a cluster's processes, so that none is missed at its end."""

import contextlib
import os
import signal
import time
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")


def _unified() -> bool:
    return (MOUNT / "cgroup.controllers").exists()


def _hierarchies() -> list[Path]:
    if _unified():
        return [MOUNT]
    return [
        folder
        for folder in MOUNT.iterdir()
        if not folder.is_symlink() and (folder / "cgroup.procs").exists()
    ]


def create(name: str) -> list[Path]:
    """Make a cgroup in every hierarchy; return the files that a daemon joins by writing its id.

    That of `cpu` is among them: on a busy machine a cluster has the share of one process, not less.
    """
    for hierarchy in _hierarchies():
        (hierarchy / name).mkdir(exist_ok=True)
    if _unified():
        wanted = "+cpu +cpuset +memory +pids"
        for folder in (MOUNT, MOUNT / name):
            (folder / "cgroup.subtree_control").write_text(wanted)
    joined = [MOUNT] if _unified() else [MOUNT / "pids", MOUNT / "cpu"]
    for hierarchy in joined:
        (hierarchy / name / "daemons").mkdir(exist_ok=True)
    return [hierarchy / name / "daemons" / "cgroup.procs" for hierarchy in joined]


def exists(name: str) -> bool:
    """Tell whether any hierarchy has this cgroup."""
    return any((hierarchy / name).exists() for hierarchy in _hierarchies())


def processes(name: str) -> set[int]:
    """Return the ids of all processes in a cgroup and below it."""
    found: set[int] = set()
    for hierarchy in _hierarchies():
        for file in (hierarchy / name).rglob("cgroup.procs"):
            with contextlib.suppress(OSError):  # the cgroup went in between
                found.update(int(word) for word in file.read_text().split())
    return {pid for pid in found if alive(pid)}


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not.

    Its first thread may be gone before the others, which hold its ports.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except OSError:
        return False
    return threads > 1 or stat.rpartition(")")[2].split()[0] not in "ZX"


def destroy(name: str) -> None:
    """Kill everything in a cgroup and remove it. Harmless when there is none."""
    while running := processes(name):
        for pid in running:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.1)
    while exists(name):
        for hierarchy in _hierarchies():
            below = [folder for folder in (hierarchy / name).rglob("*") if folder.is_dir()]
            for folder in [*reversed(below), hierarchy / name]:
                with contextlib.suppress(OSError):  # busy for a moment after its last process
                    folder.rmdir()
        time.sleep(0.1)
