"""Curves for TensorBoard, beside the tables and of the same numbers.

STORAGE/tensorboard/EXPERIMENT/ARM/SEED/STAGE-RUN/events.out.tfevents.FIRST-LAST.NUMBER

An object store cannot append, so that there is a file for each stretch of steps, complete when it
is written; TensorBoard reads those of a folder one after the other. They are for looking at: a run
never fails for them nor waits for them, and nothing here reads them.
"""

import logging
import re
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lima.common.paths import experiment_folders
from lima.common.temporary import temporary_folder
from lima.errors import StorageError
from lima.spec import CellSpec, cell_stages
from lima.spec.codec import run_id
from lima.store.storage import Storage

log = logging.getLogger(__name__)
FOLDER = "tensorboard"
EVERY_S = 30.0
"""Between two files: an object store charges for each, and TensorBoard opens them all."""
SHOWN = 8
"""Hex digits of a run id that keep apart what is called alike."""
_FILE = re.compile(r"events\.out\.tfevents\.(\d{10})-(\d{10})\.\d+\Z")


class Board:
    """Collects numbers of one stage of a run, and writes them now and then."""

    def __init__(self, storage: Storage, cell: CellSpec) -> None:
        """Write what belongs to the last stage of `cell`, which is the part up to it."""
        self.storage, self.stage = storage, cell_stages(cell)[-1]
        arm = experiment_folders(cell.arm)[0]
        folder = f"{experiment_folders(cell.experiment)[0]}/{arm}/{cell.seed}"
        self.folder = f"{FOLDER}/{folder}/{self.stage}-{run_id(cell)[:SHOWN]}"
        self._pending: list[tuple[int, float, dict[str, float]]] = []
        self._next = time.monotonic() + EVERY_S
        self._files = 0
        self._writer = ThreadPoolExecutor(1, "board")

    def add(self, step: int, values: Mapping[str, float | None]) -> None:
        """Note values of a step, by their names; those that are None are left out."""
        known = {name: float(value) for name, value in values.items() if value is not None}
        self._pending.append((step, time.time(), known))
        if time.monotonic() >= self._next:
            self.flush()

    def flush(self) -> None:
        """Write what was noted as one file; must precede a state, so that no file spans it."""
        pending, self._pending = self._pending, []
        self._next = time.monotonic() + EVERY_S
        if not pending:
            return
        # Numbered: what is measured after a step may come to a file of its own.
        self._files += 1
        steps = f"{pending[0][0]:010d}-{pending[-1][0]:010d}"
        self._writer.submit(self._write, f"events.out.tfevents.{steps}.{self._files}", pending)

    def close(self) -> None:
        """Write what was noted, and wait until all is written; nothing can be noted any more."""
        self.flush()
        self._writer.shutdown()

    def _write(self, name: str, pending: list[tuple[int, float, dict[str, float]]]) -> None:
        try:
            with temporary_folder("lima-board-") as folder:
                data = self._events(folder, pending)
                self.storage.write(f"{self.folder}/{name}", data, replace=True)
        except (ImportError, OSError, StorageError) as error:
            log.warning("curves for TensorBoard are not written: %s", error)

    def rewind(self, step: int) -> None:
        """Drop what was written of steps after `step`: they will be done again."""
        for entry in self.storage.entries(self.folder):
            found = _FILE.search(entry.path)
            if found and int(found[2]) > step:
                self.storage.delete(entry.path)

    def _events(self, folder: Path, pending: list[tuple[int, float, dict[str, float]]]) -> bytes:
        from tensorboardX import SummaryWriter

        writer = SummaryWriter(str(folder))
        for step, at, values in pending:
            for name, value in values.items():
                writer.add_scalar(f"{self.stage}/{name}", value, step, at)
        writer.close()
        (file,) = folder.iterdir()
        return file.read_bytes()
