"""`submit` brings the inputs of a study to its storage, a real S3 server, once."""

import base64
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.data.examples import load_examples
from lima.errors import InputError, NoAnswerError, StorageError
from lima.inputs.content import Contents
from lima.inputs.places import Kind, Place, places
from lima.inputs.upload import AT_ONCE, MOST_PARTS, SMALLEST_PART, part_size
from lima.model.loading import local_model
from lima.preparing.bring import TEXTS, Parcel, bring, missing, parcels
from lima.preparing.prepare import prepare
from lima.recipes.registry import load_study
from lima.spec import CellSpec, DataSpec, GenerateSpec, ModelSpec, TrainSpec
from lima.spec.codec import encode, run_id
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec, SourceSpec
from lima.store.s3 import Bucket, RefusedError
from lima.store.shards import read_parquet
from lima.store.storage import Storage
from lima_k8s.main import run
from lima_k8s.study.delivery import Delivery, deliver
from tests.helpers.cut_line import line_to
from tests.unit.inputs.test_submit_inputs import write

MODELS: tuple[Kind, ...] = ("model",)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "models"))
    monkeypatch.chdir(tmp_path)
    write("first")
    Path("llama").mkdir()
    Path("llama/config.json").write_text("{}")
    Path("llama/model.safetensors").write_bytes(bytes(3 << 20))


def cell() -> CellSpec:
    train = TrainSpec(ModelSpec("llama"), DataSpec("p.jsonl"))
    return CellSpec("e", "a", train=train, generate=GenerateSpec(DataSpec("p.jsonl")))


def written(storage: Storage) -> dict[str, int]:
    return {entry.path: entry.modified for entry in storage.entries("inputs")}


