"""The study from Python: load one, run it on this machine, read its tables.

    import lima

    study = lima.load_study("tiny", set={"train.epochs": 3}, arms=["howto-32"])
    results = study.run("results")
    results.table("generations", ["arm", "prompt", "response"]).to_pandas()

These names are kept: `load_study`, `Study`, `Results` and what is documented of them.
"""

import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lima.common.temporary import temporary_folder
from lima.common.variables import PARENT, STOP_FILE
from lima.errors import InputError, Interrupted, LimaError
from lima.recipes.extending import require_consent
from lima.recipes.overrides import changed, meant_for, overrides_of
from lima.recipes.registry import load_study as _load_study
from lima.runs.job_end import read_job_end
from lima.spec import CellSpec
from lima.spec.codec import encode, run_id
from lima.spec.hints import closest

if TYPE_CHECKING:
    import pyarrow as pa

    from lima.lint import Finding

JOB = "lima_jobs.run"
"""The module that runs jobs; it comes with the extra `jobs`, and is a process of its own."""
LAST_LINES = 12


@dataclass(frozen=True)
class Study:
    """A study: its runs, a cell for each arm and seed."""

    cells: tuple[CellSpec, ...]

    @property
    def run_ids(self) -> dict[tuple[str, int], str]:
        """The run id of each arm and seed."""
        return {(cell.arm, cell.seed): run_id(cell) for cell in self.cells}

    def lint(self) -> "list[Finding]":
        """Return what would go wrong, or is worth knowing, errors first."""
        from lima.lint import lint

        return lint(self.cells)

    def run(self, storage: str) -> "Results":
        """Run on this machine what storage does not hold, and wait for the end.

        ctrl-C, or an interrupt of a notebook, saves the work; the same call goes on.

        Args:
            storage: A folder, or a URI of an object store.

        Returns:
            What the storage holds.

        Raises:
            InputError: the study cannot run as it is; the message holds all that is wrong.
            Interrupted: it was stopped.
            LimaError: a run failed; the message says why.

        """
        from lima.endpoints.keys import require_keys
        from lima.runs.devices import require_machine
        from lima.runs.done import is_done
        from lima.runs.progress import read_progress, warnings_of
        from lima.store.storage import Storage

        opened = Storage(storage)
        if wrong := [f for f in self.lint() if f.level == "error"]:
            lines = "\n".join(f"  {f.path}: {f.message}; {f.fix}" for f in wrong)
            raise InputError(f"this study cannot run as it is:\n{lines}")
        left = [cell for cell in self.cells if not is_done(opened, cell)]
        require_machine(left)
        require_keys(left, opened)
        if left:
            _run_job(left, opened.uri)
        for cell in left:
            for text in warnings_of(read_progress(opened, run_id(cell)) or {}):
                warnings.warn(f"{cell.arm} seed {cell.seed}: {text}", stacklevel=2)
        return Results(storage)


@dataclass(frozen=True)
class Results:
    """What a storage holds: tables of a study that is finished, or still under way."""

    storage: str

    def table(
        self, name: str, columns: Sequence[str] | None = None, experiment: str | None = None
    ) -> "pa.Table":
        """Return a table as Arrow has it; `.to_pandas()` of it where pandas is installed.

        Args:
            name: As docs/reference/tables.md lists them: `generations`, `judgments`, `steps`, …
            columns: Only these.
            experiment: Only of this one.

        Raises:
            InputError: there is no such table or column.
            DataError: shards cannot be read; all are named.
            StorageError: storage cannot be reached.

        """
        from lima.store.scan import Tables
        from lima.store.storage import Storage
        from lima.store.tables import TABLES

        if name not in TABLES:
            raise InputError(f"no table {name!r}; {closest(name, TABLES, 'tables')}")
        known = [column.name for column in TABLES[name].columns]
        for column in columns or ():
            if column not in known:
                raise InputError(
                    f"{name}: no column {column!r}; {closest(column, known, 'columns')}"
                )
        tables = Tables(Storage(self.storage), experiment)
        found = tables.read(TABLES[name], columns or known)
        tables.require_readable()
        return found

    def means(self, by: Sequence[str] = ("experiment", "arm", "seed")) -> "pa.Table":
        """Return what `lima-k8s aggregate` prints: means and 95 % intervals.

        Raises:
            InputError: no such column to group by.
            DataError: there are no runs, or shards that cannot be read.

        """
        from lima.evaluation.aggregate.table import aggregate
        from lima.store.storage import Storage

        return aggregate(Storage(self.storage), list(by), note=lambda _: None)


def load_study(
    name: str,
    *,
    set: Mapping[str, Any] | None = None,
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    extensions: Sequence[str] = (),
) -> Study:
    """Return a study: of a recipe, or of a file as `--recipe` takes it.

    Args:
        name: The recipe, or the path of the file.
        set: Changes of every run, path to value: `{"train.epochs": 3}`.
        arms: Keep only these; empty: all.
        seeds: Keep only these; empty: all.
        extensions: Python files `PACKAGE.py` that add names `PACKAGE.NAME`; they run here. What
            the file of a study lists must be named here too: it may be somebody else's.

    Raises:
        SpecError: there is no such study, path or arm, a value is none, or an extension fails.
        DataError: an extension cannot be read.

    """
    given = _load_study(name, (), arms, seeds, extensions)
    overrides = overrides_of(dict(set or {}), "set")
    cells = tuple(changed(cell, meant_for(cell, overrides, given), "set") for cell in given)
    if any(cell.extensions for cell in cells):
        from lima.inputs.extensions import meet

        require_consent(cells, extensions)
        meet(cells)
    return Study(cells)


def _run_job(cells: Sequence[CellSpec], uri: str) -> None:
    with temporary_folder("lima-run-") as folder:
        specs, log = folder / "specs.json", folder / "job.log"
        specs.write_text(json.dumps({"runs": [encode(cell) for cell in cells]}), "utf-8")
        with _job(specs, uri, log) as job:
            stopped = _wait(job)
        lines = log.read_text("utf-8", errors="replace").splitlines()
    if stopped:
        raise Interrupted("stopped; finished work is kept, the same call goes on")
    if job.returncode:
        end = read_job_end("\n".join(lines))
        reasons = (end.failures if end else []) or lines[-LAST_LINES:]
        error = LimaError("\n  ".join(["the study did not finish:", *reasons]))
        error.exit_code = job.returncode if job.returncode in (1, 2, 3) else 1
        raise error


@contextmanager
def _job(specs: Path, uri: str, log: Path) -> "Iterator[subprocess.Popen[bytes]]":
    """Start a job in a session of its own, so that an interrupt reaches it only through us."""
    environment = {**os.environ, STOP_FILE: str(specs.with_name("stop")), PARENT: str(os.getpid())}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", JOB, str(specs), "--storage", uri]
    with log.open("wb") as stream:
        job = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        yield job
    finally:
        if job.poll() is None:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()


def _wait(job: "subprocess.Popen[bytes]") -> bool:
    """Wait for the end; say whether it was stopped. A second interrupt ends it at once."""
    try:
        job.wait()
    except KeyboardInterrupt:
        job.terminate()
        job.wait()
        return True
    return False
