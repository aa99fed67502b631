"""The request to stop and the preStop hook, in processes of their own as in a pod."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lima.common.process import began
from lima.common.variables import STOP_FILE
from lima.runs.stop import busy, busy_processes, request_stop, stop_file, stop_requested

WORKER = """
import sys, time
from lima.runs.stop import busy, stop_requested
with busy():
    print("busy", flush=True)
    while not stop_requested():
        time.sleep(0.01)
    sys.stdin.readline()  # saves its state until it is told that it has
"""


@pytest.fixture(autouse=True)
def _own_flag(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "not" / "there" / "stop"))


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def worker() -> subprocess.Popen[str]:
    process = start("-c", WORKER)
    assert process.stdout
    assert process.stdout.readline() == "busy\n"
    return process


def test_request_makes_its_folder() -> None:
    assert not stop_requested()
    request_stop()
    assert stop_requested()


def test_busy_while_it_lasts_also_nested_and_on_errors() -> None:
    assert busy_processes() == set()
    with contextlib.suppress(ZeroDivisionError), busy():
        with busy():
            pass
        assert busy_processes() == {os.getpid()}
        raise ZeroDivisionError
    assert busy_processes() == set()


def test_request_to_an_earlier_container_is_none() -> None:
    request_stop()
    before = began(1) - 1
    os.utime(stop_file(), (before, before))
    assert not stop_requested()
    request_stop()
    assert stop_requested()


def test_mark_of_an_earlier_process_of_the_same_id_is_none() -> None:
    with busy():
        folder = stop_file().with_name("stop.busy")
        [mark] = folder.iterdir()
        pid, ticks, rest = mark.name.split("-")
        mark.rename(folder / f"{pid}-{int(ticks) - 1}-{rest}")
        assert busy_processes() == set()
        with busy():
            assert busy_processes() == {os.getpid()}


def test_prestop_raises_the_flag_and_waits_for_all() -> None:
    workers = [worker(), worker()]
    hook = start("-m", "lima_jobs.prestop")
    for process in workers:
        while not stop_requested():
            time.sleep(0.01)
        assert hook.poll() is None  # one still saves
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 0
    assert hook.wait() == 0
    assert busy_processes() == set()


def test_prestop_does_not_wait_for_the_dead() -> None:
    process = worker()
    process.send_signal(signal.SIGKILL)
    # Not waited for yet: a zombie, whose process id still exists.
    assert start("-m", "lima_jobs.prestop").wait() == 0
    assert process.wait() == -signal.SIGKILL


def test_prestop_returns_when_nobody_works() -> None:
    assert start("-m", "lima_jobs.prestop").wait() == 0
    assert stop_requested()
