"""Runs that vanish while they are followed."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from lima.errors import InputError, LimaError
from lima.recipes.demo import tiny
from lima.spec.codec import run_id
from lima_k8s.cluster.read.api import Cluster
from lima_k8s.cluster.read.model import Queue, Snapshot
from lima_k8s.cluster.submit.launch import _wait
from lima_k8s.cluster.submit.releases import Submission
from lima_k8s.cluster.watch import follow as watching
from lima_k8s.cluster.watch.follow import watch
from lima_k8s.runs.choose import choose
from lima_k8s.runs.model import Run
from lima_k8s.runs.records import Reader
from lima_k8s.runs.view import raise_for

URI, OTHER = "s3://bucket/study", "s3://bucket/other"
CELLS = tiny()[:2]
RUNNING, DONE = ("Running", "RUNNING"), ("Complete", "SUCCEEDED")
Looks = Callable[..., Cluster]


def a_run(number: int, status: tuple[str, str], storage: str = URI) -> Run:
    return Run(
        f"r{number}" if storage == URI else f"other-r{number}",
        queue="lima",
        run_id=run_id(CELLS[number]),
        storage=storage,
        deployment_status=status[0],
        job_status=status[1],
    )


class NoRecords(Reader):
    def read(self, *args: Any) -> dict[str, Any]:
        return {}


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    """Return a function that makes a cluster show these runs at one look after another."""

    def make(*runs: Sequence[Run]) -> Cluster:
        queues = {"lima": Queue("lima", "lima")}
        left = [Snapshot(runs=tuple(r), queues=queues) for r in runs]
        monkeypatch.setattr(watching, "read", lambda _: left.pop(0))
        return Cluster.__new__(Cluster)

    monkeypatch.setattr(watching, "POLL_S", 0)
    monkeypatch.setattr(watching, "Reader", NoRecords)
    return make


def wait(cluster: Cluster) -> None:
    _wait(cluster, Submission("ablation", CELLS, {"storage": {"uri": URI}}))


def test_all_that_was_submitted_is_done(looks: Looks) -> None:
    both = [a_run(0, DONE), a_run(1, DONE)]
    wait(looks([a_run(0, RUNNING), a_run(1, DONE)], both))
    # One that was done may be taken away before the others are.
    wait(looks([a_run(0, RUNNING), a_run(1, DONE)], [a_run(0, DONE)]))


@pytest.mark.parametrize(
    "later",
    [[], [a_run(1, DONE)], [a_run(0, DONE, storage=OTHER), a_run(1, DONE)]],
)
def test_a_run_that_is_cancelled_elsewhere_is_no_success(looks: Looks, later: list[Run]) -> None:
    first = [a_run(0, RUNNING), a_run(1, RUNNING)]
    with pytest.raises(LimaError, match="r0: was taken off the cluster") as error:
        wait(looks(first, later))
    assert error.value.exit_code == 1
    assert ("r1: was taken off" in str(error.value)) == (not later)


def test_what_was_never_there_is_no_success(looks: Looks) -> None:
    with pytest.raises(LimaError, match=f"{run_id(CELLS[0])}: was taken off the cluster"):
        wait(looks([a_run(1, DONE)]))


def test_a_run_that_is_named_may_vanish(looks: Looks) -> None:
    cluster = looks([a_run(0, RUNNING)], [a_run(1, RUNNING)])
    [view] = watch(cluster, lambda runs: choose(runs, "r0"))
    with pytest.raises(LimaError, match="r0: was taken off the cluster"):
        raise_for([view])
    with pytest.raises(InputError, match="no run 'r0'"):
        watch(looks([a_run(1, RUNNING)]), lambda runs: choose(runs, "r0"))


def test_a_run_whose_spec_is_deleted_is_followed_on(looks: Looks) -> None:
    nameless = [replace(a_run(0, RUNNING), run_id=""), a_run(1, DONE)]
    end = [replace(a_run(0, DONE), run_id=""), a_run(1, DONE)]
    wait(looks([a_run(0, RUNNING), a_run(1, DONE)], nameless, end))


def test_a_run_that_failed_keeps_its_cause(looks: Looks) -> None:
    failed = a_run(0, ("Failed", "FAILED"))
    with pytest.raises(LimaError, match="r0: run-failed"):
        wait(looks([failed, a_run(1, RUNNING)], [a_run(1, DONE)]))


def test_a_namespace_without_runs(looks: Looks) -> None:
    assert watch(looks([]), lambda runs: choose(runs, None)) == []
