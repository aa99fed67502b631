"""The inputs of training, checked by all workers together before any of them begins.

Machines may hold different files under one path. A worker that alone refused its own would leave
the others waiting for it.
"""

from lima.curation.dataset import load_examples
from lima.errors import ChangedInputError, InputError
from lima.model.loading import SCRATCH, local_model, resolve_run
from lima.spec import CellSpec, TrainSpec
from lima.storage import Storage
from lima.training.world import World


def check_together(cell: CellSpec, spec: TrainSpec, storage: Storage, world: World) -> None:
    """Check what the workers of a run are about to read; every worker calls it.

    Args:
        cell: The run, up to this stage.
        spec: Its stage.
        storage: Of the study.
        world: The workers.

    Raises:
        ChangedInputError: a worker finds something else than what the run was promised.

    """
    if problem := world.told(_problem(cell, spec, storage)):
        raise ChangedInputError(problem)


def _problem(cell: CellSpec, spec: TrainSpec, storage: Storage) -> str:
    """Return what this worker finds changed; empty: nothing."""
    try:
        for data in (spec.data, spec.heldout):
            if data is not None and data.fingerprint:
                load_examples(data)
        if spec.model.fingerprint and spec.model.path != SCRATCH:
            local_model(resolve_run(spec.model, cell), storage)
    except ChangedInputError as error:
        return str(error)
    except InputError:
        return ""  # said by whoever loads it
    return ""
