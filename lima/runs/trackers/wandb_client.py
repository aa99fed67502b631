"""Curves in Weights & Biases, where WANDB_API_KEY or WANDB_MODE is set; https://docs.wandb.ai.

Their other variables count as well: WANDB_BASE_URL, WANDB_ENTITY, WANDB_PROJECT, WANDB_DIR. Steps
are a curve of their own, since W&B takes no step twice, and a resumed run may do some again.
"""

import os
import re
import threading
from collections.abc import Sequence
from typing import Any

from lima.runs.trackers.tracker import Point, Tracked

FINISH_S = 15.0
"""That its own process may take to send the last of it."""


def asked_for_wandb() -> str:
    """Return the variable that asks for W&B; empty: none does, or one says that it is off."""
    if os.environ.get("WANDB_MODE") == "disabled":
        return ""
    return next((v for v in ("WANDB_API_KEY", "WANDB_MODE") if os.environ.get(v)), "")


class WeightsAndBiases:
    """Keeps a stage of a run as a run of W&B, in a project of the study's name.

    Its own process serves all runs of ours, and is ended with the last of them: a worker of Ray
    ends it before W&B would, which then fills the log with a traceback.
    """

    _lock, _open = threading.Lock(), 0

    def __init__(self, tracked: Tracked) -> None:
        """Begin the run in W&B, or go on with it."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self.stage = tracked.stage
        # Only curves and settings: neither code nor the machine is told of.
        quiet = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
            finish_timeout=FINISH_S,
        )
        self._count(1)
        try:
            self._begin(tracked, quiet)
        except BaseException:
            self._count(-1)
            raise

    @classmethod
    def _count(cls, more: int) -> int:
        """Return how many runs are open, `more` than before."""
        with cls._lock:
            cls._open += more
            return cls._open

    def _begin(self, tracked: Tracked, settings: Any) -> None:
        import wandb

        self.run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or _project(tracked.cell.experiment),
            id=tracked.run,
            name=tracked.name,
            group=tracked.cell.arm,
            job_type=tracked.stage,
            config=tracked.settings,
            resume="allow",
            reinit="create_new",  # cells run side by side in one process
            settings=settings,
        )
        self.run.define_metric(f"{self.stage}/step", hidden=True)
        self.run.define_metric(f"{self.stage}/*", step_metric=f"{self.stage}/step")

    def write(self, points: Sequence[Point]) -> None:
        """Add these numbers."""
        for step, _, values in points:
            named = {f"{self.stage}/{name}": value for name, value in values.items()}
            self.run.log({**named, f"{self.stage}/step": step})

    def rewind(self, step: int) -> None:
        """Do nothing: what is done again has the same numbers."""

    def close(self, *, complete: bool) -> None:
        """Say how the run ended."""
        import wandb

        exit_code = 0 if complete else 1
        self.run.finish(exit_code=exit_code)
        if not self._count(-1):
            wandb.teardown(exit_code=exit_code)


def _project(experiment: str) -> str:
    """Return the name of a study without what W&B does not take in the names of projects."""
    return re.sub(r"[/\\#?%:]", "-", experiment)
