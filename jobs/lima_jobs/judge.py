"""The judge stage: requests from the driver, which needs no worker and no accelerator."""

from lima.judging.run import judge_responses
from lima.runs.progress import Progress
from lima.spec import CellSpec
from lima.store.storage import Storage


def run_judge(cell: CellSpec, storage: Storage, progress: Progress) -> None:
    """Have the responses of `cell` scored.

    Raises:
        LimaError: as `lima.judging.run.judge_responses`.

    """
    judge_responses(cell, storage, progress)
