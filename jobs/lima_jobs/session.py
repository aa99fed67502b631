"""The Ray that a job runs under: the cluster's where there is one, else one of its own."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from lima.errors import InputError, LimaError
from lima.spec import CellSpec, computes, gpus
from lima_jobs.machines import PREFLIGHT, elastic, joined, stop_reaches_all, wait_for_machines
from lima_jobs.ownray import nothing_left_of_a_failure, own_ray, require_loopback

log = logging.getLogger(__name__)
STARTS = 3
"""Times that Ray is started: on a very busy machine it gives itself up after half a minute."""
DEFAULTS = {
    # A worker that died is seen at once instead of after seconds.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.25",
    # Reclaimed machines raise our own stop flag; Ray's services for it only cost start-up.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    # Workers stay where the command was given, so that relative paths mean the same there.
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray would run its workers at the lowest priority; they are what the job is for.
    "RAY_worker_niceness": "0",
    # One worker is one CPU: more threads than that only get in each other's way.
    "OMP_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}


@contextlib.contextmanager
def ray_session(cells: Sequence[CellSpec]) -> Iterator[int]:
    """Connect to the Ray cluster of RAY_ADDRESS, or start one on this machine, and leave it.

    Judges are asked from this process: on this machine they need no Ray. Yields how many of
    `cells` can run side by side.

    Raises:
        InputError: a stage asks for more GPUs than there are.
        ClusterError: machines of a cluster stay missing.
        LimaError: machines of a cluster are broken, or Ray does not start.

    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    own = not joined()
    if own and not any(cell.curate or computes(cell) for cell in cells):
        yield side_by_side(cells, {"CPU": os.cpu_count() or 1})
        return
    with started_ray(max(os.cpu_count() or 1, _most(cells)["CPU"])):
        if own:
            import ray

            yield side_by_side(cells, ray.cluster_resources())
        else:
            with stop_reaches_all():
                yield _on_cluster(cells)


@contextlib.contextmanager
def started_ray(cpus: int) -> Iterator[None]:
    """Join the Ray cluster of RAY_ADDRESS, or start a Ray with so many CPUs here, and leave it.

    Raises:
        LimaError: Ray does not start.

    """
    # Workers on other machines have only the environment of their pod.
    joining = {"address": "auto", "runtime_env": {"env_vars": DEFAULTS}}
    with contextlib.nullcontext(joining) if joined() else own_ray(cpus) as options:
        import ray

        _start_ray(options)
        try:
            if not joined():
                require_loopback()
            yield
        finally:
            ray.shutdown()


def _start_ray(options: Mapping[str, Any]) -> None:
    """Start Ray here, or join one, up to `STARTS` times."""
    import ray

    for left in reversed(range(STARTS)):
        try:
            with nothing_left_of_a_failure():
                # Ray's own messages only if something is wrong; see `set_up_logging`.
                quiet = ray.LoggingConfig(log_level="ERROR")
                ray.init(logging_config=quiet, logging_level=logging.ERROR, **options)
        except Exception as error:  # Ray has no class of its own for this
            why = str(error).strip().partition("\n")[0] or type(error).__name__
            if not left:
                raise LimaError(
                    f"Ray did not start, {STARTS} times: {why} Is this machine out of memory, or "
                    "very busy? The same command goes on where it was"
                ) from error
            log.warning("Ray did not start (%s); trying again", why)
        else:
            return


def _on_cluster(cells: Sequence[CellSpec]) -> int:
    """Wait for the machines and check them; return how many of `cells` run side by side."""
    import ray

    if elastic():
        return 1  # machines come when work asks for them
    needs = _most(cells)
    wait_for_machines(needs)
    workers = any(computes(cell) for cell in cells)
    if workers and os.environ.get(PREFLIGHT) == "1":
        from lima_jobs.preflight import preflight

        cuda = needs["GPU"] > 0
        preflight(needs["GPU" if cuda else "CPU"], "cuda" if cuda else "cpu")
    # One that went since is no reason to call the input bad.
    there = {kind: max(n, needs.get(kind, 0)) for kind, n in ray.cluster_resources().items()}
    return side_by_side(cells, needs | there)


def set_up_logging() -> None:
    """Write our own messages to standard error, in the driver and in workers."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for room in ("lima", "lima_jobs"):
        logger = logging.getLogger(room)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO)


def side_by_side(cells: Sequence[CellSpec], resources: Mapping[str, float]) -> int:
    """Return how many of `cells` fit at the same time into what a Ray cluster has.

    Raises:
        InputError: a stage alone does not fit, and would wait for ever.

    """
    for kind, needed in _most(cells).items():
        if needed > (there := int(resources.get(kind, 0))):
            raise InputError(
                f"a stage asks for {needed} {kind}s, and there are {there}; set compute.workers of "
                "the stage, or compute.device=cpu with compute.precision=fp32"
            )
    # Not `base`, which runs before all cells and alone.
    needs = _most([replace(cell, base=None) for cell in cells])
    fits = [int(resources[kind]) // needed for kind, needed in needs.items() if needed]
    return min(fits, default=1)


def _most(cells: Sequence[CellSpec]) -> dict[str, int]:
    """Return the most CPUs and GPUs that any one stage holds."""
    held = [compute for cell in cells for compute in computes(cell).values()]
    return {
        "CPU": max((compute.workers for compute in held), default=1),
        "GPU": max((gpus(compute) for compute in held), default=0),
    }
