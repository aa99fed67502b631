"""Curation as a real job: many processes, killed at random, stopped, by the command line."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lima.curation.stackexchange.posts_by_question import RANGE
from lima.spec import CellSpec
from lima.spec.codec import encode
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from tests.helpers.curation import dumps
from tests.helpers.curation.curating import cell, contents, curate
from tests.helpers.promised import promised
from tests.integration.runs import Job

pytestmark = pytest.mark.slow

SITES = ("ai", "cs", "math", "physics", "cooking", "travel")
QUESTIONS = 150


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> CurateSpec:
    """Six sites in two forms, of three partitions each, and another source."""
    root = tmp_path_factory.mktemp("inputs")
    for at, site in enumerate(SITES):
        rows = []
        for n in range(1, QUESTIONS + 1):
            number = n + RANGE * (n % 3)
            text = random.Random(f"{site}{n}").randbytes(900).hex(" ", 4)
            rows += [
                dumps.question(number, Score=n, OwnerUserId=7),
                dumps.answer(
                    number + 10**6, number, OwnerUserId=8, CommentCount=4, Body=f"<p>{text}.</p>"
                ),
            ]
        talk = [
            dumps.comment(n, 10**6 + 1 + RANGE, 7 if n % 2 else 8, f"Said {site} {n}.")
            for n in range(1, 5)
        ]
        tables = {
            "Posts": dumps.document(rows),
            "Comments": dumps.document(talk, "comments"),
            "Users": dumps.document([dumps.user(7, "Ada"), dumps.user(8, "Bo")], "users"),
        }
        if at % 2:
            dumps.write_7z(root / "dumps" / f"{site}.stackexchange.com.7z", tables)
        else:
            dumps.write_folder(root / "dumps" / f"{site}.stackexchange.com", tables)
    lines = [json.dumps({"conversations": [f"Prompt {n}?", f"Response {n}."]}) for n in range(50)]
    (root / "own.jsonl").write_text("\n".join(lines), "utf-8")
    balanced = {"balance": "temperature", "order": "score"}
    asked = CurateSpec(
        sources=(
            SourceSpec("stackexchange", ("dumps",)),
            SourceSpec("examples", ("own.jsonl",), pool="own"),
        ),
        arms=(
            ArmSpec(
                "train",
                (
                    PartSpec("stackexchange-stem", 40, **balanced),  # type: ignore[arg-type]
                    PartSpec("stackexchange-other", 20, **balanced),  # type: ignore[arg-type]
                    PartSpec("own", 10),
                ),
            ),
            ArmSpec("more", (PartSpec("stackexchange-dialogues", 3),), extends=("train",)),
        ),
        root=str(root),
    )
    # As `submit` names it, which one of the tests does.
    (named,) = promised([cell(asked)])
    assert named.curate
    return named.curate


@pytest.fixture(scope="module")
def expected(spec: CurateSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Return what one process writes."""
    folder = tmp_path_factory.mktemp("one-process")
    summary = curate(spec, folder)
    assert [arm["examples"] for arm in summary["arms"]] == [70, 73]
    return contents(folder)


@pytest.fixture(scope="module")
def run(spec: CurateSpec) -> CellSpec:
    return cell(spec)


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give jobs a folder of temporary files in which nobody else has left anything.

    Not that of pytest: Ray has sockets in it, and the kernel bounds how long their names are.
    """
    with tempfile.TemporaryDirectory(prefix="lima-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


def left_in(temporary: Path) -> set[str]:
    """Return the kinds of temporary folders that are there."""
    return {folder.name.rpartition("-")[0] for folder in temporary.glob("lima-*")}


def _shards(folder: Path) -> list[Path]:
    return list((folder / "study" / "candidates").rglob("[!.]*.parquet"))


def test_many_processes_write_the_bytes_of_one(
    run: CellSpec, expected: dict[str, bytes], tmp_path: Path, temporary: Path
) -> None:
    job = Job([run], str(tmp_path / "study"), tmp_path)
    job.finish()
    assert contents(tmp_path / "study") == expected
    assert left_in(temporary) == set(), "what was put aside is removed"


@pytest.mark.parametrize("kills", [1, 2])
def test_a_job_killed_at_random_ends_with_the_same_bytes(
    run: CellSpec, expected: dict[str, bytes], tmp_path: Path, temporary: Path, kills: int
) -> None:
    chance = random.Random(kills)
    for _ in range(kills):
        held = len(_shards(tmp_path)) + chance.randrange(1, 6)
        job = Job([run], str(tmp_path / "study"), tmp_path)
        # Progress is said once a second, and the rest may take less.
        while len(_shards(tmp_path)) < held:
            assert job.process.poll() is None, job.log.read_text("utf-8")[-6000:]
            time.sleep(0.005)
        job.kill()
        for name, data in contents(tmp_path / "study").items():
            assert data == expected[name], f"{name} is whole and right"
        assert left_in(temporary) <= {"lima-ray", "lima-stop"}, "what it put aside is its Ray's"
    job = Job([run], str(tmp_path / "study"), tmp_path)
    job.finish()
    assert contents(tmp_path / "study") == expected
    assert left_in(temporary) == set(), "what the killed put aside goes too"


def test_a_worker_that_dies_costs_only_its_site(
    run: CellSpec, expected: dict[str, bytes], tmp_path: Path
) -> None:
    job = Job([run], str(tmp_path / "study"), tmp_path)
    job.kill_worker("ray::_split")
    job.kill_worker("ray::_write")
    job.finish()
    assert contents(tmp_path / "study") == expected


def test_workers_that_die_again_and_again(
    run: CellSpec, expected: dict[str, bytes], tmp_path: Path, temporary: Path
) -> None:
    job = Job([run], str(tmp_path / "study"), tmp_path)
    with contextlib.suppress(AssertionError):  # it may end before
        for _ in range(8):  # Ray itself tries a task four times
            job.kill_worker("ray::_write")
    job.finish()
    assert contents(tmp_path / "study") == expected
    assert left_in(temporary) == set()


def test_the_command_line_curates_stops_and_goes_on(
    run: CellSpec, expected: dict[str, bytes], tmp_path: Path
) -> None:
    study = tmp_path / "study.json"
    study.write_text(json.dumps({"runs": [encode(run)]}), "utf-8")
    command = [
        sys.executable,
        "-m",
        "lima_k8s",
        "submit",
        "curate",
        "--local",
        "--recipe",
        str(study),
        "--storage",
        str(tmp_path / "study"),
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    while not _shards(tmp_path):
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate()
    assert process.returncode == 1, told
    assert "the same command goes on" in told
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert "lima-k8s curate show" in finished.stderr
    assert "sources" in told + finished.stderr, "progress is shown"
    assert contents(tmp_path / "study") == expected
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "finished already" in again.stderr
    show = [sys.executable, "-m", "lima_k8s", "curate", "show", str(tmp_path / "study")]
    shown = subprocess.run([*show, "--format", "json"], capture_output=True, text=True, check=True)
    document = json.loads(shown.stdout)
    assert [(d["name"], d["examples"]) for d in document["data_sets"]] == [
        ("train", 70),
        ("more", 73),
    ]
    assert all(Path(d["path"]).is_file() for d in document["data_sets"])