def test_files_and_models_are_brought_once_and_read_there(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, delivery = Storage(s3_storage), Delivery(s3_storage, models=True)
    (sent,) = deliver([cell()], delivery)
    before = written(storage)
    assert sorted(path.rsplit("/", 1)[-1] for path in before) == [
        "config.json",
        "model.safetensors",
        "p.jsonl",
    ]
    assert "bringing p.jsonl to s3://" in capsys.readouterr().err
    for path in ("p.jsonl", "llama/model.safetensors"):
        Path(path).unlink()  # the runs are elsewhere
    assert sent.train
    assert sent.generate
    assert len(load_examples(sent.generate.prompts)) == 3
    assert sent.train.data.path.startswith(f"{s3_storage}/inputs/")
    weights = Path(local_model(sent.train.model, storage)) / "model.safetensors"
    assert weights.stat().st_size == 3 << 20
    write("first")
    Path("llama/model.safetensors").write_bytes(bytes(3 << 20))
    assert deliver([cell()], delivery) == (sent,)
    assert "bringing" not in capsys.readouterr().err
    assert written(storage) == before


def test_the_id_is_that_of_a_run_on_this_machine(s3_storage: str) -> None:
    (sent,) = deliver([cell()], Delivery(s3_storage, models=True))
    (here,) = prepare([cell()], Contents()).cells
    assert run_id(sent) == run_id(here)
    assert sent != here


def test_what_is_cut_in_the_middle_goes_on(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, delivery = Storage(s3_storage), Delivery(s3_storage, models=True)
    deliver([cell()], delivery)
    storage.delete(next(path for path in written(storage) if path.endswith("config.json")))
    capsys.readouterr()
    deliver([cell()], delivery)
    said = capsys.readouterr().err
    assert "bringing llama/config.json" in said
    assert "(1 of 1, 2 bytes of 2 bytes)" in said


def test_models_stay_unless_they_are_asked_for(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (sent,) = deliver([cell()], Delivery(s3_storage))
    assert sent.train
    assert sent.train.model.path == "llama"
    assert sent.train.model.fingerprint
    assert "pods must have llama themselves; --upload-models brings it (3.1 MB)" in (
        capsys.readouterr().err
    )


def test_a_dry_run_brings_nothing_and_names_the_same(s3_storage: str) -> None:
    dry = deliver([cell()], Delivery(s3_storage, models=True, dry_run=True))
    assert not Storage(s3_storage).entries("inputs")
    assert dry == deliver([cell()], Delivery(s3_storage, models=True))


def test_files_below_the_storage_are_read_there_as_before(s3_storage: str) -> None:
    Storage(s3_storage).write("data/d.jsonl", Path("p.jsonl").read_bytes())
    there = replace(cell(), train=None, generate=GenerateSpec(DataSpec("data/d.jsonl")))
    here = replace(there, generate=GenerateSpec(DataSpec("p.jsonl")))
    (sent,), (brought,) = (deliver([c], Delivery(s3_storage)) for c in (there, here))
    assert sent.generate
    assert sent.generate.prompts.path == "data/d.jsonl"
    assert run_id(sent) == run_id(brought)


def test_storage_that_only_the_cluster_reaches_leaves_inputs_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    there = CellSpec("e", "a", generate=GenerateSpec(DataSpec("data/d.jsonl")))
    assert deliver([there], Delivery("s3://b/x")) == (there,)
    said = capsys.readouterr().err
    assert "generate.prompts: fingerprint unknown: data/d.jsonl: " in said
    assert "nobody answers" in said


SILENT: dict[str, tuple[Kind, str]] = {
    "a file of examples": ("data", "data/d.jsonl"),
    "examples in a bucket": ("data", "s3://other/d"),
    "a model": ("model", "s3://other/m"),
    "responses": ("responses", "r.json"),
    "dumps": ("source", "s3://other/dumps"),
    "one file": ("file", "s3://other/d.jsonl"),
}


@pytest.mark.parametrize(("kind", "path"), SILENT.values(), ids=SILENT)
def test_a_server_that_is_away_is_not_asked_for_a_minute(
    monkeypatch: pytest.MonkeyPatch, kind: Kind, path: str
) -> None:
    """So long its own library tries, which is not begun with before somebody answers there."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setattr(Storage, "__init__", lambda *_: pytest.fail("asked"))
    place = Place("generate", "generate.prompts", kind, (path,), None, source="stackexchange")
    with pytest.raises(NoAnswerError):
        Contents(home="s3://b/x").of(place)


def test_dumps_keep_their_names_in_the_storage(s3_storage: str) -> None:
    site = Path("dumps/ai.stackexchange.com")
    site.mkdir(parents=True)
    (site / "Posts.xml").write_text("<posts/>")
    source = SourceSpec("stackexchange", ("dumps",))
    spec = CurateSpec((source,), (ArmSpec("a", (PartSpec("stackexchange-stem", 1),)),))
    study = CellSpec("e", "curation", curate=spec)
    (sent,) = deliver([study], Delivery(s3_storage))
    assert [path.split("/", 2)[2] for path in written(Storage(s3_storage))] == [
        "ai.stackexchange.com/Posts.xml"
    ]
    (again,) = prepare([sent], Contents()).cells
    assert again == sent
    assert run_id(again) == run_id(prepare([study], Contents()).cells[0])


def test_a_file_that_changes_while_it_is_brought_is_refused(s3_storage: str) -> None:
    prepared, storage = prepare([cell()], Contents()), Storage(s3_storage)
    (parcel,) = parcels(prepared, TEXTS)
    write("other")
    with pytest.raises(InputError, match=r"p\.jsonl: changed while it was brought"):
        bring(storage, parcel)
    assert missing(storage, [parcel]) == [parcel]


def test_a_study_runs_again_from_its_storage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    baseline = GenerateSpec(DataSpec("p.jsonl"), ModelSpec("responses:r.jsonl"))
    study = CellSpec("e", "a", generate=baseline)
    Path("study.json").write_text(json.dumps({"runs": [encode(study)]}))
    submit = ["submit", "generate", "--local", "--recipe"]
    assert run([*submit, "study.json", "--storage", "out"]) == 0
    (promised,) = prepare([study], Contents()).cells
    storage = str(tmp_path / "out")
    monkeypatch.chdir("/")
    for name in ("p.jsonl", "r.jsonl"):
        (tmp_path / name).unlink()
    capsys.readouterr()
    command = ["show", run_id(promised)[:6], "--storage", storage, "--format", "json"]
    assert run(command) == 0
    shown = tmp_path / "again.json"
    shown.write_text(capsys.readouterr().out)
    (again,) = load_study(str(shown))
    assert run_id(again) == run_id(promised)
    assert all(p.paths[0].startswith(storage) for p in places(again))
    elsewhere = str(tmp_path / "elsewhere")
    assert run([*submit, str(shown), "--storage", elsewhere]) == 0
    assert _responses(elsewhere) == _responses(storage)


def _responses(uri: str) -> list[Any]:
    storage = Storage(uri)
    paths = [entry.path for entry in storage.entries("generations")]
    columns = ["generation_key", "response"]
    return [row for p in paths for row in read_parquet(storage, p, columns).to_pylist()]


def test_an_upload_that_is_stopped_leaves_no_object_and_goes_on(s3_storage: str) -> None:
    storage = Storage(s3_storage)
    Path("llama/model.safetensors").write_bytes(bytes(20 << 20))
    (weights,) = (
        parcel
        for parcel in parcels(prepare([cell()], Contents()), MODELS)
        if parcel.path.endswith("safetensors")
    )

    def stop(where: str, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bring(storage, weights, stop)
    assert storage.entry(weights.path) is None
    seen: list[int] = []
    bring(storage, weights, lambda where, done, total: seen.append(done))
    assert storage.entry(weights.path) == storage.entries("inputs")[0]
    assert seen == sorted(seen)
    assert seen[-1] == 20 << 20
    assert not missing(storage, [weights])


KILLED = """
import sys, time
from lima.preparing.bring import Parcel, bring
from lima.inputs.content import File
from lima.store.storage import Storage

where, size, fingerprint, path, storage = sys.argv[1:]
parcel = Parcel(File(where, int(size), fingerprint), path)
bring(Storage(storage), parcel, lambda *_: time.sleep(1e6))
"""
"""Sends what goes at once, and stays there to be killed."""


@pytest.fixture
def large() -> Parcel:
    """Return a file of eight parts that is to be brought."""
    Path("llama/model.safetensors").write_bytes(random.Random(0).randbytes(60 << 20))
    found = parcels(prepare([cell()], Contents()), MODELS)
    return next(parcel for parcel in found if parcel.path.endswith("safetensors"))


def kill_in_the_middle(parcel: Parcel, storage: Storage) -> int:
    """Kill a process that brings a file; return the bytes that the store has of it."""
    assert storage.bucket
    bucket, file = storage.bucket, parcel.file
    command = [sys.executable, "-c", KILLED, file.where, str(file.size), file.fingerprint]
    with subprocess.Popen([*command, parcel.path, storage.uri]) as child:
        while child.poll() is None:
            if sum(bucket.weight(u)[0] for u in bucket.uploads()) >= AT_ONCE * SMALLEST_PART:
                break
            time.sleep(0.02)
        child.kill()
    assert child.returncode == -signal.SIGKILL
    assert storage.entry(parcel.path) is None
    ((size, _),) = [bucket.weight(upload) for upload in bucket.uploads()]
    return size


def test_an_upload_whose_process_is_killed_goes_on_with_the_parts_that_are_missing(
    s3_storage: str,
    large: Parcel,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    storage = Storage(s3_storage)
    there = kill_in_the_middle(large, storage)
    assert 0 < there < large.file.size
    with line_to(os.environ["AWS_ENDPOINT_URL"]) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        deliver([cell()], Delivery(s3_storage, models=True))
        missing_bytes = large.file.size - there
        assert missing_bytes <= line.sent < missing_bytes + (1 << 20)
        assert line.received < 1 << 20, "the store's checksum says that it is the file"
        assert storage.bucket
        assert not storage.bucket.uploads()
    assert "33.6 MB were there already, of an upload that was cut" in capsys.readouterr().err
    assert storage.read(large.path) == Path(large.file.where).read_bytes()


def test_parts_of_another_content_are_sent_again(s3_storage: str, large: Parcel) -> None:
    storage = Storage(s3_storage)
    assert storage.bucket
    upload = storage.bucket.begin(large.path)
    other = bytes(SMALLEST_PART)
    checksum = base64.b64encode(hashlib.sha256(other).digest()).decode()
    for number in (1, 2):
        storage.bucket.send(large.path, upload, number, other, checksum)
    assert bring(storage, large) == 0
    assert storage.read(large.path) == Path(large.file.where).read_bytes()
    assert not storage.bucket.uploads()


def test_a_large_file_that_changed_makes_no_object(s3_storage: str, large: Parcel) -> None:
    with Path(large.file.where).open("r+b") as stream:
        stream.write(b"other")
    with pytest.raises(InputError, match="changed while it was brought"):
        bring(Storage(s3_storage), large)
    assert missing(Storage(s3_storage), [large])


@pytest.mark.parametrize("refused", ["uploads", "parts"])
def test_keys_that_may_not_list_uploads_send_all_of_it(
    refused: str, s3_storage: str, large: Parcel, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(s3_storage)
    assert storage.bucket
    storage.bucket.begin(large.path)

    def refuse(*_: object) -> None:
        raise RefusedError("AccessDenied")

    monkeypatch.setattr(Bucket, refused, refuse)
    assert bring(storage, large) == 0
    assert storage.read(large.path) == Path(large.file.where).read_bytes()


def test_two_who_bring_the_same_at_once_do_no_harm(s3_storage: str, large: Parcel) -> None:
    storage = Storage(s3_storage)
    wanted = parcels(prepare([cell()], Contents()), (*MODELS, *TEXTS))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda parcel: bring(storage, parcel), wanted * 3))
    assert not missing(storage, wanted)
    for parcel in wanted:
        assert storage.read(parcel.path) == Path(parcel.file.where).read_bytes()


def test_parts_are_as_many_as_a_store_takes() -> None:
    for size in (1, 8 << 20, 80_000 << 20, (80_000 << 20) + 1, 5 << 40):
        assert -(-size // part_size(size)) <= MOST_PARTS
        assert part_size(size) >= SMALLEST_PART


def test_whoever_submits_needs_no_right_to_the_storage_where_nothing_is_brought(
    s3_storage: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    there = CellSpec("e", "a", generate=GenerateSpec(DataSpec("data/d.jsonl")))
    assert deliver([there], Delivery(s3_storage)) == (there,)
    assert "what has changed since earlier runs is not known" in capsys.readouterr().err
    with pytest.raises(StorageError, match=r"p\.jsonl cannot be brought to the storage"):
        deliver([cell()], Delivery(s3_storage))
