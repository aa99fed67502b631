"""Runs a study on this machine: one job process that owns a Ray, watched through its storage."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from lima.common.clock import now
from lima.common.paths import own_folder
from lima.common.temporary import temporary_folder
from lima.common.variables import PARENT, STOP_FILE, SUBMITTED_AT
from lima.errors import Interrupted, LimaError, StorageError
from lima.runs.devices import require_machine
from lima.runs.done import is_done
from lima.runs.job_end import read_job_end
from lima.runs.job_record import JobRecord, write_job
from lima.runs.lease import refuse_held
from lima.runs.progress import DONE, look_up_progress
from lima.spec import CellSpec, cell_stages
from lima.spec.codec import encode, run_id
from lima.store.storage import Storage
from lima_k8s.local.display import CellState, display, with_shared_stages
from lima_k8s.local.jobs_libraries import require_jobs
from lima_k8s.terminal.output import say
from lima_k8s.terminal.storage_look import Looker

POLL_S = 0.5
OBJECT_STORE_POLL_S = 5.0
"""Between two looks at progress: an object store charges for each."""
READERS = 8
"""Progress records that are read at the same time."""
LAST_LINES = 12


class LocalRun:
    """The cells of a study, to be run on this machine."""

    def __init__(self, cells: Sequence[CellSpec], uri: str) -> None:
        """Open the storage of the study.

        Raises:
            InputError: the libraries of the jobs are not installed.
            StorageError: the storage cannot be reached.

        """
        require_jobs("--local")
        self.cells, self.storage = cells, Storage(uri)
        self.storage.entries("progress")  # an unreachable storage is said here, not by a job
        self._done: dict[str, CellState] = {}

    def plan(self) -> list[str]:
        """Return what will run, a line a cell.

        Raises:
            InputError: a judge that is to be asked needs a key that is not there, or a stage
                GPUs that are not.

        """
        self.require_keys()
        return [f"{state.run}  {state.name}  {_before(state)}" for state in self._states()]

    def require_keys(self) -> None:
        """Find out before anything runs that a key is missing.

        Raises:
            InputError: a judge that is to be asked needs a key that is not there.

        """
        from lima.endpoints.keys import require_keys

        states = self._states()
        left = [cell for cell, s in zip(self.cells, states, strict=True) if not s.done]
        require_machine(left)
        require_keys(left, self.storage)

    def summary(self) -> list[dict[str, Any]]:
        """Return the cells with their run ids, and whether they are finished, for machines."""
        named = zip(self.cells, self._states(), strict=True)
        return [
            {
                "run_id": state.run,
                "experiment": cell.experiment,
                "arm": cell.arm,
                "seed": cell.seed,
                "finished": state.done,
            }
            for cell, state in named
        ]

    def run(self) -> None:
        """Run the cells that are not finished and wait for their end.

        Raises:
            HeldError: another job of this machine works on one of them.
            Interrupted: the user stopped it; the same command goes on.
            StorageError: the storage cannot be written.
            LimaError: a cell failed; the log is named.

        """
        left = [c for c, s in zip(self.cells, self._states(), strict=True) if not s.done]
        if not left:
            return
        refuse_held(self.storage, {run_id(c, stage) for c in left for stage in cell_stages(c)})
        log = self._log_file()
        with _stop_requests() as requests, temporary_folder("lima-run-") as folder:
            specs = folder / "specs.json"
            specs.write_text(json.dumps({"runs": [encode(cell) for cell in left]}), "utf-8")
            job = _start(specs, self.storage.uri, folder, log)
            record = JobRecord.of(job.pid, log, left)
            write_job(self.storage, record)
            code = self._follow(job, requests)
            write_job(self.storage, msgspec.structs.replace(record, exit_code=code))
        if code:
            lines = log.read_text("utf-8", errors="replace").splitlines()
            raise failure(code, lines, log, stopped=requests.count > 0)

    def _follow(self, job: "subprocess.Popen[bytes]", requests: "_Requests") -> int:
        """Show progress until the job ends; pass requests to stop on. Return its exit code."""
        pause = POLL_S if self.storage.is_local else OBJECT_STORE_POLL_S
        heeded, place = 0, f"storage {self.storage.uri}"
        with (
            display() as show,
            _ended_with_us(job),
            # Beside: a storage that does not answer must keep nobody from being heard.
            Looker(self._states, show, pause, place) as looker,
        ):
            while job.poll() is None:
                if requests.count > heeded:
                    heeded = requests.count
                    _stop(job, at_once=heeded > 1)
                looker.tell()
                requests.wait(POLL_S)
            looker.finish()
        return job.returncode

    def _states(self) -> list[CellState]:
        """Return how far all cells are; those that are done are not looked at again."""
        with ThreadPoolExecutor(READERS) as pool:
            states = list(pool.map(self._state, self.cells))
        self._done = {state.run: state for state in states if state.done}
        return with_shared_stages(self.cells, states)

    def _state(self, cell: CellSpec) -> CellState:
        run = run_id(cell)
        if run in self._done:
            return self._done[run]
        record = look_up_progress(self.storage, run) or {}
        if record.get("stage") == DONE and not is_done(self.storage, cell):
            record = {}  # something that it left has been taken away: it runs again
        return CellState(run, f"{cell.arm} seed {cell.seed}", record)

    def _log_file(self) -> Path:
        """Make an empty log, in the storage if that is a folder."""
        here = self.storage.local_path("logs")
        folder = here or own_folder(Path(tempfile.gettempdir()) / "lima-logs")
        file = folder / f"local-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.log"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file.touch()
        except OSError as error:
            advice = "give --storage" if here else "name in TMPDIR"
            raise StorageError(
                f"{folder}: cannot be written ({error.strerror}); {advice} a folder that you can "
                "write"
            ) from None
        return file


def _before(state: CellState) -> str:
    """Return whether a cell is to run, in words."""
    if not state.done:
        return "to run"
    return ", ".join(filter(None, ("finished already", state.figures)))


def failure(code: int, lines: Sequence[str], log: Path, *, stopped: bool) -> LimaError:
    """Return why a job did not finish its cells.

    Args:
        code: Its exit code; below 0: the signal that ended it.
        lines: What it logged.
        log: Where.
        stopped: Whether it was asked to stop.

    """
    end = read_job_end("\n".join(lines))
    reasons = end.failures if end else []
    was_stopped = (end is not None and end.any_stopped) or (stopped and code < 0)
    if was_stopped and not reasons:
        return Interrupted(
            f"stopped; finished work is kept, the same command goes on\n  log: {log}"
        )
    if not reasons:
        reasons = [*([_ended_by(-code)] if code < 0 else []), *lines[-LAST_LINES:]]
    if was_stopped:
        reasons.append("the rest was stopped; finished work is kept")
    error = LimaError("\n  ".join(["the study did not finish:", *reasons, f"log: {log}"]))
    error.exit_code = code if code in (1, 2, 3) else 1
    return error


def _ended_by(number: int) -> str:
    """Return what a signal that ended the job means to the user."""
    memory = ", as the kernel does when memory runs out" if number == signal.SIGKILL else ""
    return (
        f"the job was ended by {signal.Signals(number).name}{memory}; finished work is kept, the "
        "same command goes on"
    )


def _start(specs: Path, uri: str, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start the job in a session of its own, so that ctrl-C reaches it only through us."""
    environment = {STOP_FILE: str(folder / "stop"), **os.environ}
    environment[PARENT] = str(os.getpid())
    environment[SUBMITTED_AT] = now().isoformat()
    environment.pop("RAY_ADDRESS", None)  # a Ray elsewhere: this runs here
    say(f"log: {log}")
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "lima_jobs.run", str(specs), "--storage", uri],
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


