"""A storage that is away for longer than workers try: the driver waits, and the run goes on."""

import time
from dataclasses import replace
from pathlib import Path

from lima.store.storage import Storage
from tests.cluster.helpers.lima import ENDS, Lima, lima, queue, quota, write_profile
from tests.cluster.helpers.outage import Proxy
from tests.cluster.helpers.s3 import S3
from tests.cluster.helpers.studies import (
    assert_same,
    await_training,
    run_here,
    scratch_cell,
    write_study,
)

__all__ = ["lima", "queue", "quota"]
EPOCHS = 100
AWAY_S = 90


def test_minutes_without_storage_end_no_run(
    lima: Lima, s3: S3, unreliable: Proxy, tmp_path: Path
) -> None:
    seen_by_pods = replace(s3, endpoint=unreliable.endpoint)
    # A driver that gave up would find no other.
    profile = write_profile(tmp_path / "profile.yaml", seen_by_pods, retries=0)
    lima = replace(lima, profile=profile)
    cell, storage = scratch_cell(epochs=EPOCHS), Storage(lima.storage)
    lima.submit("--recipe", write_study(tmp_path / "study.json", [cell]))
    await_training(storage, cell)
    unreliable.out.set()
    time.sleep(AWAY_S)
    unreliable.out.clear()
    [run] = lima.until(lambda runs: runs[0]["state"] in ENDS)
    assert run["state"] == "done", run
    assert unreliable.refused > 0
    assert_same(cell, storage, run_here([cell], tmp_path))
