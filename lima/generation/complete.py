"""Whether a run of generation has all of its responses: what compares with them waits for that."""

from lima.data.examples import load_examples
from lima.errors import InputError
from lima.generation.baseline import is_all_answered
from lima.generation.run import generate_spec, pending_shards, plan_shards
from lima.runs.ledger import completed_runs
from lima.runs.recorded_spec import cell_of
from lima.spec import is_baseline
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS


def is_complete(storage: Storage, run: str) -> bool:
    """Say whether a run of generation will get no more responses, if it is started again.

    An attempt that came to its end says so, for good: also of responses that a file lacks, and of
    prompts that were too long. One that was killed before it could say so may have left nothing
    of its plan, if the prompts of that can be read here.

    Args:
        storage: Of the study.
        run: Id of the run, of any study in it.

    Raises:
        StorageError: storage does not answer.

    """
    return run in completed_runs(storage, {run}) or _nothing_left(storage, run)


def _nothing_left(storage: Storage, run: str) -> bool:
    try:
        cell = cell_of(storage, run)
        spec = generate_spec(cell)
        if is_baseline(spec.model):
            return is_all_answered(cell, storage)
        plan = plan_shards(load_examples(spec.prompts), spec.shard_prompts)
    except InputError:
        return False
    return not pending_shards(plan, RunTable(storage, GENERATIONS, cell))
