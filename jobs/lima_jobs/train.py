"""The base and train stages: Ray Train starts the workers, `lima.training` trains.

One worker alone is a Ray task: Ray Train would start five more processes for it to look after.
"""

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, cast

from lima.common.temporary import remove_left_behind
from lima.errors import ClusterError, HubError, InputError, Interrupted, LimaError, whole_reason
from lima.model.checkpoint_manifest import completion_path
from lima.runs.progress import Progress
from lima.runs.stop import stop_requested
from lima.spec import (
    CellSpec,
    ComputeSpec,
    Stage,
    TrainSpec,
    gpus,
    stage_cell,
    training_compute,
)
from lima.spec.codec import canonical_json, decode, encode, run_id
from lima.store.storage import Storage
from lima.training.sizing.state_size import COLLECTIVE_TIMEOUT_S
from lima.training.step_rows import StepRecord
from lima_jobs.machines import (
    elastic,
    in_cluster,
    machines,
    wait_for_departure,
    wait_for_machines,
    workers_there,
)
from lima_jobs.metrics import RunMetrics
from lima_jobs.ownray import private_folder
from lima_jobs.waiting import unless_stopped

if TYPE_CHECKING:
    from lima.training.world import World

log = logging.getLogger(__name__)
WORKER_FAILURES = 3
"""Restarts of the workers within one job: a machine may fail, a bug fails each time."""


def run_train(cell: CellSpec, stage: Stage, storage: Storage, progress: Progress) -> None:
    """Train the model of `stage`, unless it is trained already.

    Raises:
        Interrupted: it was asked to stop; its state is saved.
        InputError: the model or the data cannot be used.
        LimaError: workers failed too often.

    """
    if storage.exists(completion_path(run_id(cell, stage))):
        return
    work = _Work(cell, stage, storage, progress.run)
    before = machines() if in_cluster() else {}
    progress.update(stage, 0, 1, "steps", force=True, status="starting workers")
    while ended_by := _fit(work):
        if not isinstance(ended_by, Interrupted) or not in_cluster():
            raise ended_by
        log.info("a machine of the workers must go: %s", ended_by)
        wait_for_departure(before)
        if stop_requested():  # this one too
            raise ended_by
        work = _with_machines(work)
        before = machines()


@dataclass(frozen=True)
class _Work:
    """What the workers are to train, and where."""

    cell: CellSpec
    stage: Stage
    storage: Storage
    run: str
    workers: int | None = None
    """That it goes on with; None: as many as the spec says."""

    @property
    def spec(self) -> TrainSpec:
        """The stage's part of the cell."""
        spec = self.cell.base if self.stage == "base" else self.cell.train
        if spec is None:
            raise InputError(f"the run has no stage {self.stage!r}")
        return spec

    @property
    def compute(self) -> ComputeSpec:
        """The workers that it asks for."""
        compute = training_compute(self.spec)
        return replace(compute, workers=self.workers or compute.workers)

    @property
    def backend(self) -> str:
        """What the workers talk to each other by."""
        return "nccl" if self.compute.device == "cuda" else "gloo"

    def encoded(self) -> dict[str, Any]:
        """Return it as workers elsewhere are given it."""
        return {
            "cell": encode(self.cell),
            "stage": self.stage,
            "storage": self.storage.uri,
            "run": self.run,
            "workers": self.workers,
        }

    @classmethod
    def decoded(cls, config: dict[str, Any]) -> "_Work":
        """Return what `encoded` was called on."""
        cell, storage = decode(CellSpec, config["cell"]), Storage(config["storage"])
        return cls(cell, config["stage"], storage, config["run"], config["workers"])


def _with_machines(work: _Work) -> _Work:
    """Wait for the machines that the work needs; return it, on fewer workers if it may be.

    Raises:
        ClusterError: they do not come, and those that are there are too few.

    """
    if elastic():
        return work
    try:
        wait_for_machines({"GPU": gpus(work.compute), "CPU": work.compute.workers})
    except ClusterError as error:
        there, fewest = workers_there(work.compute), work.spec.fewest_workers
        if fewest is None or there < fewest:
            raise
        log.warning("%s; training goes on with %d workers", error, there)
        return replace(work, workers=there)
    return work


def _fit(work: _Work) -> LimaError | None:
    """Train; return what ended it early, if that was no failure of a worker."""
    return _fit_alone(work) if work.compute.workers == 1 else _fit_together(work)


def _fit_alone(work: _Work) -> LimaError | None:
    """Train with one worker; return what ended it early, if that was no failure of it."""
    import ray
    from ray.exceptions import RayError, RayTaskError

    # A process of its own: DeepSpeed does not survive a second process group.
    task = ray.remote(num_cpus=1, num_gpus=gpus(work.compute), max_retries=0, max_calls=1)(_train)
    for left in reversed(range(1 + WORKER_FAILURES)):
        try:
            ended = unless_stopped(lambda: ray.get(task.remote(work.encoded(), alone=True)))
            return cast("LimaError | None", ended)
        except RayError as error:
            log.warning("the worker failed, and is started %d times more: %s", left, error)
            cause = error.cause if isinstance(error, RayTaskError) else error
            if not left:
                raise _reason(error, [cause]) from error
    raise AssertionError("unreachable")


