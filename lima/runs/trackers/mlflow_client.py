"""Curves in MLflow, where MLFLOW_TRACKING_URI says; https://mlflow.org/docs/latest/ml/tracking.

A run that is resumed goes on in its run of MLflow. MLflow forgets nothing: a step that was done
again has its numbers twice, and they are equal.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lima.runs.trackers.tracker import Point, Tracked
from lima.spec.credentials import refuse_credentials

RUN_TAG, STAGE_TAG = "lima.run_id", "lima.stage"
MOST_METRICS, MOST_SETTINGS, LONGEST = 1000, 100, 6000
"""What MLflow takes at a time, and the characters of a setting."""


ADDRESS = "MLFLOW_TRACKING_URI"


def asked_for_mlflow() -> str:
    """Return the variable that asks for MLflow; empty: none does."""
    return ADDRESS if os.environ.get(ADDRESS) else ""


class MLflow:
    """Keeps a stage of a run as a run of MLflow, in an experiment of the study's name."""

    def __init__(self, tracked: Tracked) -> None:
        """Find or make the run in MLflow."""
        # Its errors repeat the address, and logs show them.
        refuse_credentials(os.environ[ADDRESS], ADDRESS)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow.tracking import MlflowClient

        self.stage, self.client = tracked.stage, MlflowClient()
        experiment = self._experiment(
            os.environ.get("MLFLOW_EXPERIMENT_NAME") or tracked.cell.experiment
        )
        found = self.client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{tracked.run}'")
        run = found[0] if found else self._begun(experiment, tracked)
        self.run = str(run.info.run_id)
        self._settle(tracked.settings, run.data.params)
        self.client.update_run(self.run, status="RUNNING")

    def _experiment(self, name: str) -> str:
        """Return the id of an experiment, which another cell may make at the same time."""
        from mlflow.exceptions import MlflowException

        if found := self.client.get_experiment_by_name(name):
            return str(found.experiment_id)
        try:
            return str(self.client.create_experiment(name))
        except MlflowException:
            if found := self.client.get_experiment_by_name(name):
                return str(found.experiment_id)
            raise

    def _begun(self, experiment: str, tracked: Tracked) -> Any:
        tags = {RUN_TAG: tracked.run, STAGE_TAG: tracked.stage, "lima.arm": tracked.cell.arm}
        return self.client.create_run(experiment, run_name=tracked.name, tags=tags)

    def _settle(self, settings: Mapping[str, Any], known: Mapping[str, str]) -> None:
        """Tell the settings that MLflow lacks: a process may have ended before it told them.

        MLflow refuses a second value of one, as of a run that went on with other workers.
        """
        from mlflow.entities import Param

        missing = [Param(k, str(v)[:LONGEST]) for k, v in settings.items() if k not in known]
        for some in _chunks(missing, MOST_SETTINGS):
            self.client.log_batch(self.run, params=some, synchronous=True)

    def write(self, points: Sequence[Point]) -> None:
        """Add these numbers."""
        from mlflow.entities import Metric

        metrics = [
            Metric(f"{self.stage}/{name}", value, int(1000 * at), step)
            for step, at, values in points
            for name, value in values.items()
        ]
        for some in _chunks(metrics, MOST_METRICS):
            self.client.log_batch(self.run, metrics=some, synchronous=True)

    def rewind(self, step: int) -> None:
        """Do nothing: see above."""

    def close(self, *, complete: bool) -> None:
        """Say how the run ended."""
        self.client.set_terminated(self.run, "FINISHED" if complete else "KILLED")


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    return (items[i : i + size] for i in range(0, len(items), size))
