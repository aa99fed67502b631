"""A run is worked on by one job at a time."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest

from lima.errors import InputError, Interrupted, StorageError
from lima.runs import lease as lease_module
from lima.runs.lease import lease
from lima.store.storage import Storage

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
    record = {"holder": "other", "host": host, "pid": pid, "at": time.time() if at is None else at}
    storage.write(PATH, json.dumps(record).encode(), replace=True)


def never() -> bool:
    return False


def held_by_us(
    storage: Storage, stopped: Callable[[], bool] = never
) -> AbstractContextManager[None]:
    return lease(storage, "r", stopped, lambda: pytest.fail("the lease was not lost"))


def test_it_is_there_while_it_is_held(storage: Storage) -> None:
    with held_by_us(storage):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()
    assert not storage.exists(PATH)


def test_a_living_holder_on_this_machine_is_named(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    held(storage, socket.gethostname(), other.pid)
    with pytest.raises(InputError, match=f"worked on by process {other.pid}"), held_by_us(storage):
        pass
    assert json.loads(storage.read(PATH))["pid"] == other.pid


def test_a_dead_holder_is_followed_at_once(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    other.kill()
    other.wait()
    held(storage, socket.gethostname(), other.pid)
    with held_by_us(storage):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()


def test_an_old_lease_under_a_reused_process_id_counts_for_nothing(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    held(storage, socket.gethostname(), other.pid, at=time.time() - 3600)
    with held_by_us(storage):
        pass


def test_a_process_that_is_younger_than_the_lease_does_not_hold_it(
    storage: Storage, other: "subprocess.Popen[bytes]"
) -> None:
    """A container that starts anew has the same name, and gives out the same process ids."""
    held(storage, socket.gethostname(), other.pid, at=time.time() - 20)
    with held_by_us(storage):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()


def test_a_silent_holder_elsewhere_is_waited_for_and_then_followed(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LOST_S", 2.0)
    held(storage, "elsewhere", 1)
    started = time.monotonic()
    with held_by_us(storage):
        assert time.monotonic() - started > 2
    held(storage, "elsewhere", 1)
    with pytest.raises(Interrupted), held_by_us(storage, lambda: True):
        pass


def test_threads_of_one_job_take_turns(storage: Storage) -> None:
    inside: list[int] = []
    most = []

    def work() -> None:
        with held_by_us(storage):
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


def test_a_record_that_nobody_understands_is_silent(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LOST_S", 0.5)
    storage.write(PATH, b"{}")
    with held_by_us(storage):
        assert json.loads(storage.read(PATH))["pid"] == os.getpid()


TAKE = """
import sys
from lima.runs import lease as module
from lima.errors import InputError
from lima.runs.lease import lease
from lima.store.storage import Storage
module.SETTLE_S = 4.0  # for a machine that is busy with all of them
storage = Storage(sys.argv[1])
print("ready", flush=True)
input()
try:
    with lease(storage, "r", lambda: False, lambda: print("lost")):
        print("held", flush=True)
        input()
except InputError as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("left", [False, True], ids=["a free run", "a dead holder"])
@pytest.mark.parametrize("where", ["tmp_path", "s3_storage"])
def test_of_processes_that_start_together_one_gets_the_run(
    where: str, left: bool, request: pytest.FixtureRequest
) -> None:
    uri = str(request.getfixturevalue(where))
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", TAKE, uri],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _ in range(4)
        ]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        if left:
            held(Storage(uri), socket.gethostname(), 2**22 + 1)  # no such process
        for process in processes:
            assert process.stdin
            process.stdin.write("\n")
            process.stdin.flush()
        said = [process.stdout.readline() for process in processes if process.stdout]
        assert sum(line == "held\n" for line in said) == 1
        assert sum("is being worked on by process" in line for line in said) == 3
        for process in processes:
            process.kill()


def test_one_that_was_taken_over_stops_and_leaves_the_lease_to_the_other(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0.05)
    lost = threading.Event()
    with lease(storage, "r", never, lost.set):
        while not lost.wait(0.2):
            held(storage, "elsewhere", 1)  # as after an outage that was longer for us than for it
    assert json.loads(storage.read(PATH))["host"] == "elsewhere"


def test_an_outage_alone_loses_nothing(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_module, "RENEW_S", 0.02)

    def refuse(*_: object, **__: object) -> bool:
        failed.set()
        raise StorageError("503")

    failed = threading.Event()
    with held_by_us(storage):
        with monkeypatch.context() as outage:
            outage.setattr(storage, "write", refuse)
            failed.wait()
        before = storage.read(PATH)
        while storage.read(PATH) == before:
            time.sleep(0.01)
    assert not storage.exists(PATH)


def test_a_suspended_process_that_holds_the_lock_holds_nobody_up(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_module, "LOST_S", 0.2)
    monkeypatch.setattr(lease_module, "SETTLE_S", 0.01)
    folder = Path(storage.uri) / "leases"
    folder.mkdir()
    code = "import fcntl; f = open('.lock', 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(); input()"
    suspended = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with suspended:
        assert suspended.stdout
        suspended.stdout.readline()
        with held_by_us(storage):
            assert json.loads(storage.read(PATH))["pid"] == os.getpid()
        suspended.kill()
