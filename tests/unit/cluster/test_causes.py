"""Each cause from what the cluster says, in its own words."""

from dataclasses import replace
from typing import Any

import pytest

from lima.errors import DataError, Interrupted, LimaError, StorageError
from lima.runs.job_end import JobEnd
from lima_k8s.cluster.causes.causes import CAUSES, find_cause
from lima_k8s.cluster.causes.job_log import job_errors
from lima_k8s.cluster.causes.kueue_quota_messages import never_fits
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.model import Condition, Event, Pod, Queue, Workload
from lima_k8s.runs.model import Cause, Run

RUN = Run("diverse-32-s0-44ff9a06", uid="u", queue="lima", storage="s3://b/x", suspended=True)
QUEUE = Queue("lima", "lima")
ADMITTED = Workload(
    "w", "u", conditions={k: Condition(True) for k in ("QuotaReserved", "Admitted")}
)
LOST = "cannot list s3://b/x/progress: no route"


def ended(error: LimaError) -> str:
    """Return the log of a job that ends so."""
    return f"x ERROR {error}\n{JobEnd.of(error, []).line}"


def failed_with(code: int) -> str:
    """Return what KubeRay says of a job that ended so: the end of its log in other words."""
    return (
        f"Job entrypoint command failed with exit code {code}, last available logs (truncated to "
        "20,000 chars):\n2026-11-22 15:00:00,123 INFO run\n"
        f"{ended(StorageError(LOST))}\n"
    )


def pod_with(init: bool = False, restart: int = 0, **state: Any) -> Pod:
    """Return a pod as the API server has it, with one container in a state."""
    last = state.pop("last", {})
    status = {
        "name": "ray-head",
        "state": state,
        "lastState": last,
        "restartCount": restart,
        "image": "sha256:1",
    }
    key = "initContainer" if init else "container"
    container = {"name": "ray-head", "image": "registry/lima:none"}
    return parse.pod(
        {
            "metadata": {"name": "p", "labels": {"ray.io/node-type": "head"}},
            "spec": {f"{key}s": [container]},
            "status": {"phase": "Pending", f"{key}Statuses": [status]},
        }
    )


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def cause(
    run: Run = RUN,
    workload: Workload | None = ADMITTED,
    pods: tuple[Pod, ...] = (),
    events: tuple[Event, ...] = (),
    queue: Queue | None = QUEUE,
) -> Cause | None:
    return find_cause(run, workload, pods, events, queue)


@pytest.mark.parametrize(
    ("pod", "name", "fatal"),
    [
        (pod_with(**waiting("ImagePullBackOff", "not found")), "image-pull-failure", True),
        (pod_with(**waiting("ErrImagePull", "not found")), "image-pull-failure", False),
        (pod_with(**waiting("InvalidImageName")), "image-pull-failure", True),
        (
            pod_with(
                init=True,
                restart=3,
                last={"terminated": {"exitCode": 7}},
                **waiting("CrashLoopBackOff"),
            ),
            "init-crash-loop",
            True,
        ),
        (pod_with(init=True, terminated={"exitCode": 1}), "init-crash-loop", False),
        (pod_with(init=True, terminated={"exitCode": 1}, restart=1), "init-crash-loop", True),
        (pod_with(restart=2, **waiting("CrashLoopBackOff")), "crash-loop", True),
        (
            pod_with(running={}, last={"terminated": {"reason": "OOMKilled", "exitCode": 137}}),
            "out-of-memory",
            True,
        ),
        (pod_with(terminated={"reason": "OOMKilled", "exitCode": 137}), "out-of-memory", True),
        (
            pod_with(**waiting("CreateContainerConfigError", 'secret "s3-keys" not found')),
            "missing-secret",
            True,
        ),
        (
            pod_with(
                **waiting(
                    "CreateContainerConfigError",
                    "couldn't find key AWS_ACCESS_KEY_ID in Secret lima/s3-keys",
                )
            ),
            "missing-secret",
            True,
        ),
        (
            pod_with(**waiting("CreateContainerConfigError", 'configmap "x" not found')),
            "missing-configmap",
            True,
        ),
        (
            pod_with(**waiting("CreateContainerConfigError", "container has runAsNonRoot")),
            "container-refused",
            True,
        ),
        (Pod("p", unschedulable="0/1 nodes: 1 Insufficient nvidia.com/gpu"), "no-node-fits", False),
        (Pod("p", phase="Failed", reason="Evicted", message="low on memory"), "pod-evicted", False),
    ],
)
def test_a_pod_names_its_cause(pod: Pod, name: str, fatal: bool) -> None:
    found = cause(pods=(pod,))
    assert found
    assert (found.name, found.fatal) == (name, fatal)
    assert found.fix


