"""Exports open with transformers 4.57 too, and are the same model there."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lima.model.loading import load_tokenizer
from lima.spec import ModelSpec
from lima.training.export import Trained
from tests.conftest import ROOT
from tests.helpers.tokenizers import make_tokenizer

pytestmark = pytest.mark.slow
OLD = ROOT / ".cache" / "transformers4"
SHAPE: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "initializer_range": 0.3,
    "vocab_size": 1200,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
LLAMA_31 = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
MODELS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # family of the tokenizer, kind of model, what is special about it
    "llama": ("llama", "llama", {}),
    "llama-as-its-file-says": ("llama-as-its-file-says", "llama", {}),
    "llama-3.1": ("llama-3", "llama", {"rope_parameters": LLAMA_31}),
    "linear": (
        "llama",
        "llama",
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 10_000.0, "factor": 4.0}},
    ),
    "yarn": (
        "qwen",
        "qwen2",
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 1e6,
                "factor": 4.0,
                "original_max_position_embeddings": 64,
            }
        },
    ),
    "mistral": ("mistral", "mistral", {"sliding_window": 8}),
    "qwen": ("qwen", "qwen2", {"tie_word_embeddings": True}),
    "qwen-3": ("qwen", "qwen3", {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "gemma": ("gemma", "gemma2", {"query_pre_attn_scalar": 8, "sliding_window": 8}),
    "opt": ("opt", "llama", {}),
    "smollm": ("smollm", "llama", {"tie_word_embeddings": True}),
}
MESSAGES = [
    {"role": "user", "content": "Hello there, how do I  boil an egg?"},
    {"role": "assistant", "content": "    Put it in\n\nwater."},
    {"role": "user", "content": " And then?"},
]
OPEN = f"""
import json, sys
from pathlib import Path
import torch, transformers
from transformers import AutoModelForCausalLM, AutoTokenizer
found = {{"version": transformers.__version__}}
for folder in sorted(p for p in Path(sys.argv[1]).iterdir() if p.is_dir()):
    tokenizer = AutoTokenizer.from_pretrained(folder)
    # torch's own attention leaves Gemma 2's soft caps out, and 4.57 takes it for her all the same.
    model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager").eval()
    ids = list(tokenizer.apply_chat_template({MESSAGES!r}, return_dict=False))
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([ids])).logits[0]
    found[folder.name] = {{
        "ids": ids, "logits": logits.tolist(), "text": tokenizer.decode(ids),
        "eos": model.generation_config.eos_token_id, "special": tokenizer.all_special_tokens,
    }}
print(json.dumps(found))
"""


def export(name: str, folder: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    family, kind, settings = MODELS[name]
    tokenizer, eot_id, pad_id = load_tokenizer(
        str(make_tokenizer(family, folder / "tokenizers" / name)), ModelSpec(family)
    )
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(SHAPE | {"max_position_embeddings": 256} | settings))
    model = AutoModelForCausalLM.from_config(config)
    target = folder / "exports" / name
    target.mkdir(parents=True)
    model.save_pretrained(target)
    Trained(model, tokenizer, eot_id, pad_id, name).save(target)


def opened(exports: Path, path: str) -> dict[str, Any]:
    """Return what a process whose packages come from `path` first finds in the exports."""
    environment = {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", OPEN, str(exports)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_exports_are_the_same_model_in_both(tmp_path: Path) -> None:
    if not (OLD / "transformers").is_dir():
        pytest.skip(f"needs transformers 4.57: make {(OLD / 'ready').relative_to(ROOT)}")
    for name in MODELS:
        export(name, tmp_path)
    with ThreadPoolExecutor() as pool:
        old, new = pool.map(lambda path: opened(tmp_path / "exports", path), (str(OLD), ""))
    assert old.pop("version").startswith("4.57.")
    assert new.pop("version").startswith("5.")
    assert old.keys() == new.keys() == MODELS.keys()
    for name, expected in new.items():
        logits = torch.tensor(old[name].pop("logits")), torch.tensor(expected.pop("logits"))
        assert logits[1].std() > 0.1, "not flat, so that positions tell"
        assert torch.allclose(*logits, rtol=1e-4, atol=1e-4), name
        assert sorted(old[name].pop("special")) == sorted(expected.pop("special")), name
        assert old[name] == expected, name
        assert "4.57 and later" in (tmp_path / "exports" / name / "README.md").read_text()


def test_positions_by_layer_need_the_new_one(tmp_path: Path) -> None:
    from lima.model.portable import make_portable

    by_layer = {"full_attention": LLAMA_31, "sliding_attention": {"rope_type": "default"}}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": by_layer}))
    assert not make_portable(tmp_path)