class _Requests:
    """Requests to stop: how many there were, and waiting for the next."""

    def __init__(self) -> None:
        self.count = 0
        # Of all things to wait for, the one that a handler of signals may use.
        self._heard: queue.SimpleQueue[None] = queue.SimpleQueue()

    def add(self, *_: object) -> None:
        """Count one; a handler of signals."""
        self.count += 1
        self._heard.put(None)

    def wait(self, seconds: float) -> None:
        """Sleep, but no longer than until the next request."""
        with contextlib.suppress(queue.Empty):
            self._heard.get(timeout=seconds)


@contextlib.contextmanager
def _stop_requests() -> Iterator[_Requests]:
    """Collect ctrl-C and SIGTERM, which could otherwise end us between any two lines."""
    received = _Requests()
    # Whoever started us to run behind a shell may have taken ctrl-C from us on purpose.
    heeded = [n for n in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(n) != signal.SIG_IGN]
    before = {n: signal.signal(n, received.add) for n in heeded}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _stop(job: "subprocess.Popen[bytes]", *, at_once: bool) -> None:
    """Ask the job to save its work; `at_once`: end it."""
    if at_once:
        _kill(job)
        return
    say("stopping: the work in progress is saved; ctrl-C again ends it at once")
    job.send_signal(signal.SIGTERM)


def _kill(job: "subprocess.Popen[bytes]") -> None:
    """End the job with all of its processes: Ray's share its session."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(job.pid, signal.SIGKILL)
    job.wait()


@contextlib.contextmanager
def _ended_with_us(job: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Leave no process behind, however we end."""
    try:
        yield
    finally:
        if job.poll() is None:
            _kill(job)