def test_a_healthy_pod_has_no_cause() -> None:
    healthy = pod_with(running={"startedAt": "2026-11-22T15:00:00Z"})
    done = pod_with(init=True, terminated={"exitCode": 0, "reason": "Completed"})
    assert cause(pods=(healthy, done)) is None


def test_a_pod_that_goes_anyway_is_no_cause() -> None:
    assert cause(pods=(replace(pod_with(**waiting("ImagePullBackOff")), deleting=True),)) is None


def test_the_message_names_the_image_and_the_place() -> None:
    found = cause(pods=(pod_with(**waiting("ImagePullBackOff", "pull access denied")),))
    assert found
    assert found.text == (
        "image-pull-failure: registry/lima:none: pull access denied (pod p, container ray-head)"
    )


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (
            Event("Pod", "p", "FailedMount", 'MountVolume.SetUp failed: secret "keys" not found'),
            "missing-secret",
        ),
        (
            Event(
                "RayCluster",
                "c",
                "FailedToCreateHeadPod",
                'Failed to create head Pod: pods "x" is forbidden: violates PodSecurity',
            ),
            "pod-refused",
        ),
        (
            Event("Job", "j", "FailedCreate", 'pods "x" is forbidden: exceeded quota: compute'),
            "pod-refused",
        ),
    ],
)
def test_an_event_names_its_cause(event: Event, name: str) -> None:
    found = cause(events=(event,))
    assert found
    assert found.name == name
    assert cause(events=(replace(event, warning=False),)) is None


def pending(reason: str, message: str) -> Workload:
    return Workload(
        "w", "u", "lima", conditions={"QuotaReserved": Condition(False, reason, message)}
    )


KUEUE_SAYS = (
    "couldn't assign flavors to pod set head: insufficient quota for cpu in flavor lima-cpu, "
    "previously considered podsets requests (0) + current podset request (40) > maximum "
    "capacity (4)"
)


@pytest.mark.parametrize(
    ("workload", "queue", "name"),
    [
        (pending("ExceedsMaxQuota", KUEUE_SAYS), QUEUE, "quota-never-fits"),
        (pending("Pending", KUEUE_SAYS), QUEUE, "quota-never-fits"),
        (
            pending("NoMatchingFlavor", "resource nvidia.com/gpu unavailable in ClusterQueue"),
            QUEUE,
            "quota-never-fits",
        ),
        (pending("Misconfigured", "LocalQueue lima doesn't exist"), None, "queue-missing"),
        (pending("Misconfigured", "ClusterQueue lima doesn't exist"), QUEUE, "queue-missing"),
        (pending("Suspended", "ClusterQueue lima is inactive"), QUEUE, "queue-stopped"),
        (
            pending("Suspended", "LocalQueue lima is stopped"),
            replace(QUEUE, stopped=True),
            "queue-stopped",
        ),
        (Workload("w", "u", active=False), QUEUE, "deactivated"),
        (replace(ADMITTED, checks={"provision": "no capacity"}), QUEUE, "check-failing"),
        (None, QUEUE, "not-managed"),
    ],
)
def test_kueue_names_its_cause(workload: Workload | None, queue: Queue | None, name: str) -> None:
    found = cause(workload=workload, queue=queue)
    assert found
    assert found.name == name


