"""Models from object storage (the copies that workers load)."""

from pathlib import Path

import pytest

from lima.errors import HubError, ModelError
from lima.model.loading import load_tokenizer, local_model
from lima.spec import ModelSpec
from lima.storage import Storage


def test_a_model_on_s3_is_copied_once_and_anew_when_it_changed(
    s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "cache"))
    there, study = Storage(f"{s3_storage}/model"), Storage(str(tmp_path / "study"))
    there.write("config.json", b"{}")
    there.write("weights/part", b"first")
    spec = ModelSpec(there.uri)
    first = Path(local_model(spec, study))
    assert (first / "weights" / "part").read_bytes() == b"first"
    assert Path(local_model(spec, study)) == first
    there.write("weights/part", b"second one", replace=True)
    assert (Path(local_model(spec, study)) / "weights" / "part").read_bytes() == b"second one"


def test_what_is_no_model_is_said(s3_storage: str, tmp_path: Path) -> None:
    there = Storage(f"{s3_storage}/empty")
    there.write("notes.txt", b"no model")
    with pytest.raises(ModelError, match=r"empty: no config\.json there"):
        local_model(ModelSpec(there.uri), Storage(str(tmp_path)))
    with pytest.raises(ModelError, match="no such folder"):
        local_model(ModelSpec("./nowhere"), Storage(str(tmp_path)))


def test_a_hub_that_does_not_answer_is_worth_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")

    spec = ModelSpec("some/model")
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", unreachable)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE keeps the hub from being asked"):
        load_tokenizer(spec.path, spec)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(HubError, match="the hub does not answer"):
        load_tokenizer(spec.path, spec)
