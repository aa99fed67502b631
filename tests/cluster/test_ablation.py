"""`submit ablation` of the documented recipe on a quota that is too small for all of it."""

from pathlib import Path

from lima.recipes.demo import tiny
from lima.recipes.overrides import apply_overrides
from lima.store.storage import Storage
from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.helpers.lima import ENDS, TINY, Lima, lima, queue, quota, two_of_four
from tests.cluster.helpers.studies import (
    assert_same,
    await_free_quota,
    await_no_live_pods,
    run_here,
)
from tests.helpers.promised import promised

__all__ = ["lima", "queue", "quota"]
ONE_EPOCH = ("base.epochs=1", "base.checkpoints.first_epoch=1", "base.checkpoints.last_epoch=1")
# Python's language reference too: `submit` brings it, since the image has another Python.
SHORTER = (*ONE_EPOCH, "generate.decoding.max_new_tokens=16")


def test_two_of_four_run_and_all_end_as_on_one_machine(
    lima: Lima, kubectl: Kubectl, tmp_path: Path
) -> None:
    lima.submit(*TINY, *(word for change in SHORTER for word in ("--set", change)))
    runs = lima.until(two_of_four)
    waiting = sorted(run["queue_position"] for run in runs if not run["admitted"])
    assert waiting == [1, 2]
    for told in (run for run in runs if not run["admitted"]):
        [explained] = lima.json("explain", told["name"])["runs"]
        assert explained["state"] == "queued"
        assert len(explained["holding"]) == 2
        assert any(need["missing"] > 0 for need in explained["needs"])
    most = 0

    def ended(runs: list[dict[str, object]]) -> bool:
        nonlocal most
        most = max(most, sum(bool(run["admitted"]) for run in runs if run["state"] != "done"))
        return all(run["state"] in ENDS for run in runs)

    runs = lima.until(ended)
    assert [run["state"] for run in runs] == ["done"] * 4
    assert most == 2
    await_no_live_pods(kubectl, lima.namespace)
    await_free_quota(kubectl, lima.namespace)
    cells = promised(apply_overrides(tiny(), SHORTER))
    here, there = run_here(cells, tmp_path), Storage(lima.storage)
    for cell in cells:
        assert_same(cell, there, here)
