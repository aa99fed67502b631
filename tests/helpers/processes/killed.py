"""Stages in a process of their own that is killed at a moment of the test's choice."""

import subprocess
import sys
import time
from collections.abc import Callable

from lima.endpoints.journal import Journal
from lima.spec import CellSpec, Stage, stage_cell
from lima.spec.codec import canonical_json
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import Table

CHILD = """
import sys
import msgspec
from lima.spec import CellSpec
from lima.store.storage import Storage
from lima_jobs.run import run_stage

cell = msgspec.json.decode(sys.argv[1], type=CellSpec)
run_stage(cell, sys.argv[2], Storage(sys.argv[3]))
"""


def kill_when(ready: Callable[[], bool], cell: CellSpec, stage: Stage, storage: Storage) -> None:
    """Start `stage` of a cell and end it at once (SIGKILL) when it is `ready`.

    On a slow machine it may be finished by then; it must not have failed.
    """
    command = [sys.executable, "-c", CHILD, canonical_json(cell), stage, storage.uri]
    with subprocess.Popen(command) as child:
        while not ready() and child.poll() is None:
            time.sleep(0.002)
        assert child.poll() in (None, 0)
        child.kill()


def finished_keys(cell: CellSpec, stage: Stage, storage: Storage, table: Table) -> set[str]:
    """Return the keys of what storage says is finished: in the table, or in the journal."""
    part = RunTable(storage, table, stage_cell(cell, stage))
    key = {"generate": "generation_key", "judge": "judgment_key"}[stage]
    written = {str(row[key]) for row in part.read([key]).to_pylist()}
    return written | set(Journal(storage, part.identity["run_id"]).load())
