"""`prune` frees what nothing needs, on a folder and on a real S3 server, and nothing else."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lima.common.temporary import temporary_folder
from lima.model.checkpoint_manifest import (
    checkpoints_path,
    completion_path,
    mark_complete,
    weights_epochs,
    weights_path,
)
from lima.prune import FINDERS, KINDS, find
from lima.rating.selection import Standing, record_choice
from lima.runs.lease import lease
from lima.runs.ledger import attempt, record_run
from lima.spec import CellSpec, CheckpointSpec, DataSpec, GenerateSpec, ModelSpec, TrainSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from lima_k8s.commands.runs.prune import KINDS as OFFERED
from lima_k8s.main import run

DAY_S = 24 * 3600


def cell(keep: int | None = None, epoch: int | None = None, arm: str = "arm") -> CellSpec:
    train = TrainSpec(
        ModelSpec("some/model"),
        DataSpec("authored:howto", count=8),
        checkpoints=CheckpointSpec(first_epoch=1, last_epoch=3, keep_states=keep),
    )
    generate = GenerateSpec(DataSpec("authored:test"), ModelSpec("run:train", epoch=epoch))
    return CellSpec("study", arm, train=train, generate=generate)


def write_training(storage: Storage, of: CellSpec, *, complete: bool = True) -> str:
    """Write what a run of training leaves: two states, weights of three epochs, its row."""
    trained = run_id(of, "train")
    record_run(storage, of, "train")
    for step in (10, 20):
        state = f"{checkpoints_path(trained)}/state/step={step:08d}"
        storage.write(f"{state}/optim_states.pt", b"x" * 1000)
        storage.write(f"{state}.json", b'{"step": 1, "workers": 1, "files": {}}')
    for epoch in (1, 2, 3):
        write_weights(storage, trained, epoch)
    if complete:
        mark_complete(storage, trained, 20)
    return trained


def write_weights(storage: Storage, trained: str, epoch: int) -> None:
    path = weights_path(trained, epoch)
    storage.write(f"{path}/model.safetensors", b"w" * 500)
    storage.write(f"{path}.json", b'{"files": {"model.safetensors": 500}}')


def choose(storage: Storage, trained: str, epoch: int) -> None:
    record_choice(storage, trained, epoch, [Standing(e, 1, 0, 1) for e in (1, 2, 3)], "e")


def paths(storage: Storage) -> list[str]:
    return [item.path for item in find(storage)]


def pruned(storage: Storage, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    capsys.readouterr()
    assert run(["prune", storage.uri, "--format", "json", *arguments]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


@pytest.fixture(params=["folder", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "folder":
        return Storage(str(tmp_path / "study"))
    return Storage(request.getfixturevalue("s3_storage"))


def test_states_of_a_complete_run_go_and_all_else_stays(
    storage: Storage, capsys: pytest.CaptureFixture[str]
) -> None:
    done, going = (
        write_training(storage, cell(arm=a), complete=a == "done") for a in ("done", "going")
    )
    before = {e.path for e in storage.entries("")}
    shown = pruned(storage, capsys, "--dry-run")
    assert {e.path for e in storage.entries("")} == before
    assert [item["removed"] for item in shown["items"]] == [False, False]
    gone = pruned(storage, capsys, "--yes")
    assert gone["freed_bytes"] == sum(item["size"] for item in shown["items"]) > 2000
    left = {e.path for e in storage.entries("")}
    assert before - left == {p for p in before if f"{done}/state/" in p}
    assert any(f"{going}/state/" in path for path in left)
    assert pruned(storage, capsys, "--yes")["items"] == []


@pytest.mark.parametrize(("keep", "left"), [(None, 0), (2, 0), (1, 1), (3, 2)])
def test_states_that_were_asked_for_stay(keep: int | None, left: int, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    write_training(storage, cell(keep))
    assert len(find(storage)) == 2 - left


def test_epochs_that_were_not_chosen_go_but_for_those_that_are_needed(storage: Storage) -> None:
    trained = write_training(storage, cell())
    assert not [p for p in paths(storage) if "weights" in p]  # none was chosen
    choose(storage, trained, 2)
    assert [p for p in paths(storage) if "weights" in p] == [weights_path(trained, 1)]
    unfinished = cell(epoch=1)
    record_run(storage, unfinished, "generate")
    assert not [p for p in paths(storage) if "weights" in p]
    compute = unfinished.generate.compute  # type: ignore[union-attr]
    with attempt(storage, unfinished, "generate", compute, run_id(unfinished)):
        pass
    assert [p for p in paths(storage) if "weights" in p] == [weights_path(trained, 1)]


def test_a_choice_of_an_epoch_that_is_gone_frees_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    trained = write_training(storage, cell())
    choose(storage, trained, 2)
    storage.delete(f"{weights_path(trained, 2)}.json")
    assert not [p for p in paths(storage) if p == weights_path(trained, 1)]


def test_what_killed_jobs_began_goes(storage: Storage, capsys: pytest.CaptureFixture[str]) -> None:
    trained = write_training(storage, cell(), complete=False)
    for half in ("state/step=00000030", "weights/epoch=04"):
        storage.write(f"{checkpoints_path(trained)}/{half}/part", b"half")
    storage.write(f"ray/{trained}/notes.json", b"{}")
    found = pruned(storage, capsys, "--yes", "--only", "leftovers")["items"]
    assert [i["path"].rpartition("/")[2] for i in found] == ["step=00000030", "epoch=04"]
    assert storage.exists(f"ray/{trained}/notes.json")
    assert weights_epochs(storage, trained) == [1, 2, 3]
    mark_complete(storage, trained, 20)
    found = pruned(storage, capsys, "--yes", "--only", "leftovers")["items"]
    assert [item["path"] for item in found] == [f"ray/{trained}"]


def test_inputs_that_no_run_names_go(
    storage: Storage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs name a copy by its digits: as its fingerprint, or where it lies."""
    digits = [letter * 64 for letter in "abcd"]
    brought = DataSpec("mine.jsonl", fingerprint=f"sha256:{digits[0]}")
    copied = DataSpec(f"{storage.uri}/inputs/{digits[1]}/mine.jsonl")
    for prompts in (brought, copied):
        asked = GenerateSpec(prompts, ModelSpec("some/model"))
        record_run(storage, CellSpec("study", "arm", generate=asked), "generate")
    for name in digits:
        storage.write(f"inputs/{name}/mine.jsonl", b"x" * 10)
        storage.write(f"inputs/{name}/deep/er.json", b"x")
    assert paths(storage) == [], "a run may stand in a queue"
    monkeypatch.setattr("lima.prune.QUEUED_NS", 0)
    gone = [f"inputs/{name}" for name in digits[2:]]
    assert paths(storage) == gone
    told = pruned(storage, capsys, "--yes")
    assert [(i["kind"], i["path"], i["size"]) for i in told["items"]] == [
        ("inputs", path, 11) for path in gone
    ]
    assert {e.path.split("/")[1] for e in storage.entries("inputs")} == set(digits[:2])


