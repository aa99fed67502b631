"""Storage that is away for minutes costs a job in a cluster only these minutes."""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

import lima_jobs.outage
import lima_jobs.run
from lima.common.variables import STOP_FILE, WAIT_MINUTES
from lima.errors import Interrupted, LimaError, NoAnswerError, StorageError
from lima.recipes.demo import tiny
from lima.runs.progress import Progress
from lima.runs.stop import request_stop
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima_jobs.outage import outlast
from tests.helpers.web.serving import serving

LOST = NoAnswerError(
    "training failed 4 times; the last: cannot write x: AWS Error NETWORK_CONNECTION"
)


class Server(ThreadingHTTPServer):
    """An S3 server that holds nothing, or refuses; it answers once `start` is called."""

    status = 404

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.server_bind()
        self.answering = ExitStack()

    def start(self) -> None:
        self.server_activate()
        self.answering.enter_context(serving(self))


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        self.send_response(self.server.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD  # noqa: N815 - the name that its base looks for

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(autouse=True)
def _in_a_cluster(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STOP_FILE, f"{tmp_path}/stop")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setattr(lima_jobs.outage, "PAUSE_S", 0.01)
    monkeypatch.setattr(lima_jobs.outage, "POLL_S", 0.01)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as made, made.answering:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        monkeypatch.setenv("AWS_REGION", "x")
        yield made


@pytest.fixture
def storage(server: Server) -> Storage:
    return Storage("s3://bucket/study")


class Work:
    """Ends with the given errors, one each time it is done, and then well."""

    def __init__(self, *errors: Exception) -> None:
        self.errors, self.times = list(errors), 0

    def __call__(self) -> None:
        self.times += 1
        if self.errors:
            raise self.errors.pop(0)


@pytest.mark.parametrize("error", [LOST, OSError("what Ray's own code meets")])
def test_a_stage_goes_on_when_storage_answers_again(
    server: Server, storage: Storage, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    threading.Timer(1.5, server.start).start()
    work = Work(error)
    outlast(work, storage, "run", "train")
    assert work.times == 2
    said = [record.message for record in caplog.records]
    assert said == [
        f"train: storage gave no answer: {error}",
        "waiting for storage to answer, 30 minutes at most",
        "storage answers; train goes on",
    ]


@pytest.mark.parametrize(
    "error",
    [
        StorageError("cannot write x: AWS Error ACCESS_DENIED during PutObject operation"),
        StorageError("cannot write x: AWS Error NO_SUCH_BUCKET during CreateMultipartUpload"),
        StorageError("cannot write x: No space left on device"),
        LimaError("training failed 4 times"),
        ZeroDivisionError("a bug"),
    ],
)
@pytest.mark.parametrize("status", [404, 403])
def test_what_is_no_outage_ends_the_stage(
    server: Server, storage: Storage, error: Exception, status: int
) -> None:
    server.status = status
    server.start()
    with pytest.raises(type(error)) as raised:
        outlast(Work(error), storage, "run", "train")
    assert raised.value is error


def test_on_this_machine_an_outage_ends_the_stage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS")
    work = Work(LOST)
    with pytest.raises(StorageError):
        outlast(work, storage, "run", "train")
    assert work.times == 1


def test_an_outage_that_stays_ends_the_stage(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT_MINUTES, "0.01")
    work = Work(LimaError("training failed 4 times"))
    with pytest.raises(StorageError, match=r"for 0\.01 minutes.*training failed") as raised:
        outlast(work, storage, "run", "train")
    assert (raised.value.exit_code, work.times) == (3, 1)


def test_a_stop_ends_the_wait(storage: Storage) -> None:
    threading.Timer(0.3, request_stop).start()
    with pytest.raises(Interrupted, match="while storage was away"):
        outlast(Work(LOST), storage, "run", "train")


def test_work_that_never_gets_on_ends(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_MINUTES, "0.01")
    work = Work(*[LOST] * 1000)
    with pytest.raises(StorageError, match="the work did not get on"):
        outlast(work, Storage(str(tmp_path)), "run", "train")
    assert 2 < work.times < 20  # the pauses grow


def test_work_that_gets_on_may_meet_many_outages(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(WAIT_MINUTES, "0.005")
    storage, steps = Storage(str(tmp_path)), iter(range(1, 11))

    def work() -> None:
        for step in steps:
            Progress(storage, "run").update("train", step, 10, "steps", force=True)
            time.sleep(0.1)
            raise LOST

    outlast(work, storage, "run", "train")
    assert list(steps) == []


def test_stages_of_a_job_outlast_it(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    cell, done, errors = tiny()[0], [], [LOST, LOST]

    def run_stage(_cell: object, stage: str, _storage: object) -> None:
        if stage == "train" and errors:
            raise errors.pop()
        done.append(stage)

    monkeypatch.setattr(lima_jobs.run, "run_stage", run_stage)
    storage = Storage(str(tmp_path))
    lima_jobs.run.run_cells([cell], storage, 1)
    assert errors == []
    assert done.count("train") == 1
    assert storage.exists(f"progress/run_id={run_id(cell)}.json")
