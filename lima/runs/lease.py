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
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from typing import TypedDict

from lima.common.filelock import held
from lima.common.process import began
from lima.errors import HeldError, Interrupted, StorageError
from lima.store.storage import Storage

log = logging.getLogger(__name__)
RENEW_S = 5.0
LOST_S = 30.0
"""Time without a sign of life after which a holder counts as dead."""
HELD_S = 600.0
"""Age up to which a lease of another machine counts for one that only looks, and cannot wait."""
CLOCK_SLACK_S = 1.0
SETTLE_S = 1.0
"""Longer than a write to an object store takes: of those that took the lease at the same time, it
is that one's whose record is there afterwards."""


class _Record(TypedDict):
    holder: str
    host: str
    pid: int
    at: float


_here: defaultdict[str, threading.Lock] = defaultdict(threading.Lock)


@contextlib.contextmanager
def lease(
    storage: Storage, run: str, stopped: Callable[[], bool], stop: Callable[[], None]
) -> Iterator[None]:
    """Hold the lease of `run`; waits for a holder elsewhere to end or to fall silent.

    Args:
        storage: Where the run's results go.
        run: Id of the run.
        stopped: Asked while waiting: whether to give up.
        stop: Called if another job takes the run over, which was right if this one was cut off
            from storage or suspended for long.

    Raises:
        HeldError: a living process on this machine holds it.
        Interrupted: it was stopped while it waited.

    """
    path, holder = f"leases/run_id={run}.json", uuid.uuid4().hex
    with _here[f"{storage.uri} {run}"]:
        _take(storage, path, run, holder, stopped)
        ended = threading.Event()

        def keep() -> None:
            while not ended.wait(RENEW_S):
                with contextlib.suppress(StorageError):
                    if other := _renew(storage, path, holder):
                        log.error("run %s was taken over by a job on %s; stopping", run, other)
                        stop()
                        return

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            with contextlib.suppress(StorageError):
                record = _read(storage, path)
                if record and record["holder"] == holder:
                    storage.delete(path)


def _take(storage: Storage, path: str, run: str, holder: str, stopped: Callable[[], bool]) -> None:
    while True:
        dead = _wait_until_free(storage, path, run, stopped)
        with _alone(storage) as sure:
            began = time.monotonic()
            if _read(storage, path) != dead:
                continue  # another was faster
            storage.write(path, _record(holder), replace=True)
            took = time.monotonic() - began
        if sure:
            return
        # Of a write that took long, the one that it replaced may be settled, and must notice.
        time.sleep(SETTLE_S if took < SETTLE_S / 2 else 2 * RENEW_S)
        now = _read(storage, path)
        if now and now["holder"] == holder:
            return


@contextlib.contextmanager
def _alone(storage: Storage) -> Iterator[bool]:
    """Keep other processes out; yields whether this file system can. Object stores cannot."""
    file = storage.local_path("leases/.lock")
    if file is None:
        yield False
        return
    with held(file, patience_s=LOST_S) as sure:
        yield sure


def _wait_until_free(
    storage: Storage, path: str, run: str, stopped: Callable[[], bool]
) -> _Record | None:
    """Return the record of a dead holder, if there is one."""
    seen, since, said = _read(storage, path), time.monotonic(), False
    while seen and not _is_dead_here(seen):
        if seen["host"] == socket.gethostname():
            raise _held(run, seen)
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
            return seen
    return seen


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
    return began(record["pid"]) > record["at"] + CLOCK_SLACK_S


def _renew(storage: Storage, path: str, holder: str) -> str | None:
    """Renew the lease; return the host of another holder if it was lost instead."""
    with _alone(storage):
        record = _read(storage, path)
        if record and record["holder"] != holder:
            return record["host"]
        storage.write(path, _record(holder), replace=True)
    return None


def _record(holder: str) -> bytes:
    record: _Record = {
        "holder": holder,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "at": time.time(),
    }
    return json.dumps(record).encode()


def _read(storage: Storage, path: str) -> _Record | None:
    """Return the record; None if there is none. One that is not ours is nobody's.

    Raises:
        StorageError: storage does not answer.

    """
    if not storage.exists(path):
        return None
    try:
        data = storage.read(path)
    except StorageError:
        if storage.exists(path):
            raise
        return None  # it was deleted meanwhile
    try:
        record = json.loads(data)
        return {
            "holder": str(record.get("holder", "")),
            "host": str(record["host"]),
            "pid": int(record["pid"]),
            "at": float(record["at"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {"holder": sha256(data).hexdigest(), "host": "unknown", "pid": 0, "at": 0.0}


def refuse_held(storage: Storage, runs: Iterable[str]) -> None:
    """Refuse runs that a living process of this machine works on, before anything is started.

    Raises:
        HeldError: one does.
        StorageError: storage does not answer.

    """
    for run in runs:
        record = _read(storage, f"leases/run_id={run}.json")
        if record and record["host"] == socket.gethostname() and not _is_dead_here(record):
            raise _held(run, record)


def _held(run: str, record: _Record) -> HeldError:
    return HeldError(
        f"run {run} is being worked on by process {record['pid']} of this machine; wait for its "
        "end, or stop it"
    )


def is_held(storage: Storage, run: str, patience_s: float = HELD_S) -> bool:
    """Say whether a job works on a run, as far as its lease tells; in doubt one does.

    Args:
        storage: Holds the lease.
        run: Id of the run.
        patience_s: Age up to which a lease of another machine, whose clock may differ, counts.

    Raises:
        StorageError: storage does not answer.

    """
    record = _read(storage, f"leases/run_id={run}.json")
    if record is None:
        return False
    here = record["host"] == socket.gethostname()
    if here and record["pid"] != os.getpid() and _is_dead_here(record):
        return False
    return time.time() - record["at"] < (LOST_S if here else patience_s)
