"""From Kueue's admission of a run to its first training step: where the time goes.

LIMA_CLUSTER=dev pytest -m bench -s tests/bench/bench_admission.py
"""

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lima.spec import stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import STEPS
from tests.cluster.conftest import cluster, kubectl, namespace, s3
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import Lima, lima, queue, quota
from tests.cluster.helpers.studies import OWN_PODS, await_progress, scratch_cell, write_study

__all__ = ["cluster", "kubectl", "lima", "namespace", "queue", "quota", "s3"]
STAMP = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ +INFO (.*)$", re.MULTILINE)


def parsed(stamp: str) -> datetime:
    """Return the time that Kubernetes or a log says; both say it in UTC."""
    return datetime.fromisoformat(stamp.replace("Z", "")).replace(tzinfo=UTC)


def changed(item: dict[str, Any], condition: str) -> datetime:
    """Return when a condition of an object last changed."""
    [found] = [c for c in item["status"]["conditions"] if c["type"] == condition]
    return parsed(found["lastTransitionTime"])


def started(pod: dict[str, Any]) -> datetime:
    """Return when a pod's container started."""
    [status] = pod["status"]["containerStatuses"]
    return parsed(status["state"]["running"]["startedAt"])


def timeline(kubectl: Kubectl, where: str, log: str) -> dict[str, datetime]:
    """Return the moments before the first step, from what the cluster and the job's log say."""
    [workload] = kubectl.get("workloads", where)["items"]
    pods = kubectl.get("pods", where, f"--selector={OWN_PODS}")["items"]
    ray = [pod for pod in pods if "ray.io/node-type" in pod["metadata"]["labels"]]
    [submitter] = [pod for pod in pods if pod not in ray]
    lines = [(parsed(stamp), text) for stamp, text in STAMP.findall(log)]
    return {
        "admitted by Kueue": changed(workload, "Admitted"),
        "pods made by KubeRay": max(parsed(p["metadata"]["creationTimestamp"]) for p in ray),
        "containers started": max(started(pod) for pod in ray),
        "Ray ready on all pods": max(changed(pod, "Ready") for pod in ray),
        "submitter started": started(submitter),
        "job accepted by Ray": lines[0][0],
        "preflight done": next(at for at, text in lines if text.startswith("preflight")),
    }


@pytest.mark.bench
@pytest.mark.cluster
def test_admission_to_first_step(
    lima: Lima, kubectl: Kubectl, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cell, storage = scratch_cell(), Storage(lima.storage)
    lima.submit("--recipe", write_study(tmp_path / "study.json", [cell]))
    await_progress(storage, cell, lambda record: record["unit"] == "steps" and record["done"] > 0)
    moments = timeline(kubectl, f"--namespace={lima.namespace}", lima("logs", run_id(cell)).out)
    lima.until(lambda runs: runs[0]["state"] == "done")
    steps = RunTable(storage, STEPS, stage_cell(cell, "train")).read(["at", "seconds"]).to_pylist()
    moments["first step done"] = min(row["at"] for row in steps)
    with capsys.disabled():
        print()
        for (_, before), (name, after) in pairwise(moments.items()):
            print(f"{(after - before).total_seconds():6.1f} s  {name}")
        first, last = min(moments.values()), moments["first step done"]
        print(f"{(last - first).total_seconds():6.1f} s  in all")
    assert last > first
