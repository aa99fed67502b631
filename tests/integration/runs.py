"""Starting, watching and killing real jobs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from lima.model.checkpoint_manifest import weights_epochs, weights_path
from lima.runs.progress import read_progress
from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    DecodingSpec,
    GenerateSpec,
    stage_cell,
)
from lima.spec.codec import encode, run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, METRICS, RUNS, STEPS, Table
from tests.helpers.models import small_cell
from tests.helpers.processes.asking import command_line, unless_ended
from tests.helpers.promised import promised

VOLATILE = {"at", "seconds", "stall_seconds", "created_at"}
"""Columns that tell the time, and so differ between two runs of the same spec."""
ROWS: dict[str, tuple[Table, ...]] = {
    "train": (RUNS, STEPS, METRICS),
    "generate": (RUNS, GENERATIONS),
}


EPOCHS = 16
"""40 steps, some seconds in all: time enough to be disturbed."""


def study_cell(base: Path, arm: str = "howto", seed: int = 0, workers: int = 2) -> CellSpec:
    """Return a cell that trains with two ZeRO-3 workers, or with one, and then generates."""
    cpu = ComputeSpec(
        workers=workers,
        device="cpu",
        precision="fp32",
        gradient_checkpointing=False,
        micro_batch_size=2,
    )
    cell = small_cell(
        base,
        compute=cpu,
        epochs=EPOCHS,
        checkpoints=CheckpointSpec(first_epoch=EPOCHS - 1, last_epoch=EPOCHS, state_every_steps=7),
    )
    generate = GenerateSpec(
        prompts=DataSpec("authored:test", count=8),
        decoding=DecodingSpec(max_new_tokens=24, samples=2),
        batch_size=4,
        shard_prompts=2,
        compute=ComputeSpec(workers=1, device="cpu", precision="fp32"),
    )
    return promised([CellSpec("integration", arm, seed, train=cell.train, generate=generate)])[0]


class Job:
    """A job process that runs cells, with a log beside its storage."""

    def __init__(self, cells: Sequence[CellSpec], uri: str, folder: Path) -> None:
        """Start the job's entrypoint, as `submit` and a RayJob do."""
        folder.mkdir(parents=True, exist_ok=True)
        specs = folder / "specs.json"
        specs.write_text(json.dumps({"runs": [encode(c) for c in cells]}), "utf-8")
        self.cells, self.storage, self.log = cells, Storage(uri), folder / "job.log"
        self._before = read_progress(self.storage, run_id(cells[0]))
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lima_jobs.run", str(specs), "--storage", uri],
                stdout=stream,
                stderr=subprocess.STDOUT,
                env={**os.environ, "LIMA_STOP_FILE": str(folder / "stop")},
                start_new_session=True,
            )

    def wait(self) -> int:
        """Wait for the end; return the exit code."""
        return self.process.wait()

    def finish(self) -> None:
        """Wait for the end, which must be a good one."""
        code = self.wait()
        assert code == 0, self.log.read_text("utf-8")[-6000:]

    def wait_until(self, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until this job says a progress of the first cell that is what `reached` says."""
        while self.process.poll() is None:
            record = read_progress(self.storage, run_id(self.cells[0]))
            if record and record != self._before and reached(record):
                return record
            time.sleep(0.1)
        raise AssertionError(f"the job ended early:\n{self.log.read_text('utf-8')[-6000:]}")

    def kill(self) -> None:
        """Kill the driver alone, at once; Ray's processes have to notice by themselves."""
        # Ray's agents hold nothing and take minutes to see that they are alone.
        family = [p for p in self.family() if "Agent" not in _title(p)]
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        _, alive = psutil.wait_procs(family, timeout=600)
        assert not alive, f"left behind: {alive}"

    def kill_worker(self, name: str) -> int:
        """Kill one Ray worker whose process title holds `name`; return its process id."""
        while self.process.poll() is None:
            found = [p for p in self.family() if name in _title(p)]
            if found:
                victim = max(found, key=lambda p: p.pid)
                victim.kill()
                return int(victim.pid)
            time.sleep(0.1)
        raise AssertionError(f"the job ended before a {name} was seen")

    def family(self) -> list[psutil.Process]:
        """Return the processes that the job has started."""
        return unless_ended(lambda: psutil.Process(self.process.pid).children(recursive=True), [])


def _title(process: psutil.Process) -> str:
    return " ".join(command_line(process))


def rows(storage: Storage, cell: CellSpec) -> dict[str, list[dict[str, Any]]]:
    """Return all rows of a cell without the columns that tell the time."""
    found: dict[str, list[dict[str, Any]]] = {}
    for stage, tables in ROWS.items():
        for table in tables:
            part = RunTable(storage, table, stage_cell(cell, stage)).read().to_pylist()  # type: ignore[arg-type]
            found[f"{stage}.{table.name}"] = [
                {k: v for k, v in row.items() if k not in VOLATILE} for row in part
            ]
    return found


def weights(storage: Storage, cell: CellSpec) -> dict[int, bytes]:
    """Return the exported weights of every epoch, as bytes."""
    run = run_id(cell, "train")
    return {
        epoch: storage.read(f"{weights_path(run, epoch)}/model.safetensors")
        for epoch in weights_epochs(storage, run)
    }
