"""Where a run is, what it cost and when its stage ends."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from lima.errors import InputError
from lima.recipes.demo import tiny
from lima.runs.ledger import attempt, record_run
from lima.runs.progress import Progress, eta_seconds, read_progress
from lima.spec import ComputeSpec
from lima.spec.codec import encode, run_id
from lima.store.storage import Storage
from lima_k8s.cluster.read import parse
from lima_k8s.cluster.read.model import Condition, Workload
from lima_k8s.cluster.watch.view import state_of
from lima_k8s.runs.choose import choose, choose_one
from lima_k8s.runs.display import table_of
from lima_k8s.runs.model import Cause, Run
from lima_k8s.runs.records import Reader, attempts_of
from lima_k8s.runs.view import State, View
from lima_k8s.terminal.output import duration_text

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
CELL = tiny()[0]


def workload(*true: str, **reasons: str) -> Workload:
    conditions = {name: Condition(True) for name in true}
    conditions |= {name: Condition(True, reason) for name, reason in reasons.items()}
    return Workload("w", "u", conditions=conditions)


ADMITTED = workload("QuotaReserved", "Admitted")
EVICTED = workload("QuotaReserved", "Admitted", Evicted="Preempted")
FATAL = Cause("missing-secret", "no Secret", "make it")


@pytest.mark.parametrize(
    ("status", "job", "load", "cause", "state"),
    [
        ("", "", None, None, "queued"),
        ("Suspended", "", workload(), None, "queued"),
        ("Suspended", "", workload(Evicted="Preempted"), None, "preempted"),
        ("Suspending", "", workload(Evicted="Preempted"), None, "stopping"),
        ("Suspended", "", workload(Evicted="PodsReadyTimeout"), None, "queued"),
        ("Initializing", "", ADMITTED, None, "starting"),
        ("Running", "PENDING", ADMITTED, None, "starting"),
        ("Running", "RUNNING", ADMITTED, None, "running"),
        ("Running", "RUNNING", EVICTED, None, "stopping"),
        ("Suspending", "STOPPED", EVICTED, None, "stopping"),
        ("Retrying", "FAILED", ADMITTED, None, "starting"),
        ("Initializing", "", ADMITTED, FATAL, "blocked"),
        ("Initializing", "", ADMITTED, replace(FATAL, fatal=False), "starting"),
        ("Complete", "SUCCEEDED", workload("Finished"), None, "done"),
        ("Failed", "FAILED", workload("Finished"), FATAL, "failed"),
        ("Complete", "FAILED", workload("Finished"), None, "failed"),
        ("ValidationFailed", "", None, FATAL, "failed"),
    ],
)
def test_the_state(
    status: str, job: str, load: Workload | None, cause: Cause | None, state: str
) -> None:
    run = Run("r", uid="u", deployment_status=status, job_status=job)
    assert state_of(run, load, cause) == state


def test_a_run_that_is_deleted_is_stopping() -> None:
    assert state_of(Run("r", deleting=True), ADMITTED, FATAL) == "stopping"


def progress(done: int, minutes: float, first: int = 0) -> dict[str, Any]:
    at = (NOON + timedelta(minutes=minutes)).isoformat()
    since = {"done": first, "at": NOON.isoformat()}
    return {"stage": "train", "done": done, "total": 100, "at": at, "since": since}


def test_the_time_left_follows_the_pace_of_this_attempt() -> None:
    seen = NOON + timedelta(minutes=10)
    assert eta_seconds(progress(50, 10), seen) == 600
    # A resumed attempt began at 40: ten steps in ten minutes.
    assert eta_seconds(progress(50, 10, first=40), seen) == 3000
    assert eta_seconds(progress(50, 10), seen + timedelta(minutes=1)) == 540
    assert eta_seconds(progress(50, 10), seen + timedelta(hours=1)) == 0


@pytest.mark.parametrize("record", [{}, progress(0, 10), progress(40, 0, 40), {"stage": "done"}])
def test_the_time_left_may_be_unknown(record: dict[str, Any]) -> None:
    assert eta_seconds(record, NOON) is None


def test_what_a_job_writes_gives_a_time_left(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    reporter = Progress(storage, "r")
    for done in (40, 41, 42):
        reporter.update("train", done, 100, "steps", force=True)
    record = read_progress(storage, "r")
    assert record
    assert record["since"]["done"] == 40
    left = eta_seconds(record, datetime.fromisoformat(record["at"]))
    assert left is not None
    assert left > 0


def row(name: str, event: str, minutes: float, **more: Any) -> dict[str, Any]:
    at = NOON + timedelta(minutes=minutes)
    return {"attempt_id": name, "event": event, "at": at, "gpus": 8, "seconds": None, **more}


def test_attempts_and_gpu_hours_add_up() -> None:
    rows = [
        row("a", "started", 0),
        row("a", "ended", 30, seconds=1800.0, outcome="interrupted", reason="stopped on request"),
        row("b", "started", 40),
    ]
    found = attempts_of(rows, NOON + timedelta(minutes=70), running=True)
    assert (found.stage_starts, found.retries, found.gpu_hours) == (2, 1, 8.0)
    assert (found.last_outcome, found.last_reason) == ("interrupted", "stopped on request")
    assert attempts_of([], NOON).stage_starts == 0


@pytest.mark.parametrize(
    ("running", "last_minute", "hours"),
    [
        (True, 10, 8 * 24.0),
        (False, 30, 4.0),
        (False, -5, 0.0),  # the last progress is that of the attempt before it
        (False, None, 0.0),
    ],
)
def test_a_killed_attempt_costs_until_it_last_lived(
    running: bool, last_minute: float | None, hours: float
) -> None:
    record = progress(1, last_minute) if last_minute is not None else None
    now = NOON + timedelta(days=1)
    found = attempts_of([row("a", "started", 0)], now, record, running=running)
    assert found.gpu_hours == hours


def test_only_a_run_whose_job_runs_is_charged_until_now(tmp_path: Any) -> None:
    storage, name = Storage(str(tmp_path)), run_id(CELL)
    record_run(storage, CELL, "base")
    with attempt(storage, CELL, "base", ComputeSpec(workers=2, device="cuda"), name):
        Progress(storage, name).update("base", 1, 2, "steps")
        run = Run("r", storage=str(tmp_path), cell=CELL, run_id=name, experiment="tiny")
        runs = [
            run,
            replace(run, name="on", deployment_status="Running", job_status="RUNNING"),
            replace(run, name="off", deployment_status="Suspended"),
        ]
        found = Reader().read(runs, datetime.now(UTC) + timedelta(hours=10))
    assert found["on"].gpu_hours >= 10
    assert found["r"].gpu_hours == found["off"].gpu_hours < 1


def test_records_come_from_what_jobs_write(tmp_path: Any) -> None:
    storage = Storage(str(tmp_path))
    for stage in ("base", "train"):
        record_run(storage, CELL, stage)
        with attempt(storage, CELL, stage, ComputeSpec(workers=2, device="cpu"), run_id(CELL)):
            Progress(storage, run_id(CELL)).update(stage, 1, 2, "steps")
    run = Run("r", storage=str(tmp_path), cell=CELL, run_id=run_id(CELL), experiment="tiny")
    other = replace(run, name="o", cell=tiny()[2], run_id=run_id(tiny()[2]))
    reader = Reader()
    found = reader.read([run, other], NOON)
    assert reader.problems == {}
    assert (found["r"].stage_starts, found["r"].retries) == (1, 0)
    assert found["r"].progress["stage"] == "train"
    # The base model is shared: its attempt is one of both cells.
    assert (found["o"].stage_starts, found["o"].retries) == (1, 0)
    assert found["o"].progress == {}


def test_storage_out_of_reach_is_told_once() -> None:
    run = Run("r", storage="nothing://x/y", cell=CELL, run_id="0", experiment="tiny")
    reader = Reader()
    assert reader.read([run], NOON) == {}
    assert list(reader.problems) == ["nothing://x/y"]
    assert "cannot open this kind of storage" in reader.problems["nothing://x/y"]


def test_a_dead_s3_server_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
    monkeypatch.delenv("HTTPS_PROXY", raising=False)
    reader = Reader()
    reader.read([Run("r", storage="s3://b/x", cell=CELL, run_id="0")], NOON)
    assert "nobody answers at 127.0.0.1:1" in reader.problems["s3://b/x"]


RAYJOB: dict[str, Any] = {
    "metadata": {
        "name": "diverse-32-s0-44ff9a06",
        "uid": "u1",
        "creationTimestamp": "2026-11-22T12:00:00Z",
        "labels": {
            "app.kubernetes.io/instance": "rel",
            "lima-k8s.io/kind": "ablation",
            "kueue.x-k8s.io/queue-name": "lima",
        },
        "annotations": {
            "lima-k8s.io/experiment": "Größe ☃",
            "lima-k8s.io/arm": CELL.arm,
            "lima-k8s.io/seed": "0",
            "lima-k8s.io/storage": "s3://b/x",
        },
    },
    "spec": {"suspend": True},
}


def test_a_run_is_known_by_its_spec() -> None:
    specs = json.dumps({"runs": [encode(CELL)]})
    found = parse.run(RAYJOB, {RAYJOB["metadata"]["name"]: {"data": {"specs.json": specs}}})
    assert (found.run_id, found.cell) == (run_id(CELL), CELL)
    assert (found.experiment, found.created, found.suspended) == ("Größe ☃", NOON, True)


@pytest.mark.parametrize("data", [{}, {"specs.json": "{"}, {"specs.json": '{"runs": [{"x": 1}]}'}])
def test_a_run_of_another_version_is_shown_without_its_spec(data: dict[str, str]) -> None:
    found = parse.run(RAYJOB, {RAYJOB["metadata"]["name"]: {"data": data}})
    assert (found.cell, found.run_id) == (None, "")
    assert found.arm == CELL.arm


def test_requests_are_those_of_all_pods() -> None:
    container = {"resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": 1, "memory": "1Gi"}}}
    init = {"resources": {"requests": {"cpu": 2}}}
    raw = {
        "metadata": {"name": "w", "ownerReferences": [{"uid": "u", "controller": True}]},
        "spec": {
            "queueName": "lima",
            "podSets": [
                {"count": 3, "template": {"spec": {"containers": [container, container]}}},
                {"template": {"spec": {"containers": [container], "initContainers": [init]}}},
            ],
        },
        "status": {"schedulingStats": {"evictions": [{"reason": "Preempted", "count": 2}]}},
    }
    found = parse.workload(raw)
    assert [p.count for p in found.pod_sets] == [3, 1]
    assert [p.requests["cpu"] for p in found.pod_sets] == [1, 2]
    assert found.requests == {"cpu": 5, "memory": 7 * 2**30}
    assert (found.owner_uid, found.evictions) == ("u", {"Preempted": 2})


RUNS = [
    Run("diverse-s0-1111", arm="diverse", seed=0, run_id="aabb000000000000"),
    Run("diverse-s1-2222", arm="diverse", seed=1, run_id="aabb110000000000"),
]


@pytest.mark.parametrize(
    "text", ["diverse-s0-1111", "aabb000000000000", "aabb0", "diverse/0", "diverse-s0"]
)
def test_a_run_is_chosen(text: str) -> None:
    assert choose(RUNS, text) == RUNS[:1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("aabb", "begins diverse-s0-1111, diverse-s1-2222"),
        ("diverse-s9", "did you mean"),
        ("", "no run"),
    ],
)
def test_a_run_that_is_not_there_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        choose(RUNS, text)


def test_an_arm_of_two_studies_is_not_one_run() -> None:
    other = Run("diverse-s0-3333", arm="diverse", seed=0, run_id="ccdd000000000000")
    assert choose_one([*RUNS, other], "diverse/1") == RUNS[1]
    with pytest.raises(InputError, match="names 2 runs: diverse-s0-1111, diverse-s0-3333; write"):
        choose_one([*RUNS, other], "diverse/0")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0, "0 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (7200, "2.0 h")],
)
def test_times_in_words(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_the_live_table_fits_a_narrow_terminal() -> None:
    quota = Cause("quota", "all 8 GPUs are taken, and two runs are before it", "wait")
    states: list[State] = ["running", "queued", "queued"]
    names = [f"lima-study-quality-s{seed}-3f2a9c1b7d0e" for seed in range(3)]
    views = [
        View(Run(name), state, cause=quota if state == "queued" else None, eta_s=600)
        for name, state in zip(names, states, strict=True)
    ]
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table_of(views))
    first, *rows = console.export_text().splitlines()
    assert first.split() == ["RUN", "STATE", "WHERE", "ETA"]
    found = [row.split()[:2] for row in rows[:3]]
    assert found == [[name, state] for name, state in zip(names, states, strict=True)]
    assert " ".join(rows[3:]).startswith(f"{names[1]} and 1 more: quota: all 8 GPUs")
