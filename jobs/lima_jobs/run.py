"""The entrypoint of every job: runs the stages of cells in order, under one Ray.

    python -m lima_jobs.run SPECS.json --storage URI

SPECS.json is what `lima-k8s show --format json` prints: {"runs": [cell, …]}. What storage
already holds is not computed again, so that starting a job again resumes it. Exit codes:
0 done, 1 failed or stopped on request, 2 bad input, 3 storage out of reach.
"""

import argparse
import json
import logging
import signal
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lima.codec import decode, run_id
from lima.curation.dataset import load_examples
from lima.errors import Interrupted, LimaError, SpecError
from lima.ledger import record_run
from lima.progress import DONE, Progress
from lima.spec import CellSpec, Stage, cell_stages
from lima.stop import request_stop, stop_file, stop_requested
from lima.storage import Storage
from lima_jobs.session import ray_session, set_up_logging

log = logging.getLogger("lima_jobs.run")  # __name__ is __main__ here


def run_cells(cells: Sequence[CellSpec], storage: Storage, parallel: int) -> None:
    """Run cells, `parallel` at a time; one that fails does not stop the others.

    Raises:
        LimaError: the worst that ended a cell, once all have ended.

    """
    shared: tuple[Stage, ...] = ("curate", "base")
    for stage in shared:
        for cell in {run_id(c, stage): c for c in cells if getattr(c, stage)}.values():
            # Once for all cells that share it, before they ask for it side by side.
            run_stage(cell, stage, storage)
    with ThreadPoolExecutor(parallel) as pool:
        errors = [error for error in pool.map(lambda c: _try_cell(c, storage), cells) if error]
    if errors:
        raise max(errors, key=lambda error: error.exit_code)


def _try_cell(cell: CellSpec, storage: Storage) -> LimaError | None:
    try:
        for stage in cell_stages(cell):
            run_stage(cell, stage, storage)
    except LimaError as error:
        log.error("%s: %s seed %d: %s", run_id(cell), cell.arm, cell.seed, error)
        return error
    Progress(storage, run_id(cell)).update(DONE, 1, 1, "cell", force=True)
    return None


def run_stage(cell: CellSpec, stage: Stage, storage: Storage) -> None:
    """Run one stage of a cell, unless storage holds all of its results.

    Raises:
        Interrupted: a stop was requested; finished work is kept.
        LimaError: the stage failed.

    """
    if stop_requested():
        raise Interrupted(f"stopped on request before {stage}; the same command resumes it")
    progress = Progress(storage, run_id(cell))
    trains = cell.train if stage != "curate" else None
    examples = len(load_examples(trains.data)) if trains else None
    record_run(storage, cell, stage, examples)
    log.info("%s: %s seed %d: %s", run_id(cell), cell.arm, cell.seed, stage)
    _run_stage(cell, stage, storage, progress)


def _run_stage(cell: CellSpec, stage: Stage, storage: Storage, progress: Progress) -> None:
    # A stage opens its attempt itself, once it knows that something is left to do.
    if stage == "curate":
        from lima_jobs.curate import run_curate

        run_curate(cell, storage, progress)
    elif stage in ("base", "train"):
        from lima_jobs.train import run_train

        run_train(cell, stage, storage, progress)
    elif stage == "generate":
        from lima_jobs.generate import run_generate

        run_generate(cell, storage, progress)
    elif stage == "judge":
        from lima_jobs.judge import run_judge

        run_judge(cell, storage, progress)


def read_cells(path: str) -> list[CellSpec]:
    """Return the cells of a file of specs.

    Raises:
        SpecError: the file cannot be read or is not a list of runs.

    """
    try:
        document = json.loads(Path(path).read_text("utf-8"))
        runs = document["runs"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SpecError(f'{path}: not a file of specs like {{"runs": […]}} ({error})') from None
    return [decode(CellSpec, run, f"runs[{i}]") for i, run in enumerate(runs)]


def main() -> None:
    """Run the cells of a file of specs; exits with the code of the contract."""
    parser = argparse.ArgumentParser(description="Run the stages of cells.")
    parser.add_argument("specs", help="file of specs")
    parser.add_argument("--storage", required=True, help="folder or URI of the study")
    arguments = parser.parse_args()
    set_up_logging()
    stop_file().unlink(missing_ok=True)
    try:
        cells = read_cells(arguments.specs)
        storage = Storage(arguments.storage)
        with ray_session(cells) as parallel:
            _stop_on_signals()  # after Ray, which has handlers of its own
            run_cells(cells, storage, parallel)
    except LimaError as error:
        log.error("%s", error)
        sys.exit(error.exit_code)


def _stop_on_signals() -> None:
    """Let SIGTERM and SIGINT ask for a stop that saves the state; a second one kills."""

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        request_stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


if __name__ == "__main__":
    main()
