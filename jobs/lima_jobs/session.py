"""The Ray that a job runs under: the cluster's where there is one, else one of its own."""

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lima.common.variables import PREFLIGHT
from lima.errors import InputError
from lima.spec import CellSpec, computes, gpus
from lima_jobs.machines import elastic, in_cluster, stop_reaches_all, wait_for_machines
from lima_jobs.rayinit import DEFAULTS, started_ray

log = logging.getLogger(__name__)


@contextlib.contextmanager
def ray_session(cells: Sequence[CellSpec], files: Sequence[Path] = ()) -> Iterator[int]:
    """Connect to the Ray cluster of RAY_ADDRESS, or start one on this machine, and leave it.

    Judges are asked from this process: on this machine they need no Ray. Workers on other machines
    get `files`, which lie as `lima.inputs.extensions` has them. Yields how many of `cells` can run
    side by side.

    Raises:
        InputError: a stage asks for more GPUs than there are.
        ClusterError: machines of a cluster stay missing.
        LimaError: machines of a cluster are broken, or Ray does not start.

    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    own = not in_cluster()
    if own and not any(cell.curate or computes(cell) for cell in cells):
        yield side_by_side(cells, {"CPU": os.cpu_count() or 1})
        return
    with started_ray(max(os.cpu_count() or 1, _most(cells)["CPU"]), files):
        if own:
            import ray

            yield side_by_side(cells, ray.cluster_resources())
        else:
            with stop_reaches_all():
                yield _on_cluster(cells)


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
