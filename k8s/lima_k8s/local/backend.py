"""The runs of a storage, as a `lima_k8s.runs.backend.Backend`: of jobs on this machine or another.

Jobs that `submit --local` started are found by their records; runs without one, as those of a
cluster, by what they wrote about themselves.
"""

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lima.common.clock import now
from lima.errors import InputError
from lima.runs.done import is_done
from lima.runs.job_end import CellEnd, JobEnd, read_job_end
from lima.runs.job_record import JobRecord, decoded, read_jobs
from lima.runs.lease import is_held
from lima.runs.progress import DONE, eta_seconds, progress_runs, read_progress
from lima.spec import CellSpec, cell_stages
from lima.spec.codec import run_id
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS
from lima_k8s.runs.choose import choose, choose_one
from lima_k8s.runs.display import display
from lima_k8s.runs.model import Cause, Run
from lima_k8s.runs.records import Records, read_records, stage_ids
from lima_k8s.runs.view import State, View

POLL_S = 1.0
OBJECT_STORE_POLL_S = 5.0
AGAIN = "submit it again: it goes on where it was"


@dataclass(frozen=True)
class _Known:
    """A cell that the storage knows, and the last job that had it."""

    cell: CellSpec
    job: JobRecord | None = None
    end: JobEnd | None = None
    """How that job ended, if its log is here and says so."""

    @property
    def failure(self) -> CellEnd | None:
        """What ended it in its job."""
        ids = {run_id(self.cell), *stage_ids(self.cell)}
        return next((c for c in (self.end.cells if self.end else ()) if c.run in ids), None)

    @property
    def works(self) -> bool:
        """Whether that job goes on with it."""
        return self.job is not None and self.job.alive and self.failure is None

    @property
    def was_refused(self) -> bool:
        """Whether that job did not begin it, since another one had it."""
        return self.failure is not None and self.failure.held


@dataclass(frozen=True)
class Cancellation:
    """Runs, and the jobs that have to stop for them."""

    runs: list[Run]
    jobs: list[JobRecord]

    def send(self, *, wait: bool) -> None:
        """Ask the jobs to save their work and end; `wait`: until they have."""
        for job in self.jobs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(job.pid, signal.SIGTERM)
        while wait and any(job.alive for job in self.jobs):
            time.sleep(POLL_S)


