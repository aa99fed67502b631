"""A Ray of this job's own: the other users of the machine neither reach it nor read its files.

Whoever reaches a Ray runs code in it as its owner. So this one asks every caller for a token that
nobody else knows, listens on the loopback interface alone, and keeps its sockets and logs, which
Ray opens to everyone, below a folder that is closed to all others.
"""

import contextlib
import functools
import os
import secrets
import socket
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import psutil

from lima.common.environment import environment
from lima.common.temporary import remove_left_behind, temporary_folder
from lima.common.variables import OWN_RAY
from lima.errors import LimaError


@contextlib.contextmanager
def own_ray(cpus: int) -> Iterator[dict[str, Any]]:
    """Prepare for a Ray with so many CPUs, which must be shut down before this ends.

    Must come before anything imports Ray, which reads its settings then. Yields the arguments of
    `ray.init`. What killed jobs have left in the folders of theirs goes first.
    """
    remove_left_behind()
    with temporary_folder("lima-ray-") as folder, environment(_settings(str(folder))):
        # Ray opens its folder to all users: within ours nobody gets there.
        yield {
            "address": "local",
            "num_cpus": cpus,
            "include_dashboard": False,
            "_temp_dir": f"{folder}/ray",
        }


def require_loopback() -> None:
    """Check that the Ray that has been started cannot be reached from elsewhere.

    Raises:
        LimaError: it can.

    """
    import ray

    if not ip_address(address := ray.util.get_node_ip_address()).is_loopback:
        raise LimaError(f"Ray was imported before its settings were made: it listens on {address}")


def private_folder() -> Path | None:
    """Return the folder of the own Ray that this worker is of; None in a cluster's Ray."""
    name = os.environ.get(OWN_RAY)
    return Path(name) if name else None


def _settings(folder: str) -> dict[str, str]:
    """Return what the environment must say; whatever it said before does not count."""
    loopback = _loopback()
    return {
        OWN_RAY: folder,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": _token(),
        # What Ray does by itself only on other systems: its node has the address of the loopback.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        # The workers of training talk to each other past Ray.
        "GLOO_SOCKET_IFNAME": loopback,
        "NCCL_SOCKET_IFNAME": loopback,
        # torch's own choice is a folder in /tmp of a name that others know, with code in it.
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/inductor",
    }


@functools.cache
def _token() -> str:
    """Return the secret of this process; Ray reads it once."""
    return secrets.token_hex(32)


def _loopback() -> str:
    """Return the name of the loopback interface: `lo`, and `lo0` on some systems."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


@contextlib.contextmanager
def nothing_left_of_a_failure() -> Iterator[None]:
    """End the processes that a start has begun if it fails: Ray forgets them."""
    import ray

    before = set(psutil.Process().children(recursive=True))
    try:
        yield
    except BaseException:
        ray.shutdown()
        left = set(psutil.Process().children(recursive=True)) - before
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(left)
        raise
