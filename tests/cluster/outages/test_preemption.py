"""A run of higher priority takes the quota of a training run; both end as if alone."""

import json
from pathlib import Path

import pytest

from lima.spec import stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from lima.training.certificate import certify
from tests.cluster.conftest import Say
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import ENDS, Lima, lima, queue, quota_for
from tests.cluster.helpers.studies import (
    assert_same,
    attempts,
    await_no_live_pods,
    await_progress,
    run_here,
    scratch_cell,
    write_study,
)

__all__ = ["lima", "queue"]


@pytest.fixture
def quota() -> dict[str, str]:
    """Return the quota of one run."""
    return quota_for(1)


def test_a_preempted_run_goes_on_where_it_was(
    lima: Lima, kubectl: Kubectl, tmp_path: Path, say: Say
) -> None:
    # Long enough that it is not through before the other is admitted.
    low, high, storage = scratch_cell(0, epochs=160), scratch_cell(1), Storage(lima.storage)
    lima.submit("--recipe", write_study(tmp_path / "low.json", [low]), "--priority", "low")
    before = await_progress(storage, low, lambda r: r["unit"] == "steps" and r["done"] >= 10)
    lima.submit("--recipe", write_study(tmp_path / "high.json", [high]), "--priority", "high")
    order: list[str] = []

    def ended(runs: list[dict[str, object]]) -> bool:
        order.extend(str(r["seed"]) for r in runs if r["state"] == "done")
        return all(run["state"] in ENDS for run in runs)

    runs = lima.until(ended)
    assert [run["state"] for run in runs] == ["done"] * 2
    assert order[0] == "1", "the run of high priority ends first"
    first, last = attempts(storage, low)
    assert (first["outcome"], last["outcome"]) == ("interrupted", "completed")
    resumed = last["resumed_from"]
    assert resumed >= before["done"]
    # Nothing of the first attempt was computed again, and nothing of it lies after the state.
    table = RunTable(storage, STEPS, stage_cell(low, "train")).read(["step", "at"]).to_pylist()
    assert [row["step"] for row in table if row["at"] <= first["at"]] == list(range(1, resumed + 1))
    # What was on its way was finished, and the newest state after it, within the grace period.
    saves = json.loads(first["saves"])
    assert (saves[-1]["kind"], saves[-1]["step"]) == ("state", resumed)
    assert 0 < first["idle_seconds"] < first["seconds"]
    assert certify(storage, run_id(low, "train")).problems == ()
    await_no_live_pods(kubectl, lima.namespace)
    here = run_here([low, high], tmp_path)
    for cell in (low, high):
        assert_same(cell, storage, here)
    say(f"preempted after step {before['done']} or later, resumed at {resumed}")
