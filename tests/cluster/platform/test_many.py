"""Two hundred runs by one command: how long it takes, what it asks, and that none is lost.

They wait first, then all of them get room on nodes that kwok pretends.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.recipes.demo import tiny
from lima.spec.codec import encode, run_id
from tests.cluster.conftest import Say
from tests.cluster.harness import addons
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.counting import counted
from tests.cluster.helpers.lima import Lima, lima, make_queue, queue
from tests.helpers.promised import promised

__all__ = ["lima", "queue"]
MANY = 200
CELLS = promised([replace(tiny()[0], seed=seed) for seed in range(MANY)])


@pytest.fixture
def quota() -> dict[str, str]:
    """Return no quota: all wait."""
    return {"cpu": "0", "memory": "0"}


@pytest.fixture
def fleet(cluster: Cluster) -> Iterator[list[str]]:
    """Yield the names of nodes without end; they go after the pods that are on them."""
    names = cluster.add_fake_nodes(8, prefix="fleet")
    yield names
    cluster.kubectl("delete", "node", *names)


def of_kind(kubectl: Kubectl, kind: str, namespace: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = kubectl.get(kind, f"--namespace={namespace}")["items"]
    return found


def test_two_hundred_runs_by_one_command(
    fleet: list[str],
    lima: Lima,
    kubectl: Kubectl,
    tmp_path: Path,
    say: Say,
) -> None:
    file = tmp_path / "many.json"
    file.write_text(json.dumps({"runs": [encode(cell) for cell in CELLS]}))
    with counted(kubectl.kubeconfig, tmp_path) as (kubeconfig, asked):
        seen = replace(lima, environment={"KUBECONFIG": str(kubeconfig)})
        done = seen.submit("--recipe", str(file))
        calls = [asked.copy()]
        assert f"submitted {MANY} runs" in done.err
        before = {j["metadata"]["uid"] for j in of_kind(kubectl, "rayjobs", lima.namespace)}
        assert len(before) == MANY
        asked.clear()
        again = seen.submit("--recipe", str(file))
        calls.append(asked.copy())
        assert "submitted 0 runs" in again.err
        after = {j["metadata"]["uid"] for j in of_kind(kubectl, "rayjobs", lima.namespace)}
        assert after == before
        asked.clear()
        status = seen("status", "--format", "json")
        calls.append(asked.copy())
    assert {run["run_id"] for run in status.document["runs"]} == {run_id(cell) for cell in CELLS}
    for what, end, made in zip(
        ("submit", "again", "status"), (done, again, status), calls, strict=True
    ):
        verbs = ", ".join(f"{n} {v}" for v, n in Counter(c.split()[0] for c in made).items())
        each = f"{end.seconds / MANY * 1000:.0f} ms and {len(made) / MANY:.2f} calls a run"
        say(f"{what}: {end.seconds:.1f} s, {len(made)} calls ({verbs}), {each}")
    # A look and a write for each of a run's two objects, and some that do not grow with the runs.
    assert len(calls[0]) <= 4 * MANY + 60
    assert len(calls[1]) <= 20
    assert len(calls[2]) <= 10
    # Kueue has lost none either: it judges the first and lines up those that ask for the same.
    lima.until(lambda runs: all(run["queue_position"] or run["state"] == "blocked" for run in runs))

    room = {"cpu": "1000", "memory": "10Ti"}
    nodes = {"nodeLabels": addons.FAKE_LABELS, "tolerations": [addons.FAKE]}
    make_queue(kubectl, lima.namespace, room, nodes)
    names = {job["metadata"]["name"] for job in of_kind(kubectl, "rayjobs", lima.namespace)}
    where: dict[str, str] = {}
    while len(where) < MANY:
        for pod in of_kind(kubectl, "pods", lima.namespace):
            if pod["spec"].get("nodeName"):
                where[pod["metadata"]["labels"]["lima-k8s.io/run"]] = pod["spec"]["nodeName"]
        time.sleep(1)
    assert set(where) == names
    assert set(where.values()) <= set(fleet)
    lima("cancel", "--all", "--yes", "--wait")
    assert not of_kind(kubectl, "rayjobs", lima.namespace)
    while of_kind(kubectl, "pods", lima.namespace):
        time.sleep(1)
