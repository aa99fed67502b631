"""Models from object storage (the copies that workers load), and what is never loaded."""

import json
import os
import pickle
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lima.common.paths import own_folder
from lima.curation.card.table1 import token_counter
from lima.errors import HubError, InputError, ModelError
from lima.inputs.model_files import needed_files
from lima.model.context import context_length
from lima.model.loading import (
    check_context,
    load_tokenizer,
    local_model,
    pretrained_model,
)
from lima.model.saved_config import heads_of, require_plan, saved_config
from lima.spec import ModelSpec
from lima.store.storage import Storage
from tests.helpers.models import make_base


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


def test_one_worker_of_a_machine_copies_for_all(
    s3_storage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIMA_CACHE", str(tmp_path / "cache"))
    there, study = Storage(f"{s3_storage}/model"), Storage(str(tmp_path / "study"))
    for name in ("config.json", "model.safetensors", "tokenizer.json", "pytorch_model.bin"):
        there.write(name, name.encode())
    copied: list[str] = []
    download = Storage.download

    def slowly(storage: Storage, path: str, target: Path) -> None:
        copied.append(path)
        time.sleep(0.5)  # the others come meanwhile
        download(storage, path, target)

    monkeypatch.setattr(Storage, "download", slowly)
    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(lambda _: local_model(ModelSpec(there.uri), study), range(8)))
    (folder,) = map(Path, folders)
    wanted = ["config.json", "model.safetensors", "tokenizer.json"]
    assert sorted(path.rsplit("/")[-1] for path in copied) == wanted
    assert sorted(file.name for file in folder.iterdir()) == wanted
    # One that was killed in the middle is not mistaken for a whole copy, and not kept.
    folder.rename(folder.with_suffix(".partial"))
    assert local_model(ModelSpec(there.uri), study) == str(folder)
    assert not folder.with_suffix(".partial").exists()


@pytest.mark.parametrize(
    ("names", "left_out"),
    [
        (
            ["model-1.safetensors", "model-2.safetensors", "consolidated.safetensors"],
            ["consolidated.safetensors"],
        ),
        (["consolidated.safetensors"], []),
        (
            [
                "model.safetensors",
                "original/consolidated.00.pth",
                "a.gguf",
                "onnx/model.onnx",
                "tf_model.h5",
            ],
            ["original/consolidated.00.pth", "a.gguf", "onnx/model.onnx", "tf_model.h5"],
        ),
        (["pytorch_model-1.bin", "pytorch_model.bin.index.json"], []),
        (["model.safetensors", "tokenizer.model", "vocab.json", "merges.txt", "chat.jinja"], []),
    ],
)
def test_only_what_is_needed_is_copied(names: list[str], left_out: list[str]) -> None:
    assert needed_files(names) == {*names} - {*left_out}


LLAMA_31 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        ({}, None),
        ({"max_position_embeddings": 2048}, 2048),
        # As vicuna-7b-v1.5-16k and Qwen 2.5 are published.
        (
            {"max_position_embeddings": 4096, "rope_scaling": {"factor": 4.0, "type": "linear"}},
            16_384,
        ),
        (
            {
                "max_position_embeddings": 32_768,
                "rope_scaling": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 32_768,
                },
            },
            131_072,
        ),
        ({"max_position_embeddings": 131_072, "rope_scaling": LLAMA_31}, 131_072),
        ({"max_position_embeddings": 131_072, "rope_parameters": LLAMA_31}, 131_072),
        (
            {
                "max_position_embeddings": 163_840,
                "rope_scaling": {
                    "type": "yarn",
                    "factor": 40,
                    "original_max_position_embeddings": 4096,
                },
            },
            163_840,
        ),
        ({"max_position_embeddings": 2048, "rope_scaling": None}, 2048),
        ({"max_position_embeddings": 2048, "rope_scaling": {"type": "dynamic"}}, 2048),
        (
            {
                "max_position_embeddings": 4096,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 8.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            32_768,
        ),
        ({"vision_config": {}, "text_config": {"max_position_embeddings": 512}}, 512),
    ],
)
def test_positions_of_a_model_with_scaled_rope(
    config: dict[str, Any], positions: int | None
) -> None:
    assert context_length(config) == positions


def test_of_a_model_that_also_reads_images_the_part_for_texts_counts(tmp_path: Path) -> None:
    from transformers import Gemma3Config

    text = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
    Gemma3Config(text_config=text).save_pretrained(tmp_path)
    spec = ModelSpec(str(tmp_path))
    config = saved_config(str(tmp_path), spec)
    assert (heads_of(config), context_length(config.to_dict())) == (2, 512)
    require_plan(str(tmp_path), spec, ranks=2)
    with pytest.raises(ModelError, match="its 2 heads of keys and values do not divide by 4"):
        require_plan(str(tmp_path), spec, ranks=4)


def test_a_kind_without_a_plan_is_refused_whatever_it_calls_its_heads(tmp_path: Path) -> None:
    from transformers import MambaConfig

    MambaConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="no plan for models of the kind mamba"):
        require_plan(str(tmp_path), ModelSpec(str(tmp_path)), ranks=2)