def _fit_together(work: _Work) -> LimaError | None:
    """Train with several workers; return what ended it early, if that was no failure of one."""
    from ray.train import (
        FailureConfig,
        LoggingConfig,
        RunConfig,
        ScalingConfig,
        TrainingFailedError,
    )
    from ray.train.torch import TorchConfig

    from lima_jobs.meeting import LeanTrainer, LocalTrainer, Unmet

    own = private_folder() is not None
    trainer = (LocalTrainer if own else LeanTrainer)(
        _train,
        train_loop_config=work.encoded(),
        scaling_config=ScalingConfig(
            num_workers=work.compute.workers,
            use_gpu=work.compute.device == "cuda",
            resources_per_worker={"CPU": 1},
        ),
        run_config=RunConfig(
            name=run_id(work.cell, work.stage),
            storage_path=work.storage.full_path("ray"),
            storage_filesystem=work.storage.filesystem,
            failure_config=FailureConfig(max_failures=WORKER_FAILURES),
            # Its warnings come with tracebacks, of what passes on a busy machine.
            logging_config=LoggingConfig("ERROR"),
        ),
        torch_config=Unmet() if own else TorchConfig(work.backend, "env", COLLECTIVE_TIMEOUT_S),
    )
    try:
        return cast("LimaError | None", unless_stopped(trainer.fit).return_value)
    except TrainingFailedError as error:
        failures: dict[int, Exception] = getattr(error, "worker_failures", {})
        raise _reason(error, list(failures.values())) from error


def _reason(error: Exception, failures: Sequence[Exception]) -> LimaError:
    """Return what made the workers fail: our own error if one has said it."""
    said = f"training failed {WORKER_FAILURES + 1} times; the last: "
    for failure in failures:
        if isinstance(failure, LimaError):
            return type(failure)(f"{said}{failure}")
    # Of what others said, the most telling: one that only lost its peers has no class of its own.
    told = sorted(failures, key=lambda failure: type(failure) is RuntimeError)
    return LimaError(said + _with_class(told[0] if told else error))


def _with_class(error: BaseException) -> str:
    return f"{type(error).__name__}: {whole_reason(error)}"


def _train(config: dict[str, Any], *, alone: bool = False) -> LimaError | None:
    """Train as one worker; return what ended it early.

    Args:
        config: Work, as it is passed on.
        alone: Whether there are no others; otherwise Ray Train has made the group.

    """
    from lima.training.engine import prepare_environment

    work = _Work.decoded(config)
    prepare_environment(work.compute.device)

    from lima_jobs.joblog import set_up_logging

    set_up_logging()
    remove_left_behind()
    with _world_of_one(work) if alone else _world_of_ray(work) as world:
        return _train_in(world, work)


@contextlib.contextmanager
def _world_of_one(work: _Work) -> Iterator["World"]:
    import torch
    import torch.distributed as dist

    from lima.training.world import World

    os.environ.update(RANK="0", LOCAL_RANK="0", WORLD_SIZE="1")
    device = torch.device("cuda:0" if work.compute.device == "cuda" else "cpu")
    # Nobody is to be met: a store in memory, no port.
    store = dist.HashStore()  # type: ignore[attr-defined]
    dist.init_process_group(work.backend, store=store, rank=0, world_size=1)
    try:
        yield World(0, 1, device)
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _world_of_ray(work: _Work) -> Iterator["World"]:
    import ray.train
    import ray.train.torch

    from lima.training.world import World

    if folder := private_folder():
        from lima_jobs.meeting import private_world

        with private_world(work.backend, folder, COLLECTIVE_TIMEOUT_S) as world:
            yield world
        return
    context = ray.train.get_context()
    device = ray.train.torch.get_device()
    yield World(context.get_world_rank(), context.get_world_size(), device)


def _train_in(world: "World", work: _Work) -> LimaError | None:
    """Train as one worker of `world`; return what ended it early."""
    from lima.runs.ledger import attempt
    from lima.runs.stop import busy
    from lima.training.hooks import Hooks, Saved
    from lima.training.loop import Trainer

    metrics = RunMetrics(work.storage, work.cell, work.stage, gpus(work.compute))
    progress = Progress(work.storage, work.run, metrics)

    def on_step(record: StepRecord, total: int, ended: dict[str, Any]) -> None:
        ended.setdefault("resumed_from", record.step - 1 or None)
        progress.update(
            work.stage,
            record.step,
            total,
            "steps",
            epoch=round(record.epoch, 2),
            loss=round(record.loss, 4),
            tokens_per_second=round(record.tokens / record.seconds),
        )

    def on_idle(seconds: float, ended: dict[str, Any]) -> None:
        ended["idle_seconds"] = ended.get("idle_seconds", 0.0) + seconds

    def train(ended: dict[str, Any]) -> None:
        saves: list[dict[str, Any]] = []

        def on_saved(saved: Saved) -> None:
            saves.append(asdict(saved))
            ended["saves"] = canonical_json(saves)

        hooks = Hooks(
            lambda record, total: on_step(record, total, ended),
            stop_requested,
            on_saved,
            lambda seconds: on_idle(seconds, ended),
        )
        cell = stage_cell(work.cell, work.stage)
        Trainer(cell, work.spec, work.storage, world, hooks).train()

    try:
        with busy():
            if not world.leads:
                train({})
                return None
            with attempt(work.storage, work.cell, work.stage, work.compute, work.run) as ended:
                train(ended)
    except (InputError, HubError, Interrupted) as error:
        # Every worker meets it, and no restart would help: it is not a failure to Ray.
        return error
    finally:
        progress.flush()
    return None
