"""`lima-generate`: worker pods come with the work and go without it, and no row tells of them."""

from dataclasses import replace
from pathlib import Path

import pytest

from lima.spec import CellSpec, DecodingSpec
from lima.store.storage import Storage
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import Lima, lima, queue, quota_for, write_profile
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import (
    assert_same,
    await_free_quota,
    await_no_live_pods,
    run_here,
    scratch_cell,
    write_study,
)

__all__ = ["lima", "queue"]
WORKERS = "ray.io/node-type=worker"
IDLE_S = 5


@pytest.fixture
def quota() -> dict[str, str]:
    """Return quota for a run whose head has a scaler beside it, which asks for half a core."""
    return quota_for(6)


def two_then_one() -> CellSpec:
    """Return a cell that trains with two workers, and for longer than IDLE_S samples with one."""
    cell = scratch_cell(epochs=2)
    assert cell.generate
    decoding = DecodingSpec(max_new_tokens=200, samples=8)
    prompts = replace(cell.generate.prompts, count=20)
    return replace(cell, generate=replace(cell.generate, prompts=prompts, decoding=decoding))


def test_pods_come_with_the_work_and_go_without_it(
    lima: Lima, kubectl: Kubectl, s3: S3, tmp_path: Path
) -> None:
    one_a_pod = {"cpu": {"workersPerPod": 1}, "autoscaling": {"idleSeconds": IDLE_S}}
    lima = replace(lima, profile=write_profile(tmp_path / "profile.yaml", s3, **one_a_pod))
    cell = two_then_one()
    lima.submit("--recipe", write_study(tmp_path / "study.json", [cell]), kind="generate")
    seen = [0]
    while lima.runs()[0]["state"] not in ("done", "failed", "blocked"):
        lima.changed.wait(1.0)
        lima.changed.clear()
        pods = kubectl.get("pods", f"--namespace={lima.namespace}", f"--selector={WORKERS}")
        alive = [p for p in pods["items"] if "deletionTimestamp" not in p["metadata"]]
        running = sum(pod["status"]["phase"] == "Running" for pod in alive)
        seen += [running] if running != seen[-1] else []
    [told] = lima.runs()
    assert told["state"] == "done", lima.json("explain", told["name"])
    # From one that is always there to the two of training, and to the one of generation.
    assert seen[:4] == [0, 1, 2, 1], seen
    assert_same(cell, Storage(lima.storage), run_here([cell], tmp_path))
    await_no_live_pods(kubectl, lima.namespace)
    await_free_quota(kubectl, lima.namespace)
