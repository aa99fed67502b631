"""The judge stage: requests from the driver, which needs no worker and no accelerator."""

import logging

from lima.judging.run import judge_responses
from lima.progress import Progress
from lima.spec import CellSpec
from lima.storage import Storage

CHATTY = ("httpx2", "openai", "stamina")
"""Loggers that say a line for every request; every request is a row already."""


def run_judge(cell: CellSpec, storage: Storage, progress: Progress) -> None:
    """Have the responses of `cell` scored.

    Raises:
        LimaError: as `lima.judging.run.judge_responses`.

    """
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    judge_responses(cell, storage, progress)
