"""The base and train stages: Ray Train starts the workers, `lima.training` trains."""

import logging
from typing import Any, cast

from lima.codec import decode, encode, run_id
from lima.errors import InputError, Interrupted, LimaError
from lima.progress import Progress
from lima.spec import CellSpec, ComputeSpec, Stage, TrainSpec, gpus, stage_cell
from lima.stop import stop_requested
from lima.storage import Storage
from lima.training.records import StepRecord, completion_path
from lima_jobs.cluster import elastic, joined, machines, wait_for_departure, wait_for_machines

log = logging.getLogger(__name__)
WORKER_FAILURES = 3
"""Restarts of a group of workers within one job: a machine may fail, a bug fails each time."""


def run_train(cell: CellSpec, stage: Stage, storage: Storage, progress: Progress) -> None:
    """Train the model of `stage`, unless it is trained already.

    Raises:
        Interrupted: it was asked to stop; its state is saved.
        InputError: the model or the data cannot be used.
        LimaError: workers failed too often.

    """
    if storage.exists(completion_path(run_id(cell, stage))):
        return
    before = machines() if joined() else {}
    progress.update(stage, 0, 1, "steps", force=True, status="starting workers")
    while ended_by := _fit(_trainer(cell, stage, storage, progress.run)):
        if not isinstance(ended_by, Interrupted) or not joined():
            raise ended_by
        log.info("a machine of the workers must go: %s", ended_by)
        wait_for_departure(before)
        if stop_requested():  # this one too
            raise ended_by
        before = _machines_for(_spec(cell, stage).compute)


def _machines_for(compute: ComputeSpec) -> dict[str, str]:
    """Return the machines of a cluster, once there are enough again."""
    if not elastic():
        wait_for_machines({"GPU": gpus(compute), "CPU": compute.workers})
    return machines()


def _trainer(cell: CellSpec, stage: Stage, storage: Storage, run: str) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    compute = _spec(cell, stage).compute
    cuda = compute.device == "cuda"
    return TorchTrainer(
        _worker,
        train_loop_config={
            "cell": encode(cell),
            "stage": stage,
            "storage": storage.uri,
            "run": run,
        },
        scaling_config=ScalingConfig(
            num_workers=compute.workers, use_gpu=cuda, resources_per_worker={"CPU": 1}
        ),
        run_config=RunConfig(
            name=run_id(cell, stage),
            storage_path=storage.full_path("ray"),
            storage_filesystem=storage.filesystem,
            failure_config=FailureConfig(max_failures=WORKER_FAILURES),
        ),
        torch_config=TorchConfig(backend="nccl" if cuda else "gloo"),
    )


def _fit(trainer: Any) -> LimaError | None:
    """Run the trainer; return what ended it early, if that was no failure of a worker."""
    from ray.train import TrainingFailedError

    try:
        return cast("LimaError | None", trainer.fit().return_value)
    except TrainingFailedError as error:
        raise _reason(error) from error


def _reason(error: Exception) -> LimaError:
    """Return what made the workers fail: our own error if one has said it."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    said = f"training failed {WORKER_FAILURES + 1} times; the last: "
    for failure in failures.values():
        if isinstance(failure, LimaError):
            return type(failure)(f"{said}{failure}")
    # A worker that only lost its peers says less than the one that failed.
    lines = [line for line in str(error).splitlines() if line.strip()]
    return LimaError(said + (lines[-1].strip() if lines else type(error).__name__))


def _spec(cell: CellSpec, stage: Stage) -> TrainSpec:
    spec = cell.base if stage == "base" else cell.train
    if spec is None:
        raise InputError(f"the run has no stage {stage!r}")
    return spec


def _worker(config: dict[str, Any]) -> LimaError | None:
    """Train as one of Ray's workers; return what ended it early."""
    from lima.training.engine import prepare_environment

    cell, stage = decode(CellSpec, config["cell"]), config["stage"]
    spec = _spec(cell, stage)
    prepare_environment(spec.compute.device)

    import ray.train
    import ray.train.torch

    from lima.ledger import attempt
    from lima.stop import busy
    from lima.training.loop import Hooks, Trainer
    from lima.training.world import World
    from lima_jobs.session import set_up_logging

    set_up_logging()
    context = ray.train.get_context()
    world = World(context.get_world_rank(), context.get_world_size(), ray.train.torch.get_device())
    storage = Storage(config["storage"])
    progress = Progress(storage, config["run"])

    def on_step(record: StepRecord, total: int, ended: dict[str, Any]) -> None:
        ended.setdefault("resumed_from", record.step - 1 or None)
        progress.update(
            stage, record.step, total, "steps",
            epoch=round(record.epoch, 2), loss=round(record.loss, 4),
            tokens_per_second=round(record.tokens / record.seconds),
        )  # fmt: skip

    def train(ended: dict[str, Any]) -> None:
        hooks = Hooks(lambda record, total: on_step(record, total, ended), stop_requested)
        Trainer(stage_cell(cell, stage), spec, storage, world, hooks).train()

    try:
        if world.leads:
            with busy(), attempt(storage, cell, stage, spec.compute, config["run"]) as ended:
                train(ended)
        else:
            with busy():
                train({})
    except (InputError, Interrupted) as error:
        # Every worker meets it, and no restart would help: it is not a failure to Ray.
        return error
    return None
