"""`cancel` frees what a run held and leaves nothing behind but results."""

import subprocess

from tests.cluster.harness.kubectl import Kubectl
from tests.cluster.harness.programs import run
from tests.cluster.helpers.lima import LIMA, ONE, TINY, Lima, lima, queue, quota, two_of_four
from tests.cluster.helpers.s3 import S3

__all__ = ["lima", "queue", "quota"]
KINDS = "rayjobs,rayclusters,workloads,pods,jobs,services,configmaps,secrets"
OF_THE_NAMESPACE = {"kube-root-ca.crt", "storage"}


def names(kubectl: Kubectl, namespace: str) -> set[str]:
    """Return everything in a namespace that was not there before a run."""
    items = kubectl.get(KINDS, f"--namespace={namespace}")["items"]
    return {item["metadata"]["name"] for item in items} - OF_THE_NAMESPACE


def test_a_cancelled_run_frees_its_quota_for_the_next(lima: Lima, kubectl: Kubectl) -> None:
    lima.submit(*TINY)
    runs = lima.until(two_of_four)
    gone, waiting = (
        {run["name"] for run in runs if run["admitted"] is admitted} for admitted in (True, False)
    )
    told = lima.json("cancel", *gone, "--yes", "--wait")
    assert set(told["cancelled"]) == gone
    assert told["releases"] == []  # two of its runs are still there
    runs = lima.until(lambda runs: all(run["admitted"] for run in runs))
    assert {run["name"] for run in runs} == waiting


def test_no_orphan_stays(lima: Lima, kubectl: Kubectl) -> None:
    lima.submit(*TINY)
    lima.until(lambda runs: any(run["admitted"] for run in runs))
    told = lima.json("cancel", "--all", "--yes", "--wait")
    assert len(told["cancelled"]) == 4
    assert len(told["releases"]) == 1
    left = names(kubectl, lima.namespace)
    while left & {run for run in left if "howto" in run or "diverse" in run}:
        left = names(kubectl, lima.namespace)  # the garbage collector follows
    assert left == set()
    assert run(["helm", "list", "-q", "-n", lima.namespace]).split() == []


def test_a_cancelled_run_may_be_submitted_again(lima: Lima) -> None:
    """Also out of a release whose other runs go on: Helm's records must not undo it."""
    lima.submit(*TINY)
    lima("cancel", "howto-32/0", "--yes", "--wait")
    again = lima.submit(*TINY, "--format", "json").document
    assert len(again["submitted"]) == 1
    rest = ["diverse-32/0", "diverse-32/1", "howto-32/1"]
    lima("cancel", *rest, "--yes", "--wait")
    assert [(run["arm"], run["seed"]) for run in lima.runs()] == [("howto-32", 0)]
    assert "there already" in lima.submit(*ONE).err


def test_results_stay(lima: Lima, s3: S3) -> None:
    import pyarrow.fs as pafs

    from lima.store.storage import Storage

    storage = Storage(lima.storage)
    storage.write("progress/run_id=x.json", b"{}")
    lima.submit(*ONE)
    said = lima("cancel", "--all", "--yes", "--wait").err
    assert f"its results stay at {lima.storage}" in said
    assert storage.exists("progress/run_id=x.json")
    assert isinstance(storage.filesystem, pafs.S3FileSystem)


def test_it_asks_first(lima: Lima) -> None:
    lima.submit(*ONE)
    assert "add --yes" in lima("cancel", "--all", code=2).err  # nobody is there to answer
    command = f"{LIMA} cancel --all --namespace {lima.namespace}"
    answered = subprocess.run(
        ["script", "--quiet", "--return", "--command", command, "/dev/null"],
        input="n\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert answered.returncode == 1
    assert "Cancel 1 run?" in answered.stdout
    assert len(lima.runs()) == 1