def test_a_whole_model_is_loaded_without_what_cuts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers.distributed", None)
    base = str(make_base(tmp_path))
    assert pretrained_model(base, ModelSpec(base), torch.float32).config.model_type == "llama"


def test_a_text_beyond_the_original_positions_is_no_error() -> None:
    from transformers import LlamaConfig

    rope = {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}
    model = SimpleNamespace(config=LlamaConfig(max_position_embeddings=512, rope_parameters=rope))
    check_context(model, 2048)
    with pytest.raises(ModelError, match="the model has 2048 positions"):
        check_context(model, 2049)


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
    # It asks the hub as well, for 45 s.
    monkeypatch.setattr("lima.model.loading.refuse_code", lambda *_: None)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", unreachable)
    with pytest.raises(ModelError, match="HF_HUB_OFFLINE keeps the hub from being asked"):
        load_tokenizer(spec.path, spec)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(HubError, match="the hub does not answer"):
        load_tokenizer(spec.path, spec)


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder of temporary files, in which every user may make some."""
    monkeypatch.delenv("LIMA_CACHE", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    return tmp_path / "tmp"


@pytest.fixture
def elsewhere(s3_storage: str) -> ModelSpec:
    Storage(f"{s3_storage}/model").write("config.json", b"{}")
    return ModelSpec(f"{s3_storage}/model")


@pytest.mark.parametrize("how", ["owner", "mode", "link", "file"])
def test_a_cache_of_somebody_else_is_refused(shared: Path, elsewhere: ModelSpec, how: str) -> None:
    cache = shared / "lima-cache"
    if how == "link":
        cache.symlink_to(shared)
    elif how == "file":
        cache.touch()
    else:
        cache.mkdir()
    if how == "mode":
        cache.chmod(0o777)
    if how == "owner":
        if os.geteuid() != 0:
            pytest.skip("only root can make what is another user's")
        os.chown(cache, 65534, 65534)
    with pytest.raises(InputError, match=r"lima-cache: .*TMPDIR"):
        local_model(elsewhere, Storage(str(shared / "study")))
    assert not cache.is_dir() or [p for p in cache.iterdir() if p.name != "lima-cache"] == []


def test_a_cache_of_our_own_is_closed_to_others(shared: Path, elsewhere: ModelSpec) -> None:
    for _ in range(2):
        assert Path(local_model(elsewhere, Storage(str(shared / "study")))).is_dir()
    assert (shared / "lima-cache").stat().st_mode & 0o777 == 0o700
    assert own_folder(shared / "a" / "b").is_dir()


class Planted:
    """What runs code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("saved"), layers=1)


@pytest.fixture
def hostile(saved: Path, tmp_path: Path) -> Path:
    """Return a saved model whose files name code that makes the folder `ran`."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for file in saved.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "code.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    return folder


def change(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_a_model_that_brings_code_is_refused_and_nobody_is_asked(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    auto = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    change(hostile / "config.json", model_type="unheard-of", auto_map=auto)
    with pytest.raises(ModelError, match="needs code that comes with it, and such code is never"):
        pretrained_model(str(hostile), ModelSpec(str(hostile)), torch.float32)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_that_brings_code_is_refused(
    hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user was asked"))
    auto = {"AutoTokenizer": ["code.Tokenizer", None]}
    change(hostile / "tokenizer_config.json", tokenizer_class="Tokenizer", auto_map=auto)
    change(hostile / "config.json", model_type="unheard-of", auto_map={"AutoConfig": "code.Config"})
    with pytest.raises(ModelError, match="needs code that comes with it"):
        load_tokenizer(str(hostile), ModelSpec(str(hostile)))
    with pytest.raises(ModelError, match="no tokenizer can be loaded"):
        token_counter(str(hostile))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("weights", ["plain", "planted", "torch"])
def test_pickled_weights_are_refused_as_what_they_are(
    hostile: Path, tmp_path: Path, weights: str
) -> None:
    import torch

    (hostile / "model.safetensors").unlink()
    file = hostile / "pytorch_model.bin"
    if weights == "torch":
        torch.save({"x": torch.zeros(1)}, file)
    else:
        file.write_bytes(pickle.dumps(Planted(tmp_path / "ran") if weights == "planted" else {}))
    with pytest.raises(ModelError, match=r"pickled \(pytorch_model.bin\).*as safetensors"):
        pretrained_model(str(hostile), ModelSpec(str(hostile)), torch.float32)
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_beside_others_are_not_looked_at(hostile: Path, tmp_path: Path) -> None:
    import torch

    (hostile / "pytorch_model.bin").write_bytes(pickle.dumps(Planted(tmp_path / "ran")))
    pretrained_model(str(hostile), ModelSpec(str(hostile)), torch.float32)
    assert not (tmp_path / "ran").exists()


def test_a_model_that_lacks_weights_is_refused(tmp_path: Path) -> None:
    """transformers would fill them with random ones, and say so in a log alone."""
    base = make_base(tmp_path / "base")
    file = base / "model.safetensors"
    weights = load_file(file)
    save_file({n: w for n, w in weights.items() if "layers.1.mlp" not in n}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"3 weights .*layers\.1\.mlp\.down_proj\.weight"):
        pretrained_model(str(base), ModelSpec(str(base)), torch.float32)
