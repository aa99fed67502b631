"""One job at a time works on a run: a lease on storage, renewed while its holder lives.

Two jobs on the same run would train it twice and mix their rows: a second terminal, or a pod that
is replaced while its predecessor still saves.
"""

import contextlib
import json
import logging
import os
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypedDict

from lima.errors import InputError, Interrupted, StorageError
from lima.storage import Storage

log = logging.getLogger(__name__)
RENEW_S = 5.0
LOST_S = 30.0
"""Time without a sign of life after which a holder counts as dead."""
CLOCK_SLACK_S = 1.0


class _Record(TypedDict):
    host: str
    pid: int
    at: float


_here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def lease(storage: Storage, run: str, stopped: Callable[[], bool]) -> Iterator[None]:
    """Hold the lease of `run`; waits for a holder elsewhere to end or to fall silent.

    Args:
        storage: Where the run's results go.
        run: Id of the run.
        stopped: Asked while waiting: whether to give up.

    Raises:
        InputError: a living process on this machine holds it.
        Interrupted: it was stopped while it waited.

    """
    path = f"leases/run_id={run}.json"
    with _here[f"{storage.uri} {run}"]:
        _wait_until_free(storage, path, run, stopped)
        _renew(storage, path)
        ended = threading.Event()
        thread = threading.Thread(target=_keep, args=(storage, path, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(StorageError):
                storage.delete(path)


def _wait_until_free(storage: Storage, path: str, run: str, stopped: Callable[[], bool]) -> None:
    seen, since, said = _read(storage, path), time.monotonic(), False
    while seen and not _is_dead_here(seen):
        if seen["host"] == socket.gethostname():
            raise InputError(
                f"run {run} is being worked on by process {seen['pid']} of this machine; wait "
                "for its end, or stop it"
            )
        if stopped():
            raise Interrupted("stopped on request; the same command resumes it")
        if not said:
            log.info("run %s is held by a job on %s; waiting for its end", run, seen["host"])
            said = True
        time.sleep(1.0)
        now = _read(storage, path)
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > LOST_S:
            log.warning(
                "the job on %s that held run %s is gone; it is taken over", seen["host"], run
            )
            return


def _is_dead_here(record: _Record) -> bool:
    """Say whether the holder was a process of this machine that has ended."""
    if record["host"] != socket.gethostname():
        return False
    # Process ids are used again, above all in a container that starts anew.
    if record["pid"] == os.getpid() or time.time() - record["at"] > LOST_S:
        return True
    try:
        os.kill(record["pid"], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return _began(record["pid"]) > record["at"] + CLOCK_SLACK_S


def _began(pid: int) -> float:
    """Return when a process began, in seconds since 1970; 0: the system does not say."""
    try:
        ticks = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
        uptime = float(Path("/proc/uptime").read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return 0.0
    return time.time() - uptime + ticks / os.sysconf("SC_CLK_TCK")


def _keep(storage: Storage, path: str, ended: threading.Event) -> None:
    while not ended.wait(RENEW_S):
        with contextlib.suppress(StorageError):
            _renew(storage, path)


def _renew(storage: Storage, path: str) -> None:
    record: _Record = {
        "host": socket.gethostname(), "pid": os.getpid(), "at": time.time(),
    }  # fmt: skip
    storage.write(path, json.dumps(record).encode(), replace=True)


def _read(storage: Storage, path: str) -> _Record | None:
    if not storage.exists(path):
        return None
    try:
        record = json.loads(storage.read(path))
        return {"host": str(record["host"]), "pid": int(record["pid"]), "at": float(record["at"])}
    except (ValueError, KeyError, TypeError, StorageError):
        return None  # it was deleted meanwhile, or is not ours
