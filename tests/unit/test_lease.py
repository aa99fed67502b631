"""A run is worked on by one job at a time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lima import lease as lease_module
from lima.errors import InputError, Interrupted
from lima.lease import lease
from lima.storage import Storage

PATH = "leases/run_id=r.json"


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def other() -> Iterator["subprocess.Popen[bytes]"]:
    """Start a process of this machine that lives until the test ends."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


def held(storage: Storage, host: str, pid: int, at: float | None = None) -> None:
    record = {"host": host, "pid": pid, "at": time.time() if at is None else at}
    storage.write(PATH, json.dumps(record).encode(), replace=True)


def never() -> bool:
    return False


def test_it_is_there_while_it_is_held(storage: Storage) -> None:
    with lease(storage, "r", never):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()
    assert not storage.exists(PATH)


def test_a_living_holder_on_this_machine_is_named(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    held(storage, socket.gethostname(), other.pid)
    with pytest.raises(InputError, match=f"worked on by process {other.pid}"), \
         lease(storage, "r", never):  # fmt: skip
        pass
    assert json.loads(storage.read(PATH))["pid"] == other.pid


def test_a_dead_holder_is_followed_at_once(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    other.kill()
    other.wait()
    held(storage, socket.gethostname(), other.pid)
    with lease(storage, "r", never):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()


def test_an_old_lease_under_a_reused_process_id_counts_for_nothing(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    held(storage, socket.gethostname(), other.pid, at=time.time() - 3600)
    with lease(storage, "r", never):
        pass


def test_a_process_that_is_younger_than_the_lease_does_not_hold_it(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    """A container that starts anew has the same name, and gives out the same process ids."""
    held(storage, socket.gethostname(), other.pid, at=time.time() - 20)
    with lease(storage, "r", never):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()


def test_a_silent_holder_elsewhere_is_waited_for_and_then_followed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LOST_S", 2.0)
    held(storage, "elsewhere", 1)
    started = time.monotonic()
    with lease(storage, "r", never):
        assert time.monotonic() - started > 2
    held(storage, "elsewhere", 1)
    with pytest.raises(Interrupted), lease(storage, "r", lambda: True):
        pass


def test_threads_of_one_job_take_turns(storage: Storage) -> None:
    inside: list[int] = []
    most = []

    def work() -> None:
        with lease(storage, "r", never):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.05)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1, 1, 1, 1]
