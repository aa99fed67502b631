"""Runs a study on this machine: one job process that owns a Ray, watched through its storage."""

import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from lima.codec import encode, run_id
from lima.errors import InputError, Interrupted, LimaError
from lima.progress import read_progress
from lima.spec import CellSpec
from lima.storage import Storage
from lima_k8s.display import CellState, display
from lima_k8s.output import say

POLL_S = 0.5
LAST_LINES = 12


class LocalRun:
    """The cells of a study, to be run on this machine."""

    def __init__(self, cells: Sequence[CellSpec], uri: str) -> None:
        """Open the storage of the study.

        Raises:
            InputError: the libraries of the jobs are not installed.
            StorageError: the storage cannot be reached.

        """
        if importlib.util.find_spec("ray") is None:
            raise InputError("--local needs the jobs' libraries: pip install 'lima-k8s[jobs]'")
        self.cells, self.storage = cells, Storage(uri)
        self.storage.entries("progress")  # an unreachable storage is said here, not by a job

    def plan(self) -> list[str]:
        """Return what will run, a line a cell."""
        return [
            f"{state.run}  {state.name}  {'finished already' if state.done else 'to run'}"
            for state in self._states()
        ]

    def run(self) -> None:
        """Run the cells that are not finished and wait for their end.

        Raises:
            Interrupted: the user stopped it; the same command goes on.
            LimaError: a cell failed; the log is named.

        """
        left = [c for c, s in zip(self.cells, self._states(), strict=True) if not s.done]
        if not left:
            return
        log = self._log_file()
        with tempfile.TemporaryDirectory(prefix="lima-run-") as folder:
            specs = Path(folder) / "specs.json"
            specs.write_text(json.dumps({"runs": [encode(cell) for cell in left]}), "utf-8")
            code = self._follow(_start(specs, self.storage.uri, Path(folder), log))
        if code:
            self._explain(code, log)

    def _follow(self, job: "subprocess.Popen[bytes]") -> int:
        """Show progress until the job ends; pass ctrl-C on to it. Return its exit code."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with display() as show, _ended_with_us(job):
            while job.poll() is None:
                try:
                    time.sleep(POLL_S)
                    show(self._states())
                except KeyboardInterrupt:
                    _stop(job)
            show(self._states())
        return job.returncode

    def _states(self) -> list[CellState]:
        states = []
        for cell in self.cells:
            run = run_id(cell)
            record = read_progress(self.storage, run) or {}
            states.append(CellState(run, f"{cell.arm} seed {cell.seed}", record))
        return states

    def _log_file(self) -> Path:
        folder = self.storage.local_path("logs") or Path(tempfile.gettempdir()) / "lima-logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"local-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"

    def _explain(self, code: int, log: Path) -> None:
        lines = log.read_text("utf-8", errors="replace").splitlines()
        errors = [line.partition(" ERROR ")[2] for line in lines if " ERROR " in line]
        reasons = list(dict.fromkeys(errors)) or lines[-LAST_LINES:]
        text = "\n  ".join([*reasons, f"log: {log}"])
        if any(
            line.startswith("stopped on request") or "stopped on request" in line for line in errors
        ):
            raise Interrupted(
                f"stopped; finished work is kept, the same command goes on\n  log: {log}"
            )
        error = LimaError(f"the study did not finish:\n  {text}")
        error.exit_code = code if code in (1, 2, 3) else 1
        raise error


def _start(specs: Path, uri: str, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Start the job in a session of its own, so that ctrl-C reaches it only through us."""
    environment = {**os.environ, "LIMA_STOP_FILE": str(folder / "stop")}
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


def _stop(job: "subprocess.Popen[bytes]") -> None:
    """Ask the job to save its work; a second ctrl-C ends it at once."""
    say("stopping: the work in progress is saved; ctrl-C again ends it at once")
    job.send_signal(signal.SIGTERM)
    try:
        job.wait()
    except KeyboardInterrupt:
        _kill(job)


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
