"""The jobs' side of a cluster that needs no Ray: log, storage check, data, GPU counters."""

import json
import os
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from lima.common.variables import DATA, WAIT_MINUTES
from lima.data.examples import load_examples
from lima.errors import DataError, InputError, StorageError
from lima.recipes.demo import tiny
from lima.runs.job_end import read_job_end
from lima.spec import DataSpec, JudgeSpec
from lima.spec.codec import encode
from lima.store.reachable import require_answer
from lima.store.storage import Storage
from lima_jobs.joblog import log_path
from lima_jobs.machines import wait_minutes
from lima_jobs.preflight import counted_errors
from lima_jobs.storagecheck import check_storage

LOGGER = """
import sys
from pathlib import Path
from lima.store.storage import Storage
from lima_jobs import joblog
joblog.INTERVAL_S = 0.05
storage = Storage(sys.argv[1])
with joblog.kept_log(storage, ["one", "two"]):
    print("first line", flush=True)
    while not any("first" in p.read_text() for p in Path(sys.argv[1]).glob("logs/*/*.log")):
        pass  # copied while it runs
    print("last line", flush=True)
"""


def test_log_is_kept_while_it_grows_and_to_its_last_line(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out:
        subprocess.run(
            [sys.executable, "-c", LOGGER, str(tmp_path / "study")], stdout=out, check=True
        )
    storage = Storage(str(tmp_path / "study"))
    entries = storage.entries("logs")
    assert [e.path.split("/")[1] for e in entries] == ["run_id=one", "run_id=two"]
    assert {storage.read(e.path) for e in entries} == {b"first line\nlast line\n"}


def test_log_that_goes_to_a_pipe_is_not_kept(tmp_path: Path) -> None:
    code = LOGGER.replace('    print("first', '    sys.exit(0)\n    print("first')
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "s")], stdout=subprocess.PIPE, check=True
    )
    assert Storage(str(tmp_path / "s")).entries("logs") == []


def test_name_of_a_log() -> None:
    started = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
    assert log_path("abc", started) == "logs/run_id=abc/20260131T120005Z.log"


def test_storage_check_proves_and_leaves_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    assert "overwrite: the first writer wins" in check_storage(storage)
    assert storage.entries("") == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ("overwrites", "a second writer replaced"),
        ("forgets", "an object that was written is not found"),
        ("changes", "an object reads back changed"),
    ],
)
def test_storage_check_sees_what_is_broken(tmp_path: Path, broken: str, said: str) -> None:
    class Broken(Storage):
        def write(self, path: str, data: bytes, *, replace: bool = False) -> bool:
            if broken == "forgets":
                return True
            return super().write(path, data, replace=replace or broken == "overwrites")

        def read(self, path: str) -> bytes:
            return super().read(path) + (b"!" if broken == "changes" else b"")

    with pytest.raises(StorageError, match=said):
        check_storage(Broken(str(tmp_path)))


def test_storage_check_of_the_command_line(tmp_path: Path) -> None:
    check = [sys.executable, "-m", "lima_jobs.storagecheck"]
    good = subprocess.run([*check, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "write: ok" in good.stdout
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_REGION": "x",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "hush",
    }
    bad = subprocess.run(
        [*check, "s3://bucket/study"], capture_output=True, text=True, check=False, env=environment
    )
    assert bad.returncode == 3
    assert bad.stderr.startswith("error: s3://bucket/study: nobody answers at 127.0.0.1:9")
    assert "hush" not in bad.stderr


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return a port that nobody listens on, which the S3 server is said to have."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{number}")
    return number


def test_a_storage_that_does_not_answer_is_told(port: int) -> None:
    with pytest.raises(StorageError, match=f"nobody answers at 127.0.0.1:{port} .Connection ref"):
        require_answer("s3://bucket/study")
    require_answer("/a/folder")
    require_answer("gs://bucket/study")


def test_a_storage_may_come_up_a_little_later(port: int) -> None:
    server = socket.socket()
    server.bind(("127.0.0.1", port))
    late = threading.Timer(1.5, server.listen)
    late.start()
    require_answer("s3://bucket/study", patience_s=60)
    late.join()
    server.close()


def test_a_job_in_a_cluster_looks_at_its_storage_before_it_joins_ray(
    tmp_path: Path, port: int
) -> None:
    specs = tmp_path / "specs.json"
    specs.write_text(json.dumps({"runs": [encode(tiny()[0])]}))
    code = "from lima_jobs import run; run.POD_PATIENCE_S = 0.1; run.main()"
    environment = {**os.environ, "RAY_ADDRESS": "127.0.0.1:1", "AWS_REGION": "x"}
    done = subprocess.run(
        [sys.executable, "-c", code, str(specs), "--storage", "s3://bucket/study"],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 3
    [line, end] = done.stderr.splitlines()
    assert " ERROR s3://bucket/study: nobody answers" in line
    told = read_job_end(end)
    assert told
    assert (told.exit_code, told.cells, told.stopped) == (3, [], False)
    assert told.message in line


def test_a_job_asks_for_its_judge_s_key_before_hours_of_training(tmp_path: Path) -> None:
    specs, judge = tmp_path / "specs.json", JudgeSpec(base_url="https://8.8.8.8/v1")
    specs.write_text(json.dumps({"runs": [encode(replace(tiny()[0], judge=judge))]}))
    environment = {name: value for name, value in os.environ.items() if name != judge.api_key_env}
    done = subprocess.run(
        [sys.executable, "-m", "lima_jobs.run", str(specs), "--storage", str(tmp_path / "study")],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == 2
    [line, _] = done.stderr.splitlines()
    assert "the endpoint at https://8.8.8.8/v1 needs a key" in line
    assert not (tmp_path / "study").exists()


def test_relative_data_is_looked_for_on_the_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = json.dumps({"conversations": ["prompt", "response"], "source": "s"})
    uri = f"file://{tmp_path}/study"
    Storage(uri).write("data/lima/train.jsonl", row.encode())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        load_examples(DataSpec("data/lima/train.jsonl"))
    monkeypatch.setenv(DATA, uri)
    assert [e.source for e in load_examples(DataSpec("data/lima/train.jsonl"))] == ["s"]
    with pytest.raises(DataError, match=r"neither on this machine nor at .*data/dev\.jsonl"):
        load_examples(DataSpec("data/dev.jsonl"))
    # What is here comes first.
    (tmp_path / "data" / "lima").mkdir(parents=True)
    (tmp_path / "data" / "lima" / "train.jsonl").write_text(row.replace('"s"', '"here"'))
    assert [e.source for e in load_examples(DataSpec("data/lima/train.jsonl"))] == ["here"]


def test_minutes_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WAIT_MINUTES, "0.5")
    assert wait_minutes() == 0.5
    monkeypatch.setenv(WAIT_MINUTES, "soon")
    with pytest.raises(InputError, match="LIMA_WAIT_MINUTES=soon"):
        wait_minutes()


@pytest.mark.parametrize(
    ("row", "problems"),
    [
        ("0, No, No", []),
        ("[N/A], [N/A], [N/A]", []),
        ("", []),
        (
            "3, No, Yes",
            [
                "uncorrected memory errors since it was started: 3",
                "memory rows to be replaced at its next reset: Yes",
            ],
        ),
        ("0, 1, 0", ["memory rows that could not be replaced: 1"]),
    ],
)
def test_counters_of_a_gpu(row: str, problems: list[str]) -> None:
    assert counted_errors(row) == problems
