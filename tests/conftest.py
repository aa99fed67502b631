"""Fixtures that several test modules share."""

import os

# Before anything imports ray, deepspeed or torch.
os.environ.setdefault("DS_ACCELERATOR", "cpu")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As in a job, which imports Ray only when its environment is made; see lima_jobs.ownray.
os.environ.update(RAY_AUTH_MODE="token", RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")

import logging
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.helpers.web.chromium import chromium

# A busy machine is no failure: no test has a time limit. The same code is told the same twice;
# it is runs in random order that look for examples of which nobody has thought.
settings.register_profile(
    "untimed",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=not os.environ.get("LIMA_SHUFFLE"),
)
settings.load_profile("untimed")

LONGEST = (
    "test_study",
    "test_curation_job",
    "test_generation_job",
    "test_my_data",
    "test_other_users",
    "test_curation_study",
    "test_report_command",
    "test_saving",
    "test_training_job",
)
"""Files of minutes: begun first, so that no process is left alone with one of them at the end."""
MOST_PROCESSES = 8
"""Some gigabytes each."""
ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_configure() -> None:
    """Tell the trackers of whoever runs the tests nothing."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        del os.environ[name]


def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes test: one more than cores, since many a test waits for Ray."""
    return min((os.cpu_count() or 1) + 1, MOST_PROCESSES)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files; LIMA_SHUFFLE=SEED: in random order, of files and within them.

    A test with a browser is slow.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)
    if seed := os.environ.get("LIMA_SHUFFLE"):
        chance = random.Random(seed)
        files = [chance.sample(own, len(own)) for own in _by_file(items)]
        items[:] = [item for own in chance.sample(files, len(files)) for item in own]
    else:
        items.sort(key=lambda item: LONGEST.index(n) if (n := item.path.stem) in LONGEST else 99)


def _by_file(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    return [list(own) for _, own in groupby(items, lambda item: item.path)]


@pytest.fixture(autouse=True, scope="session")
def _interruptible() -> None:
    """Heed Ctrl-C in the commands that tests start: a shell takes it from what runs behind it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True, scope="session")
def _nothing_works_on() -> Iterator[None]:
    """Fail the last test if threads of earlier ones still work, and slow all of this process."""
    yield
    before = time.process_time()
    time.sleep(0.5)
    used, names = time.process_time() - before, [t.name for t in threading.enumerate()]
    assert used < 0.1, f"of half a second, {used:.2f} s went to what tests left: {names}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that lies beside a checkout; not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data of ../shared/data, which is not part of the project")
    return SHARED


@pytest.fixture(autouse=True)
def _loggers() -> None:
    """Give each test the loggers of a new process: jobs, and Ray, set up those of theirs."""
    logging.getLogger().setLevel(logging.WARNING)
    for name, logger in logging.Logger.manager.loggerDict.items():
        if name.partition(".")[0] in ("lima", "lima_jobs") and isinstance(logger, logging.Logger):
            logger.handlers, logger.propagate, logger.disabled = [], True, False
            logger.setLevel(logging.NOTSET)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a real S3 server with a bucket `study`; yield its endpoint."""
    binary = ROOT / ".cache" / "bin" / "versitygw"
    if not binary.exists():
        pytest.fail("no S3 server: run `make tools` first")
    folder = tmp_path_factory.mktemp("s3")
    (folder / "study").mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    access = ["--access", "testkey", "--secret", "testsecret"]
    server = subprocess.Popen(
        [binary, *access, "--port", f"127.0.0.1:{port}", "--quiet", "posix", folder],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for_port(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


@pytest.fixture(scope="session")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Be a world of one worker, once and for all: DeepSpeed survives no second group."""
    import torch.distributed as dist

    from lima.training.engine import prepare_environment

    os.environ.update(LOCAL_RANK="0", RANK="0", WORLD_SIZE="1")
    prepare_environment("cpu")
    rendezvous = tmp_path_factory.mktemp("group") / "rendezvous"
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def s3_environment(server: str) -> dict[str, str]:
    """Return what names the S3 server and its credentials."""
    return {
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": "testkey",
        "AWS_SECRET_ACCESS_KEY": "testsecret",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def s3_storage(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URI of an empty prefix on the S3 server, with its credentials set."""
    for name, value in s3_environment(s3_server).items():
        monkeypatch.setenv(name, value)
    return f"s3://study/{tmp_path.name}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start a real Chromium, for tests of pages."""
    with chromium() as started:
        yield started


def _wait_for_port(port: int, server: "subprocess.Popen[bytes]") -> None:
    while server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"the S3 server ended with {server.returncode}")