class StorageRuns:
    """See `lima_k8s.runs.backend.Backend`."""

    def __init__(self, uri: str) -> None:
        """Open the storage.

        Raises:
            StorageError: it cannot be reached.

        """
        self.storage = Storage(uri)
        self._done: set[str] = set()
        self._ends: dict[str, JobEnd | None] = {}

    @property
    def place(self) -> dict[str, str]:
        """See `Backend`."""
        return {"storage": self.storage.uri}

    @property
    def empty(self) -> str:
        """See `Backend`."""
        return f"no runs in {self.storage.uri}; lima-k8s submit --local starts some"

    def states(self, run: str | None) -> list[View]:
        """See `Backend`."""
        known = self._known()
        chosen = self._choose(known, run)
        records = read_records(self.storage, chosen, now(), ())
        views = [self._view(r, known[r], records[r.name]) for r in chosen]
        running = {view.run.name for view in views if view.state == "running"}
        charged = read_records(self.storage, chosen, now(), running) if running else records
        return [replace(view, records=charged[view.run.name]) for view in views]

    def watch(self, run: str | None) -> list[View]:
        """See `Backend`."""
        pause = POLL_S if self.storage.is_local else OBJECT_STORE_POLL_S
        with display() as show:
            while True:
                seen = self.states(run)
                show(seen)
                if all(view.ended for view in seen):
                    return seen
                time.sleep(pause)

    def logs(self, run: str, *, follow: bool) -> tuple[str, Iterator[str]]:
        """See `Backend`: that of the last job that had the run, with its other runs."""
        known = self._known()
        chosen = choose_one([*known], run, self._none)
        job = known[chosen].job
        if job is None:
            return chosen.name, self._uploaded(chosen)
        if not job.is_here or not Path(job.log).is_file():
            raise InputError(f"the log of {chosen.name} is at {job.log} of {job.host}")
        return chosen.name, _lines(job, follow=follow)

    def to_cancel(self, texts: Sequence[str | None]) -> "Cancellation":
        """Return what it takes to cancel some runs: a job is stopped with all of its runs.

        Raises:
            InputError: none of them is being worked on by a job of this machine, or one of such a
                job is not named.

        """
        known = self._known()
        named = {run for text in texts for run in self._choose(known, text)}
        wanted = {run.name: run for run in named if not self._is_over(known[run])}
        jobs = {job.name: job for run in wanted.values() if (job := known[run].job) and job.alive}
        if wanted and not jobs:
            raise InputError(
                f"no job of this machine works on {', '.join(sorted(wanted))}; where one does, "
                "stop it there"
            )
        left = sorted(
            run.name
            for run, of in known.items()
            if of.job and of.job.name in jobs and run.name not in wanted and not self._is_over(of)
        )
        if left:
            raise InputError(f"their job works on {', '.join(left)} too: name these as well")
        return Cancellation([*wanted.values()], [*jobs.values()])

    def _is_over(self, known: _Known) -> bool:
        record = read_progress(self.storage, run_id(known.cell)) or {}
        return self._is_done(known.cell, record)

    def _uploaded(self, run: Run) -> Iterator[str]:
        """Return the log that a job in a cluster has left."""
        entries = self.storage.entries(f"logs/run_id={run.run_id}")
        if not entries:
            raise InputError(f"{run.name} has left no log in {self.storage.uri}")
        return iter(self.storage.read(entries[-1].path).decode(errors="replace").splitlines())

    def _choose(self, known: Mapping[Run, _Known], text: str | None) -> list[Run]:
        return choose([*known], text, self._none)

    @property
    def _none(self) -> str:
        return f"there are no runs in {self.storage.uri}"

    def _known(self) -> dict[Run, _Known]:
        """Return all runs: of the records of jobs, the last that worked on each, and of others."""
        found: dict[str, _Known] = {}
        for job in read_jobs(self.storage):
            end = self._end(job)
            for cell in job.read_cells():
                known, before = _Known(cell, job, end), found.get(run_id(cell))
                if before is None or not (before.works or known.was_refused):
                    found[run_id(cell)] = known
        others = [run for run in progress_runs(self.storage) if run not in found]
        found |= {run: _Known(cell) for run, cell in self._cells(others)}
        return {_run(run, known.cell, self.storage.uri): known for run, known in found.items()}

    def _end(self, job: JobRecord) -> JobEnd | None:
        """Return how a job ended, by its log, read once; None: it goes on, or was killed."""
        if job.alive or not job.is_here:
            return None
        if job.name not in self._ends:
            self._ends[job.name] = None
            with contextlib.suppress(OSError):
                log = Path(job.log).read_text("utf-8", errors="replace")
                self._ends[job.name] = read_job_end(log)
        return self._ends[job.name]

    def _cells(self, runs: Sequence[str]) -> Iterator[tuple[str, CellSpec]]:
        if not runs:
            return
        import json

        for row in Tables(self.storage).read(RUNS, ["run_id", "spec"]).to_pylist():
            cell = decoded(json.loads(row["spec"])) if row["run_id"] in runs else None
            if cell is not None:
                yield row["run_id"], cell

    def _view(self, run: Run, known: _Known, records: Records) -> View:
        state = self._state(known, records)
        failure = known.failure if state == "failed" else None
        cause = Cause("run-failed", failure.message, AGAIN) if failure else None
        eta = eta_seconds(records.progress, now()) if state == "running" else None
        return View(run, state, cause=cause, records=records, eta_s=eta, admitted=True)

    def _state(self, known: _Known, records: Records) -> State:
        if self._is_done(known.cell, records.progress):
            return "done"
        if known.works:
            return "running" if self._is_held(known.cell) else "queued"
        if self._is_held(known.cell):
            return "running"
        return "failed" if known.failure and not known.failure.stopped else "stopped"

    def _is_held(self, cell: CellSpec) -> bool:
        """Say whether a job works on a stage of a cell."""
        return any(is_held(self.storage, run_id(cell, stage)) for stage in cell_stages(cell))

    def _is_done(self, cell: CellSpec, progress: dict[str, Any]) -> bool:
        run = run_id(cell)
        if run not in self._done and progress.get("stage") == DONE and is_done(self.storage, cell):
            self._done.add(run)
        return run in self._done


def _run(run: str, cell: CellSpec, uri: str) -> Run:
    return Run(
        name=run,
        kind="local",
        experiment=cell.experiment,
        arm=cell.arm,
        seed=cell.seed,
        storage=uri,
        cell=cell,
        run_id=run,
    )


def _lines(job: JobRecord, *, follow: bool) -> Iterator[str]:
    """Yield the lines of a job's log, with `follow` until its process has gone."""
    with Path(job.log).open(encoding="utf-8", errors="replace") as stream:
        while True:
            over = not follow or not job.alive  # asked before the rest is read
            while line := stream.readline():
                yield line.rstrip("\n")
            if over:
                return
            time.sleep(POLL_S)