def test_a_running_run_is_left_alone(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    trained = write_training(storage, cell())
    with lease(storage, trained, lambda: False, lambda: None):
        assert paths(storage) == []
    assert len(paths(storage)) == 2


@pytest.mark.parametrize(("age_s", "held"), [(60, True), (3600, False)])
def test_the_lease_of_another_machine_counts_while_it_is_young(
    age_s: int, held: bool, storage: Storage
) -> None:
    trained = write_training(storage, cell())
    record = {"holder": "x", "host": "another", "pid": 1, "at": time.time() - age_s}
    storage.write(f"leases/run_id={trained}.json", json.dumps(record).encode())
    assert (paths(storage) == []) == held


def test_what_is_young_stays_if_age_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Storage(str(tmp_path))
    trained = write_training(storage, cell())
    old = tmp_path / checkpoints_path(trained) / "state" / "step=00000010"
    for file in (*old.iterdir(), old.with_suffix(".json")):
        os.utime(file, (time.time() - 3 * DAY_S,) * 2)
    assert len(pruned(storage, capsys, "--older", "1d", "--yes")["items"]) == 1
    assert not old.exists()
    assert len(pruned(storage, capsys, "--older", "0m", "--yes")["items"]) == 1
    assert run(["prune", str(tmp_path), "--older", "soon"]) == 2
    assert "--older soon: not an age; write 30m" in capsys.readouterr().err


def test_half_written_objects_of_yesterday_go(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    half = [tmp_path / "logs" / f".local.log.{digit * 32}" for digit in "ab"]
    half[0].parent.mkdir()
    for file in half:
        file.touch()
    (tmp_path / "logs" / ".lock").touch()
    os.utime(half[0], (time.time() - 2 * DAY_S,) * 2)
    assert paths(storage) == [f"logs/{half[0].name}"]


def test_uploads_to_a_bucket_that_nobody_goes_on_with_go(
    s3_storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storage = Storage(s3_storage)
    assert storage.bucket
    storage.write("inputs/aa/d.jsonl", b"whole")
    for path in ("inputs/aa/d.jsonl", "inputs/bb/weights"):
        upload = storage.bucket.begin(path)
        checksum = base64.b64encode(hashlib.sha256(b"part").digest()).decode()
        storage.bucket.send(path, upload, 1, b"part", checksum)
    assert pruned(storage, capsys, "--yes")["items"] == [], "somebody may go on with them"
    monkeypatch.setattr("lima.prune.WRITING_NS", -3600 * 10**9)
    gone = pruned(storage, capsys, "--yes")
    assert [item["path"] for item in gone["items"]] == ["inputs/aa/d.jsonl", "inputs/bb/weights"]
    assert gone["freed_bytes"] == 8
    assert not storage.bucket.uploads()
    assert storage.read("inputs/aa/d.jsonl") == b"whole"


def test_folders_of_killed_processes_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = (
        "import os, tempfile; from lima.common.temporary import temporary_folder\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "with temporary_folder('lima-run-') as folder: (folder / 'specs.json').touch(); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    (killed,) = tmp_path.glob("lima-run-*")
    (tmp_path / "lima-run-of-someone").mkdir()
    storage = Storage(str(tmp_path / "study"))
    with temporary_folder("lima-run-") as alive:
        assert pruned(storage, capsys, "--yes")["items"] == []  # it is young
        for folder in (killed, killed / "specs.json", alive):
            os.utime(folder, (time.time() - 2 * 3600,) * 2)
        found = pruned(storage, capsys, "--yes")["items"]
        assert [(i["kind"], i["path"]) for i in found] == [("temporary", str(killed))]
        assert alive.exists()
    assert not killed.exists()


def test_it_asks_first(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(str(tmp_path))
    write_training(storage, cell())
    assert run(["prune", str(tmp_path)]) == 2
    captured = capsys.readouterr()
    assert "nobody is there to answer; add --yes" in captured.err
    assert "the run is complete" in captured.out
    assert len(paths(storage)) == 2
    assert run(["prune", str(tmp_path), "--yes"]) == 0
    assert run(["prune", str(tmp_path)]) == 0
    assert "nothing can go" in capsys.readouterr().err
    assert run(["prune", str(tmp_path / "mistyped")]) == 0
    assert "mistyped: there are no runs in it\nnothing can go" in capsys.readouterr().err


def test_runs_that_cannot_be_read_free_nothing(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    trained = write_training(storage, cell())
    (shard,) = (tmp_path / "runs").rglob("*.parquet")
    shard.write_bytes(b"damaged")
    assert run(["prune", str(tmp_path), "--yes"]) == 2
    assert storage.exists(completion_path(trained))
    assert (tmp_path / checkpoints_path(trained) / "state" / "step=00000010").exists()


def test_a_kind_is_one_finder_and_one_word_of_the_command() -> None:
    assert tuple(FINDERS) == KINDS
    assert (*KINDS, "temporary") == OFFERED
