"""GGUF files as models: unpacked once, trained and answered from like any other."""

import importlib.util
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lima.common.paths import expanded, is_here
from lima.errors import InputError, ModelError
from lima.inputs.content import Content, Contents
from lima.inputs.fingerprint import of_bytes
from lima.inputs.places import Place
from lima.model import gguf
from lima.model.checkpoint_manifest import weights_path
from lima.model.end_of_turn import encode_prompt
from lima.model.loading import load_for_inference, local_model
from lima.model.template import messages_of
from lima.spec import ComputeSpec, ModelSpec
from lima.spec.codec import run_id
from lima.store.storage import Storage
from tests.helpers.gguf_files import CHATML, make_gguf
from tests.helpers.models import small_cell
from tests.helpers.tokenizers import make_tokenizer
from tests.helpers.training import train

END = "<|im_end|>"
CPU = ComputeSpec(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return a GGUF file, and the weights that it holds."""
    folder = tmp_path_factory.mktemp("gguf")
    file = folder / "tiny.gguf"
    return file, make_gguf(file, make_tokenizer("smollm", folder / "tokenizer"))


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "cache"))


def test_a_file_is_unpacked_once_with_the_values_that_it_holds(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    from safetensors.torch import load_file
    from transformers import AutoTokenizer

    file, expected = made
    storage, spec = Storage(str(tmp_path / "study")), ModelSpec(str(file))
    folder = Path(local_model(spec, storage))
    saved = load_file(folder / "model.safetensors")
    assert saved.keys() == expected.keys()
    assert all(torch.equal(saved[name], value) for name, value in expected.items())
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert "quantization_config" not in config
    assert AutoTokenizer.from_pretrained(folder).chat_template == CHATML
    (folder / "kept").touch()
    assert Path(local_model(spec, storage)) == folder
    assert (folder / "kept").exists()
    # The same by a storage's URI, as a cluster is told it, and by what it contains.
    place = Place("train", "train.model", "model", (str(file),), None)
    found = Contents().of(place)
    assert isinstance(found, Content)
    assert found.fingerprint == of_bytes(file.read_bytes())
    stored = replace(spec, path=f"file://{file}", fingerprint=found.fingerprint)
    assert Contents().of(replace(place, paths=(stored.path,))) == replace(
        found, files={"tiny.gguf": replace(found.files["tiny.gguf"], where=stored.path)}
    )
    assert Path(local_model(stored, storage)) == folder
    with pytest.raises(InputError, match=r"tiny\.gguf"):
        local_model(replace(stored, fingerprint=of_bytes(b"another")), storage)


@pytest.mark.slow
@pytest.mark.usefixtures("process_group")
def test_a_chat_tuned_file_keeps_its_template_and_its_end(
    made: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    model = ModelSpec(str(made[0]), eot_token=END, chat_template="own")
    cell = small_cell(made[0], model=model, heldout=None, epochs=1, residual_dropout=0.0)
    storage = Storage(str(tmp_path / "study"))
    trainer = train(cell, storage)
    folder = storage.local_path(weights_path(run_id(cell), 1))
    assert folder is not None
    settings = [
        json.loads((folder / name).read_text("utf-8"))
        for name in ("config.json", "generation_config.json")
    ]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ends = [s["eos_token_id"] for s in settings]
    assert [*ends, tokenizer.eos_token_id] == [trainer.eot_id] * 3
    assert tokenizer.convert_tokens_to_ids(END) == trainer.eot_id
    assert all(s["pad_token_id"] != trainer.eot_id for s in settings)
    assert tokenizer.chat_template == CHATML
    loaded = load_for_inference(replace(model, path=f"run:{run_id(cell)}"), storage, CPU)
    prompt = encode_prompt(loaded.tokenizer, ["How?"], loaded.eot_id)
    assert prompt == tokenizer.apply_chat_template(
        messages_of(["How?"]), add_generation_prompt=True, return_dict=False
    )
    assert tokenizer.decode(prompt).endswith("<|im_start|>assistant\n")
    # Its end of turn is its end of sequence: only its own template makes that right.
    with pytest.raises(ModelError, match="chat_template=own"):
        train(small_cell(made[0], model=ModelSpec(str(made[0]), eot_token=END)), storage)


def test_what_cannot_be_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    storage = Storage(str(tmp_path / "study"))
    other, broken = tmp_path / "model.bin", tmp_path / "broken.gguf"
    other.write_bytes(b"x")
    broken.write_bytes(b"GGUF, it says")
    with pytest.raises(ModelError, match=r"model\.bin: a file, and no GGUF file"):
        local_model(ModelSpec(str(other)), storage)
    with pytest.raises(ModelError, match=r"broken\.gguf: no model can be loaded"):
        local_model(ModelSpec(str(broken)), storage)
    assert not [p for p in (tmp_path / "cache").iterdir() if "." not in p.name]
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'lima-k8s\[gguf\]'"):
        local_model(ModelSpec(str(broken)), storage)
    with pytest.raises(ModelError, match="the Python package no_such_one is not installed"):
        local_model(ModelSpec("package:no_such_one/model.gguf"), storage)


def test_a_file_of_a_package() -> None:
    found = importlib.util.find_spec("lima")
    assert found is not None
    assert found.origin is not None
    assert expanded("package:lima/authored/test.jsonl").samefile(
        Path(found.origin).parent / "authored" / "test.jsonl"
    )
    assert not is_here("package:lima/nothing")
    assert not is_here("package:not-a-name/x")
    assert not is_here("package:no_such_one/x")
