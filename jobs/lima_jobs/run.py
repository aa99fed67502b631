"""The entrypoint of every job: runs the stages of cells in order, under one Ray.

    python -m lima_jobs.run SPECS.json --storage URI [--only STAGE]

SPECS.json is what `lima-k8s show --format json` prints: {"runs": [cell, …]}. What storage
already holds is not computed again, so that starting a job again resumes it. Exit codes:
0 done, 1 failed or stopped on request, 2 bad input, 3 storage out of reach. In a cluster all but
bad input is tried again.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from lima.common.temporary import temporary_folder
from lima.common.variables import PARENT, STOP_FILE
from lima.endpoints.keys import require_keys
from lima.errors import Interrupted, LimaError, NotReadyError, SpecError
from lima.generation.complete import is_complete
from lima.model.hub import require_models
from lima.runs.done import is_done, mark_done
from lima.runs.inputs_record import record_inputs
from lima.runs.job_end import CellEnd, JobEnd
from lima.runs.lease import lease
from lima.runs.ledger import close_killed, record_run
from lima.runs.order import baselines_among
from lima.runs.progress import DONE, Progress
from lima.runs.stop import busy, request_stop, stop_file, stop_requested
from lima.spec import STAGES, CellSpec, Stage, cell_stages, computes, gpus, used_extensions
from lima.spec.codec import decode, run_id
from lima.store.reachable import POD_PATIENCE_S, require_answer
from lima.store.storage import Storage
from lima_jobs.extensions import extension_files
from lima_jobs.giveup import not_again_on_bad_input
from lima_jobs.joblog import kept_log, set_up_logging
from lima_jobs.machines import in_cluster
from lima_jobs.metrics import RunMetrics
from lima_jobs.outage import outlast
from lima_jobs.session import ray_session

log = logging.getLogger("lima_jobs.run")  # __name__ is __main__ here
PARENT_POLL_S = 1.0
SHARED: tuple[Stage, ...] = ("curate", "base")
"""Stages that several cells may have in common."""


def run_cells(
    cells: Sequence[CellSpec],
    storage: Storage,
    parallel: int,
    only: Sequence[Stage] = STAGES,
    ends: list[CellEnd] | None = None,
) -> None:
    """Run cells, `parallel` at a time; one that fails does not stop the others.

    Stages that are not among `only` must be done already. What ended cells early goes into `ends`.

    Raises:
        LimaError: the worst that ended a cell, once all have ended.

    """
    errors: dict[str, LimaError] = {}
    for stage in [stage for stage in SHARED if stage in only]:
        for run, cell in {run_id(c, stage): c for c in cells if getattr(c, stage)}.items():
            # Once for all cells that share it, before they ask for it side by side.
            if error := _guarded(cell, (stage,), storage):
                errors[run] = error
    ready = [c for c in cells if not any(run_id(c, s) in errors for s in SHARED if getattr(c, s))]
    pairs = _compared(cells) if "judge" in only else {}
    unjudged = [stage for stage in only if stage != "judge"]
    with ThreadPoolExecutor(parallel) as pool:

        def first(cell: CellSpec) -> LimaError | None:
            apart = run_id(cell) in pairs
            stages = cell_stages(_part(cell, unjudged if apart else only))
            return _guarded(cell, stages, storage, last=not apart)

        errors |= _errors(pool, first, ready)
        answered = [c for c in ready if run_id(c) not in errors]
        errors |= _skipped(answered, pairs, errors, storage)
        judge = partial(_guarded, stages=("judge",), storage=storage, last=True)
        errors |= _errors(
            pool, judge, [c for c in ready if run_id(c) in pairs.keys() - errors.keys()]
        )
    names = {run_id(c, s): _name(c) for c in cells for s in SHARED if getattr(c, s)}
    names |= {run_id(cell): _name(cell) for cell in cells}
    if ends is not None:
        ends += [CellEnd.of(run, names[run], error) for run, error in errors.items()]
    if errors:
        raise max(errors.values(), key=lambda error: error.exit_code)


def _compared(cells: Sequence[CellSpec]) -> dict[str, list[CellSpec]]:
    """Return the cells to be judged once all have answered, by run id, with their baselines.

    Where responses are compared, that is both sides: what ends a baseline's other stages early
    has then kept it from answering, and is not its judge's.
    """
    baselines = {run_id(c): baselines_among(c, cells) for c in cells if c.judge}
    others = {run_id(other) for found in baselines.values() for other in found}
    return {run: found for run, found in baselines.items() if found or run in others}


def _skipped(
    cells: Sequence[CellSpec],
    baselines: Mapping[str, Sequence[CellSpec]],
    errors: Mapping[str, LimaError],
    storage: Storage,
) -> dict[str, LimaError]:
    """Return what keeps cells from being judged, by run id: what ended one of their `baselines`.

    One that was declined an answer for good ends so each time, and is complete all the same.
    """
    skipped: dict[str, LimaError] = {}
    for cell in cells:
        for other in baselines.get(run_id(cell), ()):
            runs = [run_id(other), *(run_id(other, s) for s in SHARED if getattr(other, s))]
            error = next((errors[run] for run in runs if run in errors), None)
            if error and not is_complete(storage, run_id(other, "generate")):
                kind = Interrupted if isinstance(error, Interrupted) else NotReadyError
                why = f"not judged: {_name(other)}, with which it is compared, ended: {error}"
                log.error("%s: %s: %s", run_id(cell), _name(cell), why)
                skipped.setdefault(run_id(cell), kind(why))
    return skipped


def _errors(
    pool: ThreadPoolExecutor,
    work: Callable[[CellSpec], LimaError | None],
    cells: Sequence[CellSpec],
) -> dict[str, LimaError]:
    """Do some work for each cell; return what ended it early, by run id."""
    ended = zip(cells, pool.map(work, cells), strict=True)
    return {run_id(cell): error for cell, error in ended if error}


def _name(cell: CellSpec) -> str:
    return f"{cell.arm} seed {cell.seed}"


def _part(cell: CellSpec, only: Sequence[Stage]) -> CellSpec:
    """Return what `cell` has of the stages `only`."""
    others = [stage for stage in STAGES if stage not in only]
    return replace(cell, **dict.fromkeys(others, None))  # type: ignore[arg-type]


def _guarded(
    cell: CellSpec, stages: Sequence[Stage], storage: Storage, *, last: bool = False
) -> LimaError | None:
    """Run stages of a cell, its `last` ones maybe; log and return what ended them early."""
    try:
        if used_extensions(cell).extensions and is_done(storage, cell):
            return None  # its files were not run: they need not be there any more
        for stage in stages:
            outlast(partial(run_stage, cell, stage, storage), storage, run_id(cell), stage)
        if last:
            outlast(partial(mark_done, storage, cell), storage, run_id(cell), DONE)
    except LimaError as error:
        log.error("%s: %s: %s", run_id(cell), _name(cell), error)
        return error
    except Exception as error:
        log.exception("%s: %s: internal error", run_id(cell), _name(cell))
        return LimaError(f"internal error: {type(error).__name__}: {error}")
    return None


def run_stage(cell: CellSpec, stage: Stage, storage: Storage) -> None:
    """Run one stage of a cell, unless storage holds all of its results.

    Raises:
        Interrupted: a stop was requested; finished work is kept.
        LimaError: the stage failed.

    """
    if stop_requested():
        raise Interrupted(f"stopped on request before {stage}; the same command resumes it")
    with lease(storage, run_id(cell, stage), stop_requested, request_stop):
        close_killed(storage, cell, stage, run_id(cell))
        record_inputs(storage, cell, stage)
        record_run(storage, cell, stage)
        log.info("%s: %s: %s", run_id(cell), _name(cell), stage)
        compute = computes(cell).get(stage)
        metrics = RunMetrics(storage, cell, stage, gpus(compute) if compute else 0)
        metrics.tell_wait()
        progress = Progress(storage, run_id(cell), metrics)
        try:
            _run_stage(cell, stage, storage, progress)
        finally:
            progress.flush()


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
    parser.add_argument(
        "--only", action="append", choices=STAGES, help="stage to run, repeatable; default: all"
    )
    arguments = parser.parse_args()
    set_up_logging()
    # Of this process alone: two jobs on one machine are stopped one by one, and by their owner.
    own = temporary_folder("lima-stop-")
    with own as folder, not_again_on_bad_input(), _exit_code_of_errors():
        os.environ.setdefault(STOP_FILE, f"{folder}/stop")
        stop_file().unlink(missing_ok=True)
        _stop_on_signals()
        _stop_without(os.environ.get(PARENT))
        cells, storage = read_cells(arguments.specs), Storage(arguments.storage)
        if in_cluster():
            _require_storage(storage)
        runs = [run_id(cell) for cell in cells]
        # On this machine, whoever started the job keeps its log.
        kept = kept_log(storage, runs) if in_cluster() else contextlib.nullcontext()
        ends: list[CellEnd] = []
        with busy(), kept, _exit_code_of_errors(ends):
            _run(cells, storage, arguments.only or STAGES, ends)


def _require_storage(storage: Storage) -> None:
    """Find out in seconds, before Ray and the machines are waited for, that storage is no good.

    Raises:
        BucketError: its bucket is not there.
        StorageError: it does not answer, or refuses.

    """
    require_answer(storage.uri, POD_PATIENCE_S)
    storage.require_bucket()
    storage.exists("progress")


def _run(
    cells: Sequence[CellSpec], storage: Storage, only: Sequence[Stage], ends: list[CellEnd]
) -> None:
    parts = [_part(cell, only) for cell in cells]
    left = [p for c, p in zip(cells, parts, strict=True) if not is_done(storage, c)]
    require_keys(left, storage)
    require_models(left, storage)
    with extension_files(left) as files, ray_session(parts, files) as parallel:
        _stop_on_signals()  # again: Ray has set handlers of its own
        run_cells(cells, storage, parallel, only, ends)


@contextlib.contextmanager
def _exit_code_of_errors(ends: Sequence[CellEnd] = ()) -> Iterator[None]:
    try:
        yield
    except LimaError as error:
        log.error("%s", error)
        sys.stderr.write(f"{JobEnd.of(error, ends).line}\n")
        sys.exit(error.exit_code)


def _stop_without(parent: str | None) -> None:
    """Ask for a stop when the process that started this job is gone: nobody watches it then."""
    if not parent:
        return

    def watch() -> None:
        while os.getppid() == int(parent):
            time.sleep(PARENT_POLL_S)
        request_stop()

    threading.Thread(target=watch, name="parent", daemon=True).start()


def _stop_on_signals() -> None:
    """Let SIGTERM and SIGINT ask for a stop that saves the state; a second one kills."""

    def handle(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        request_stop()

    signal.signal(signal.SIGTERM, handle)
    signal.signal(signal.SIGINT, handle)


if __name__ == "__main__":
    main()
