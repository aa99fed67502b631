"""What another user of the machine can do to a study that runs on it: nothing."""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from lima.spec import CellSpec, CheckpointSpec
from tests.helpers.models import make_base, small_cell
from tests.helpers.processes.asking import command_line, unless_ended
from tests.integration.runs import Job, study_cell

pytestmark = pytest.mark.slow
GUESS = "0" * 64


def longest(base: Path) -> CellSpec:
    """Return a cell whose two workers train for longer than any attack lasts."""
    compute = study_cell(base).train.compute  # type: ignore[union-attr]
    last = CheckpointSpec(first_epoch=100_000, last_epoch=100_000)
    return small_cell(base, compute=compute, epochs=100_000, checkpoints=last)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Job]:
    """Return a job in the middle of training, started from a shell that says the worst."""
    folder = tmp_path_factory.mktemp("study")
    careless = {"RAY_AUTH_MODE": "disabled", "RAY_AUTH_TOKEN": GUESS}
    careless |= {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1", "GLOO_SOCKET_IFNAME": ""}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in careless.items():
            patch.setenv(name, value)
        job = Job([longest(make_base(tmp_path_factory.mktemp("base")))], str(folder / "s"), folder)
    # Whoever looks for a Ray in the list of processes finds this one of somebody else, too.
    decoy = subprocess.Popen(
        ["raylet", "-c", "input()", "--gcs-address=127.0.0.1:1"],
        executable=sys.executable,
        stdin=subprocess.PIPE,
    )
    try:
        job.wait_until(lambda record: record["stage"] == "train" and record["done"] >= 1)
        yield job
    finally:
        decoy.communicate(b"\n")
        job.process.terminate()
        job.wait()


class Listener(NamedTuple):
    """A socket on which a process of the job listens."""

    family: int
    ip: str
    port: int
    pid: int
    name: str


def listening(job: Job) -> list[Listener]:
    """Return every socket on which the job listens."""
    return [
        Listener(each.family, each.laddr.ip, each.laddr.port, process.pid, name)
        for process in processes(job)
        for name in [unless_ended(process.name, "")]
        for each in sockets(process, "inet")
        if each.status == psutil.CONN_LISTEN
    ]


def sockets(process: psutil.Process, kind: str) -> list[Any]:
    return unless_ended(lambda: process.net_connections(kind), [])


def processes(job: Job) -> list[psutil.Process]:
    return [psutil.Process(job.process.pid), *job.family()]


def environment(process: psutil.Process) -> dict[str, str]:
    return unless_ended(process.environ, {})


def is_loopback(address: str) -> bool:
    ip = ip_address(address)
    inner = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    return (inner or ip).is_loopback


def test_every_socket_of_a_study_is_on_the_loopback_interface(job: Job) -> None:
    listeners = listening(job)
    assert {"gcs_server", "raylet"} <= {listener.name for listener in listeners}
    assert len({each.pid for each in listeners if "TrainWorker" in each.name}) == 2
    assert [each for each in listeners if not is_loopback(each.ip)] == []


def targets(job: Job) -> dict[str, Any]:
    """Return what there is to attack: ports, and folders of the owner."""
    listeners = listening(job)
    grpc = {each.port for each in listeners if each.family == socket.AF_INET6}  # as Ray opens them
    return {
        "gcs": [each.port for each in listeners if each.name == "gcs_server"],
        "grpc": sorted(grpc),
        "rest": sorted({each.port for each in listeners} - grpc),
        "folders": [str(path) for path in folders(job)],
    }


def folders(job: Job) -> list[Path]:
    """Return the folders in which the job keeps open files and sockets, the storage apart."""
    temporary = Path(tempfile.gettempdir())
    found = {
        Path(path).parent
        for process in processes(job)
        for unix in sockets(process, "unix")
        if (path := str(unix.laddr)).startswith(f"{temporary}/")
    }
    assert found, "Ray has sockets in the file system"
    return sorted(found)


def others_may_read() -> bool:
    """Say whether another user can run what the attacker is made of."""
    places = (Path(sys.prefix), Path(__file__).parents[2])
    folders = {folder for place in places for folder in (place, *place.parents)}
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.skipif(not others_may_read(), reason="another user cannot read this folder")
@pytest.mark.parametrize("token", ["", GUESS], ids=["no token", "the token of the owner's shell"])
def test_another_user_can_do_nothing_to_a_study(job: Job, token: str) -> None:
    given = targets(job)
    if token:
        given["rest"] = []  # nobody asks for one there
    assert given["gcs"]
    assert len(given["grpc"]) > 5
    attack = subprocess.run(
        [sys.executable, "-m", "tests.helpers.processes.attacker"],
        input=json.dumps(given | {"token": token}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(attack.stdout.splitlines()[-1]) == []
    assert job.process.poll() is None, "the study goes on"


def test_the_token_is_in_no_process_list_and_in_no_file(job: Job) -> None:
    environments = [environment(process) for process in processes(job)]
    [token] = {e["RAY_AUTH_TOKEN"] for e in environments if "LIMA_OWN_RAY" in e}
    assert token != GUESS
    assert re.fullmatch("[0-9a-f]{64}", token)
    assert not any(token in " ".join(command_line(process)) for process in processes(job))
    assert token not in job.log.read_text("utf-8")


def test_nothing_of_a_study_lies_where_others_can_plant_it(job: Job) -> None:
    for process in processes(job):
        found = environment(process)
        if folder := found.get("LIMA_OWN_RAY"):
            assert found["TORCHINDUCTOR_CACHE_DIR"].startswith(f"{folder}/")
            assert Path(folder).stat().st_mode & 0o777 == 0o700


def test_no_traceback_of_ray_is_in_the_log(job: Job) -> None:
    assert "Traceback" not in job.log.read_text("utf-8")
