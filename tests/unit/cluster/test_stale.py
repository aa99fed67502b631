"""What once went wrong and was overcome does not stop a run that goes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.model import Condition, Event, Pod, Queue, Snapshot, Workload
from lima_k8s.cluster.watch.view import views
from lima_k8s.runs.model import Run
from lima_k8s.runs.view import View

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
RUNNING = Run(
    "r", uid="u", queue="lima", deployment_status="Running", job_status="RUNNING", ray_cluster="c"
)
STARTING = replace(RUNNING, deployment_status="Initializing", job_status="")
WORKLOAD = Workload(
    "w", "u", "lima", conditions={k: Condition(True) for k in ("QuotaReserved", "Admitted")}
)
OOM = {"terminated": {"reason": "OOMKilled", "exitCode": 137, "startedAt": "2026-11-23T10:00:00Z"}}
RUNS = {"running": {"startedAt": "2026-11-23T11:20:00Z"}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff"}}
SECRET = 'Error: secret "s3-keys" not found'
MINUTES_50, MINUTE = NOON - timedelta(minutes=50), NOON - timedelta(minutes=1)


def pod(state: dict[str, Any], role: str = "worker", last: dict[str, Any] | None = None) -> Pod:
    status = {"name": "main", "state": state, "lastState": last or {}, "restartCount": bool(last)}
    return parse.pod(
        {
            "metadata": {
                "name": "p",
                "creationTimestamp": "2026-11-23T11:00:00Z",
                "labels": {"ray.io/node-type": role},
            },
            "status": {"phase": "Running", "containerStatuses": [status]},
        }
    )


def seen(run: Run, *pods: Pod, event: Event | None = None) -> View:
    events: dict[str, tuple[Event, ...]] = {event.name: (event,)} if event else {}
    queues = {"lima": Queue("lima", "lima")}
    [view] = views(Snapshot((run,), {"u": WORKLOAD}, {"r": pods}, events, queues), [run], {}, NOON)
    return view


@pytest.mark.parametrize(
    ("state", "at", "name"),
    [
        (RUNS, MINUTES_50, None),
        (RUNS, MINUTE, None),  # the kubelet may tell late; the container runs
        (RUNS, None, None),
        ({"waiting": {"reason": "ContainerCreating"}}, MINUTES_50, "missing-secret"),
        ({"waiting": {"reason": "ContainerCreating"}}, NOON - timedelta(hours=2), None),
        ({"terminated": RUNS["running"]}, MINUTES_50, None),
        ({"terminated": RUNS["running"]}, MINUTE, "missing-secret"),
    ],
)
def test_a_pod_that_came_to_run_overcame_its_events(
    state: dict[str, Any], at: datetime | None, name: str | None
) -> None:
    event = Event("Pod", "p", "Failed", SECRET, at=at)
    for run in (RUNNING, STARTING):
        found = seen(run, pod(state, "head"), event=event).cause
        assert (found and found.name) == name


def test_a_pod_that_was_refused_came_later_if_the_job_runs() -> None:
    event = Event(
        "RayCluster",
        "c",
        "FailedToCreateWorkerPod",
        'pods "x" is forbidden: exceeded quota: gpus',
        at=MINUTES_50,
    )
    assert seen(RUNNING, pod(RUNS), event=event).state == "running"
    refused = seen(STARTING, pod(RUNS, "head"), event=event)
    assert (refused.state, refused.cause and refused.cause.name) == ("blocked", "pod-refused")


@pytest.mark.parametrize(
    ("run", "container", "state"),
    [
        (RUNNING, pod(RUNS, last=OOM), "running"),
        (RUNNING, pod(BACK_OFF, last=OOM), "blocked"),
        (STARTING, pod(RUNS, "head", last=OOM), "blocked"),
        (STARTING, pod(OOM, "head"), "blocked"),
    ],
)
def test_memory_that_ran_out_once_is_told_but_stops_no_run(
    run: Run, container: Pod, state: str
) -> None:
    found = seen(run, container)
    assert found.state == state
    assert found.cause
    assert (found.cause.name, found.cause.fatal) == ("out-of-memory", state == "blocked")
