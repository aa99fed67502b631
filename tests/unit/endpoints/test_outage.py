"""Storage that goes away while answers are paid for: what is said, and that nothing is lost."""

import itertools
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lima.common.variables import STOP_FILE
from lima.endpoints import client, storing
from lima.endpoints.aside import Aside
from lima.endpoints.journal import Journal
from lima.errors import StorageError
from lima.generation.baseline import run_baseline
from lima.judging.run import DRIVER, judge_responses
from lima.runs.ledger import attempt
from lima.runs.progress import Progress
from lima.spec import CellSpec, JudgeSpec
from lima.spec.codec import run_id
from lima.spec.endpoints import EndpointSpec
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, JUDGMENTS, Table
from tests.helpers.cut_line import Line, line_to
from tests.helpers.judge_server import Answer, JudgeServer, Reply, Request, server
from tests.helpers.responses import asked_cell, responded_cell

__all__ = ["server"]

COUNT = 42


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "BACKOFF_S", 0.001)
    monkeypatch.setattr(storing, "LOOK_S", 0.05)
    monkeypatch.setattr(storing, "SAY_AFTER_S", 0.3)
    monkeypatch.setattr(storing, "SAY_AGAIN_S", 0.3)
    monkeypatch.setenv(STOP_FILE, str(tmp_path / "stop"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")


@pytest.fixture
def line(s3_server: str) -> Iterator[Line]:
    with line_to(s3_server) as made:
        yield made


@pytest.fixture
def storage(s3_storage: str, line: Line, monkeypatch: pytest.MonkeyPatch) -> Storage:
    monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
    return Storage(s3_storage)


def judged(storage: Storage, url: str) -> CellSpec:
    spec = JudgeSpec(
        base_url=url, concurrency=4, shard_rows=7, input_price=10, output_price=10, max_tokens=100
    )
    return responded_cell(storage, [f"Response {index}." for index in range(COUNT)], spec)


def judge(cell: CellSpec, storage: Storage) -> None:
    judge_responses(cell, storage, Progress(storage, run_id(cell)))


def rows(cell: CellSpec, storage: Storage, table: Table = JUDGMENTS) -> int:
    return RunTable(storage, table, cell).read(["run_id"]).num_rows


def after(requests: int, happens: Callable[[], object]) -> Answer:
    """Return an endpoint at whose given request something happens."""

    def answer(request: Request) -> Reply:
        if request.number == requests:
            happens()
        return Reply(delay_s=0.05)

    return answer


@pytest.mark.parametrize("requests", [3, 17, 40])
def test_what_was_paid_for_waits_for_a_storage_that_is_away(
    server: JudgeServer,
    storage: Storage,
    line: Line,
    requests: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server.answer = after(requests, line.cut)
    cell = judged(storage, server.base_url)
    with pytest.raises(StorageError, match="paid for wait in") as ended:
        judge(cell, storage)
    first = next(r.message for r in caplog.records if "nothing more is asked" in r.message)
    assert str(ended.value).partition(";")[0] == first.partition(";")[0]
    asked = len(server.requests)
    assert sum(server.paid.values()) == asked < COUNT + 4
    line.mend()
    judge(cell, storage)
    assert rows(cell, storage) == COUNT
    assert set(server.paid.values()) == {1}
    assert Journal(storage, run_id(cell)).aside.names() == []


def test_a_silent_storage_is_told_and_waited_for(
    server: JudgeServer, storage: Storage, line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    held = threading.Event()

    def said(what: str) -> int:
        return sum(what in record.message for record in caplog.records)

    def answer(request: Request) -> Reply:
        if request.number == 9:
            line.hold()
            held.set()
        return Reply()

    def mend() -> None:
        held.wait()
        before = said("has not answered since")  # a busy machine is silent too
        while said("has not answered since") == before:
            time.sleep(0.01)
        line.mend()

    server.answer = answer
    cell = judged(storage, server.base_url)
    with ThreadPoolExecutor(1) as beside:
        mended = beside.submit(mend)
        judge(cell, storage)
        mended.result()
    assert said(f"storage {storage.uri} has not answered since")
    assert said("answers again")
    assert rows(cell, storage) == COUNT
    assert set(server.paid.values()) == {1}


def test_a_baseline_waits_too(
    server: JudgeServer, storage: Storage, line: Line, tmp_path: Path
) -> None:
    cell = asked_cell(tmp_path, server.base_url, COUNT, EndpointSpec(concurrency=4))
    server.answer = after(17, line.cut)
    with pytest.raises(StorageError, match="paid for wait in"):
        run_baseline(cell, storage, Progress(storage, "run"))
    line.mend()
    run_baseline(cell, storage, Progress(storage, "run"))
    assert rows(cell, storage, GENERATIONS) == COUNT
    assert set(server.paid.values()) == {1}


def test_a_folder_that_takes_nothing_loses_nothing(server: JudgeServer, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "study"))
    cell = judged(storage, server.base_url)
    journal = tmp_path / "study" / "journal"

    def block() -> None:
        while not journal.is_dir():
            time.sleep(0.01)
        for number in itertools.count():
            journal.rename(tmp_path / f"journal-{number}")
            try:
                journal.touch(exist_ok=False)
            except FileExistsError:  # a writer made the folder anew meanwhile
                continue
            return

    server.answer = after(9, block)
    with pytest.raises(StorageError, match="paid for wait in"):
        judge(cell, storage)
    journal.unlink()
    for part in tmp_path.glob("journal-*"):
        shutil.copytree(part, journal, dirs_exist_ok=True)
    judge(cell, storage)
    assert rows(cell, storage) == COUNT
    assert set(server.paid.values()) == {1}


def test_what_others_laid_there_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Aside(Storage(str(tmp_path / "study")), "journal/run_id=x")
    place.keep("a.json", b"{}")
    assert place.names() == ["a.json"]
    assert place.folder
    assert place.folder.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert place.names() == []
    assert place.folder is None


def test_an_attempt_ends_with_what_ended_it(storage: Storage, line: Line) -> None:
    cell = judged(storage, "http://127.0.0.1:1/v1")

    def work() -> None:
        with attempt(storage, cell, "judge", DRIVER, "run"):
            line.cut()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
