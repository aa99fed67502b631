"""Curves for TensorBoard, beside the tables and of the same numbers.

STORAGE/tensorboard/EXPERIMENT/ARM/SEED/STAGE-RUN/events.out.tfevents.FIRST-LAST.NUMBER

An object store cannot append, so that there is a file for each stretch of steps, complete when it
is written; TensorBoard reads those of a folder one after the other. Nothing here reads them.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from lima.common.paths import experiment_folders
from lima.common.temporary import temporary_folder
from lima.runs.trackers.tracker import Point, Tracked

FOLDER = "tensorboard"
SHOWN = 8
"""Hex digits of a run id that keep apart what is called alike."""
_FILE = re.compile(r"events\.out\.tfevents\.(\d{10})-(\d{10})\.\d+\Z")


class TensorBoard:
    """Writes a file for each stretch of steps."""

    def __init__(self, tracked: Tracked) -> None:
        """Write to the storage of the run."""
        self.storage, self.stage = tracked.storage, tracked.stage
        cell = tracked.cell
        arm = experiment_folders(cell.arm)[0]
        folder = f"{experiment_folders(cell.experiment)[0]}/{arm}/{cell.seed}"
        self.folder = f"{FOLDER}/{folder}/{self.stage}-{tracked.run[:SHOWN]}"
        self._files = 0

    def write(self, points: Sequence[Point]) -> None:
        """Write a stretch of steps as one file."""
        # Numbered: what is measured after a step may come to a file of its own.
        self._files += 1
        steps = f"{points[0].step:010d}-{points[-1].step:010d}"
        with temporary_folder("lima-board-") as folder:
            data = self._events(folder, points)
            path = f"{self.folder}/events.out.tfevents.{steps}.{self._files}"
            self.storage.write(path, data, replace=True)

    def rewind(self, step: int) -> None:
        """Drop the files of steps after `step`."""
        for entry in self.storage.entries(self.folder):
            found = _FILE.search(entry.path)
            if found and int(found[2]) > step:
                self.storage.delete(entry.path)

    def close(self, *, complete: bool) -> None:
        """Do nothing: every file is whole."""

    def _events(self, folder: Path, points: Sequence[Point]) -> bytes:
        from tensorboardX import SummaryWriter

        writer = SummaryWriter(str(folder))
        for step, at, values in points:
            for name, value in values.items():
                writer.add_scalar(f"{self.stage}/{name}", value, step, at)
        writer.close()
        (file,) = folder.iterdir()
        return file.read_bytes()
