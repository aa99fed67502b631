"""Seeded faults at random moments: every cell ends once, with the rows of an undisturbed one.

LIMA_FAULTS and LIMA_FAULTS_SEED say how many and which.
"""

import os
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.spec import CellSpec
from lima.store.storage import Storage
from tests.cluster.conftest import Say
from tests.cluster.harness.addons import await_operators
from tests.cluster.harness.cluster import Cluster
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.faults import Faults
from tests.cluster.helpers.lima import ENDS, Lima, lima, queue, quota, write_profile
from tests.cluster.helpers.outage import Proxy
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import (
    assert_same,
    attempts,
    await_free_quota,
    await_no_live_pods,
    run_here,
    scratch_cell,
    trains,
    write_study,
)

__all__ = ["lima", "queue", "quota"]
COUNT = int(os.environ.get("LIMA_FAULTS", "20"))
SEED = int(os.environ.get("LIMA_FAULTS_SEED", "0"))
AT_ONCE, EPOCHS = 2, 100
APART_S = (2.0, 12.0)


class Study:
    """Cells one seed after the other, so that there is always something to disturb."""

    def __init__(self, lima: Lima, kubectl: Kubectl, folder: Path) -> None:
        self.lima, self.kubectl, self.folder = lima, kubectl, folder
        self.cells: list[CellSpec] = []

    def any(self) -> bool:
        """Say that any moment will do."""
        return bool(self.cells)

    def any_trains(self) -> bool:
        """Say whether a cell is among its training steps."""
        storage = Storage(self.lima.storage)
        return any(trains(storage, cell) for cell in self.cells)

    def keep_busy(self, runs: list[dict[str, Any]]) -> None:
        """Submit the next cell when fewer than two are under way."""
        ended = sum(run["state"] in ENDS for run in runs)
        while len(self.cells) - ended < AT_ONCE:
            await_operators(self.kubectl)  # one may have been killed just now
            cell = scratch_cell(len(self.cells), EPOCHS)
            self.cells.append(cell)
            file = self.folder / f"{cell.seed}.json"
            self.lima.submit("--recipe", write_study(file, [cell]))


@pytest.fixture
def through_proxy(lima: Lima, unreliable: Proxy, s3: S3, tmp_path: Path) -> Lima:
    """Return the command line whose runs reach their storage through the proxy."""
    seen_by_pods = replace(s3, endpoint=unreliable.endpoint)
    profile = write_profile(tmp_path / "unreliable.yaml", seen_by_pods, retries=100)
    return replace(lima, profile=profile)


@pytest.fixture
def faults(cluster: Cluster, through_proxy: Lima, unreliable: Proxy) -> Faults:
    """Return what harms the runs of the namespace."""
    return Faults(cluster, through_proxy.namespace, unreliable, random.Random(SEED))


@pytest.mark.alone
def test_faults_change_nothing(
    faults: Faults, through_proxy: Lima, tmp_path: Path, say: Say
) -> None:
    lima, kubectl = through_proxy, faults.cluster.kubectl
    study = Study(lima, kubectl, tmp_path)
    for kind in faults.plan(COUNT):
        # Half of them among the steps, where there is most to lose.
        ready = study.any_trains if faults.moments.random() < 0.5 else study.any
        time.sleep(faults.moments.uniform(*APART_S))
        for now in lima.looks():
            study.keep_busy(now)
            if ready() and faults.do(kind):
                break
        say(f"{time.strftime('%H:%M:%S')} fault {len(faults.done)}: {kind}")
    with ThreadPoolExecutor(1) as pool:  # the cluster leaves much of the machine unused
        undisturbed = pool.submit(run_here, study.cells, tmp_path)
        runs = lima.until(lambda runs: all(run["state"] in ENDS for run in runs))
    assert {run["state"] for run in runs} == {"done"}, runs
    assert len(runs) == len(study.cells)
    await_no_live_pods(kubectl, lima.namespace)
    await_free_quota(kubectl, lima.namespace)
    storage, here = Storage(lima.storage), undisturbed.result()
    for cell in study.cells:
        assert_same(cell, storage, here)
    outcomes = Counter(row["outcome"] for cell in study.cells for row in attempts(storage, cell))
    say(
        f"seed {SEED}: {len(faults.done)} faults {dict(Counter(faults.done))}, "
        f"{faults.storage.refused} requests refused; {len(runs)} runs done, "
        f"attempts at training {dict(outcomes)}, all rows and weights as undisturbed"
    )
    assert len(faults.done) == COUNT
    assert outcomes["completed"] == len(study.cells)
    assert len(faults.kinds) > COUNT or outcomes.total() > len(study.cells), "none met a training"
    assert "503 from S3" not in faults.done or faults.storage.refused > 0
