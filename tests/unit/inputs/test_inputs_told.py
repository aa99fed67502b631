"""`lint` and `plan` say of each input whether it is there, its size and its fingerprint."""

import base64
import hashlib
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lima.inputs.content import Contents
from lima.inputs.memory import Unknown
from lima.inputs.places import places
from lima.recipes.registry import load_study
from lima.spec import CellSpec, DataSpec, GenerateSpec, ModelSpec
from lima.spec.codec import encode
from lima.store.storage import Storage
from lima_k8s.main import run
from tests.helpers.cut_line import line_to
from tests.unit.inputs.test_hub_commits import NEW, OLD, commits, hub

__all__ = ["commits"]
DATA = b'{"conversations": ["Hello?"], "source": "x"}\n'
KEPT = hashlib.sha256(DATA).digest()
SHORT = f"sha256:{KEPT.hex()[:12]}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.chdir(tmp_path)


def cell(prompts: str = "authored:test", model: str = "run:0123456789abcdef") -> CellSpec:
    return CellSpec("e", "a", generate=GenerateSpec(DataSpec(prompts), ModelSpec(model)))


def linted(
    study: CellSpec, capsys: pytest.CaptureFixture[str], role: str = "generate.prompts"
) -> tuple[str, str]:
    """Return how serious it is what lint says of an input, and what it says."""
    Path("study.json").write_text(json.dumps({"runs": [encode(study)]}))
    capsys.readouterr()
    code = run(["lint", "study.json", "--format", "json"])
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = [f for f in findings if f["path"] == role and "examples are not" not in f["message"]]
    assert (code == 2) == any(f["level"] == "error" for f in findings)
    return found["level"], found["message"]


def test_an_object_is_told_by_what_its_store_keeps_or_what_is_remembered(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage, uri = Storage(s3_storage), f"{s3_storage}/p.jsonl"
    assert linted(cell(uri), capsys) == ("error", f"{uri}, not there: no such object")
    storage.write("p.jsonl", DATA)
    level, said = linted(cell(uri), capsys)
    assert level == "note"
    assert said.startswith(f"{uri}, 45 bytes, fingerprint unknown: its store keeps no sha256")
    Contents().of(places(cell(uri))[0])  # as submit does
    assert linted(cell(uri), capsys) == ("note", f"{uri}, 45 bytes, {SHORT}")
    assert storage.bucket
    storage.bucket.put("kept.jsonl", DATA, base64.b64encode(KEPT).decode())
    kept = f"{s3_storage}/kept.jsonl"
    assert linted(cell(kept), capsys) == ("note", f"{kept}, 45 bytes, {SHORT}")


def test_a_large_object_is_not_read(
    s3_storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = f"{s3_storage}/llama"
    Storage(s3_storage).write("llama/config.json", b"{}")
    Storage(s3_storage).write("llama/model.safetensors", bytes(9 << 20))
    with line_to(os.environ["AWS_ENDPOINT_URL"]) as line:
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        level, said = linted(cell(model=model), capsys, "generate.model")
        assert line.received < 1 << 20
    assert (level, said.partition(":")[0]) == ("note", "s3")
    assert f"{model}, 9.4 MB, fingerprint unknown: its store keeps no sha256" in said


def test_a_bucket_that_is_not_there_is_an_error(
    s3_storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    level, said = linted(cell("s3://nowhere/p.jsonl"), capsys)
    assert level == "error"
    assert said.startswith("s3://nowhere/p.jsonl, not there: s3://nowhere: ")
    assert "create the bucket first" in said


CANNOT: list[tuple[dict[str, str | None], str, str]] = [
    ({"AWS_ENDPOINT_URL": "http://127.0.0.1:1"}, "s3://b/p", "Could not connect"),
    ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "s3://study/p", "check the secret"),
    ({"AWS_ACCESS_KEY_ID": None}, "s3://study/p", "Unable to locate credentials"),
    ({}, "gs://b/p", "gs:// is asked by `submit` alone"),
]


@pytest.mark.parametrize("case", CANNOT, ids=lambda case: case[2])
def test_what_cannot_be_asked_is_said_and_is_no_error(
    case: tuple[dict[str, str | None], str, str],
    s3_storage: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    variables, uri, why = case
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "nowhere")
    for name, value in variables.items():
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
    level, said = linted(cell(uri), capsys)
    assert level == "note"
    assert said.startswith(f"{uri}, fingerprint unknown: could not ask: ")
    assert why in said


def test_what_is_no_s3_server_is_said(
    s3_storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with hub({"/study?list-type=2&max-keys=1&encoding-type=url": "sign in first"}) as address:
        monkeypatch.setenv("AWS_ENDPOINT_URL", address)
        level, said = linted(cell(f"{s3_storage}/p"), capsys)
    assert level == "note"
    assert "fingerprint unknown: could not ask: " in said


def test_a_server_that_says_nothing_is_given_up(
    s3_storage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lima.store.s3.HASTY_READ_S", 0.2)
    with line_to(os.environ["AWS_ENDPOINT_URL"]) as line:
        line.hold()
        monkeypatch.setenv("AWS_ENDPOINT_URL", line.url)
        assert "could not ask: " in linted(cell(f"{s3_storage}/p"), capsys)[1]


def test_a_model_of_a_hub_is_told_by_its_commit(
    commits: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = cell(model="team/llama")
    assert linted(study, capsys, "generate.model") == ("note", f"team/llama, commit:{OLD[:12]}")
    commits["/api/models/team/llama/revision/main"] = NEW
    assert linted(study, capsys, "generate.model")[1] == f"team/llama, commit:{NEW[:12]}"
    said = linted(cell(model="team/none"), capsys, "generate.model")[1]
    assert said.startswith("team/none, fingerprint unknown: the hub at ")
    assert said.endswith("answers 404")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert "could not ask: the hub at " in linted(study, capsys, "generate.model")[1]


def test_a_hub_that_does_not_answer_is_waited_for_once(
    commits: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lima.inputs.hub.ANSWER_S", 0.5)
    with line_to(os.environ["HF_ENDPOINT"]) as line:
        line.hold()
        monkeypatch.setenv("HF_ENDPOINT", line.url)
        contents = Contents(brief=True)
        for name in ("team/one", "team/two"):
            found = contents.of(places(cell(model=name))[1])
            assert isinstance(found, Unknown)
            assert found.why.startswith("could not ask: the hub at ")
        assert line.taken == 1


def test_plan_tells_the_same(s3_storage: str, capsys: pytest.CaptureFixture[str]) -> None:
    storage = Storage(s3_storage)
    assert storage.bucket
    storage.bucket.put("d.jsonl", DATA, base64.b64encode(KEPT).decode())
    (study, *_) = load_study("tiny")
    assert study.base
    train = replace(study.base, data=DataSpec(f"{s3_storage}/d.jsonl"))
    Path("study.json").write_text(json.dumps({"runs": [encode(CellSpec("e", "a", train=train))]}))
    command = ["plan", "study.json", "--gpu", "H100", "--nodes", "1", "--format", "json"]
    assert run(command) == 0
    inputs: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["inputs"]
    told = {entry["role"]: entry for entry in inputs}["train.data"]
    assert (told["there"], told["bytes"]) == (True, 45)
    assert told["fingerprint"] == f"sha256:{KEPT.hex()}"