def test_waiting_for_quota_is_no_cause() -> None:
    message = "insufficient unused quota for cpu in flavor lima-cpu, 2 more needed"
    assert cause(workload=pending("WaitingForQuota", message)) is None
    # One flavor is too small for ever, the other only now: it will run in the other.
    assert never_fits("WaitingForQuota", f"{KUEUE_SAYS}, {message}") == ""


def test_what_never_fits_says_how_much() -> None:
    assert never_fits("ExceedsMaxQuota", KUEUE_SAYS) == (
        "cpu: 40 asked for, at most 4 in flavor lima-cpu"
    )


@pytest.mark.parametrize(
    ("reason", "message", "name"),
    [
        ("AppFailed", failed_with(3), "storage-unreachable"),
        ("AppFailed", failed_with(2), "bad-input"),
        ("AppFailed", failed_with(1), "run-failed"),
        ("SubmissionFailed", "submitter reached its backoff limit", "submitter-lost"),
        ("DeadlineExceeded", "the RayJob has passed the activeDeadlineSeconds", "deadline"),
    ],
)
def test_a_failed_run_names_its_cause(reason: str, message: str, name: str) -> None:
    run = replace(
        RUN, deployment_status="Failed", job_status="FAILED", reason=reason, message=message
    )
    found = cause(run=run, workload=None)
    assert found
    assert found.name == name
    if reason == "AppFailed":
        assert found.what == "cannot list s3://b/x/progress: no route"


def test_a_failure_that_is_tried_again_is_not_the_end() -> None:
    """But storage out of reach is told at once: its Secret or its URI may be wrong."""
    retried = replace(RUN, deployment_status="Retrying", job_status="FAILED", reason="AppFailed")
    for code, name, fatal in ((1, "run-failed", False), (3, "storage-unreachable", True)):
        found = cause(run=replace(retried, message=failed_with(code)))
        assert found
        assert (found.name, found.fatal) == (name, fatal)


@pytest.mark.parametrize(
    ("log", "name", "what"),
    [
        (
            ended(DataError("train.jsonl: cannot be read")),
            "bad-input",
            "train.jsonl: cannot be read",
        ),
        (ended(Interrupted("before train")), "run-failed", "its job was stopped through Ray"),
        ("x ERROR a log that breaks off", "run-failed", "its job was stopped through Ray"),
        ("", "run-failed", "its job was stopped through Ray"),
    ],
)
def test_a_job_that_stopped_itself_is_told_from_one_that_was_stopped(
    log: str, name: str, what: str
) -> None:
    run = replace(RUN, deployment_status="Complete", job_status="STOPPED", message=log)
    assert not run.succeeded
    found = cause(run=run)
    assert found
    assert (found.name, found.what, found.fatal) == (name, what, True)
    assert cause(run=replace(run, deployment_status="Running")) is None


def test_what_kuberay_refuses_is_told() -> None:
    run = replace(RUN, deployment_status="ValidationFailed", message="name too long")
    found = cause(run=run)
    assert found
    assert found.text == "run-refused: name too long"


def test_a_finished_run_has_no_cause() -> None:
    run = replace(RUN, deployment_status="Complete", job_status="SUCCEEDED")
    assert cause(run=run, pods=(pod_with(**waiting("CrashLoopBackOff")),)) is None


def test_a_fatal_cause_comes_first() -> None:
    pods = (
        Pod("p", unschedulable="no node"),
        pod_with(**waiting("CreateContainerConfigError", 'secret "s" not found')),
    )
    found = cause(pods=pods)
    assert found
    assert found.name == "missing-secret"


def test_a_log_without_errors_gives_its_last_lines() -> None:
    assert job_errors("a\nb\n\nc\nd") == "b; c; d"
    assert job_errors(ended(StorageError("no route")) + "\nbye") == "no route"
    assert job_errors("lima-job-end {") == "lima-job-end {"
    assert job_errors("") == "no reason is given"


def test_every_cause_is_in_the_guide() -> None:
    from tests.conftest import ROOT

    text = (ROOT / "docs" / "troubleshooting.md").read_text("utf-8")
    headings = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert set(headings) >= set(CAUSES)
    assert [h for h in headings if h in CAUSES] == list(CAUSES)
