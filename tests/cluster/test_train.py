"""`helm install lima-train` from the clone, to its end."""

import json
from pathlib import Path

from lima.spec.codec import encode, run_id
from lima.store.storage import Storage
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.layout import ROOT
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import LIMA, Lima, lima, queue, quota
from tests.cluster.helpers.studies import (
    OWN_PODS,
    assert_same,
    await_free_quota,
    await_no_live_pods,
    await_progress,
    run_here,
    scratch_cell,
)

__all__ = ["lima", "queue", "quota"]


def test_helm_install_lima_train(lima: Lima, kubectl: Kubectl, tmp_path: Path) -> None:
    """Two worker pods train; commands show it before and after its pods are gone."""
    cell, storage = scratch_cell(), Storage(lima.storage)
    where = [f"--namespace={lima.namespace}", f"--kubeconfig={kubectl.kubeconfig}"]
    chart = str(ROOT / "charts" / "lima-train")
    runs = f"runs={json.dumps([encode(cell)])}"
    run(
        [
            "helm",
            "install",
            "lima-train",
            chart,
            *where,
            f"--values={lima.profile}",
            f"--set=cluster.storage.uri={lima.storage}",
            "--set=cluster.cpu.workersPerPod=1",
            "--set-json",
            runs,
        ]
    )
    proof = run(["helm", "test", "lima-train", *where, "--logs"])
    assert "Succeeded" in proof
    await_progress(storage, cell, lambda record: record["unit"] == "steps" and record["done"] > 0)
    selector = f"--selector={OWN_PODS},ray.io/node-type=worker"
    pods = kubectl.get("pods", f"--namespace={lima.namespace}", selector)["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Running"] * 2
    # KubeRay looks at its jobs now and then: it may not know yet that this one runs.
    [told] = lima.until(lambda runs: runs[0]["state"] != "starting")
    assert (told["state"], told["run_id"]) == ("running", run_id(cell))
    assert "train" in lima("logs", told["name"]).out

    [told] = lima.until(lambda runs: runs[0]["state"] not in ("running", "starting"))
    assert told["state"] == "done", told
    await_no_live_pods(kubectl, lima.namespace)
    await_free_quota(kubectl, lima.namespace)
    log = lima("logs", told["name"]).out
    assert "preflight: 2 workers" in log
    assert "generate" in log
    assert_same(cell, storage, run_here([cell], tmp_path))
    table = run([LIMA, "aggregate", lima.storage, "--by", "arm", "--format", "json"])
    [row] = json.loads(table)["rows"]
    assert (row["arm"], row["responses"]) == ("howto", 16)
