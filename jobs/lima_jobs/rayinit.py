"""Starts a Ray for a job, or joins the one of its cluster."""

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lima.errors import LimaError
from lima.spec.extension_files import as_variable
from lima_jobs.machines import in_cluster
from lima_jobs.ownray import nothing_left_of_a_failure, own_ray, require_loopback

log = logging.getLogger(__name__)
STARTS = 6
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
def started_ray(cpus: int, files: Sequence[Path] = ()) -> Iterator[None]:
    """Join the Ray cluster of RAY_ADDRESS, or start a Ray with so many CPUs here, and leave it.

    Workers of a cluster are sent `files`, of which each lies in a folder of its digits.

    Raises:
        LimaError: Ray does not start.

    """
    # Workers on other machines have only the environment of their pod.
    joining = {"address": "auto", "runtime_env": _runtime_env(files)}
    with contextlib.nullcontext(joining) if in_cluster() else own_ray(cpus) as options:
        import ray

        _start_ray(options)
        try:
            if not in_cluster():
                require_loopback()
            yield
        finally:
            ray.shutdown()


def _runtime_env(files: Sequence[Path]) -> dict[str, Any]:
    if not files:
        return {"env_vars": DEFAULTS}
    # Ray puts each folder where Python looks for modules; where that is, each machine knows.
    names = (f"{file.parent.name}/{file.name}" for file in files)
    folders = [str(file.parent) for file in files]
    return {"env_vars": {**DEFAULTS, **as_variable(names)}, "py_modules": folders}


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
