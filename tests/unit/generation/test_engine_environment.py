"""No secret reaches a process that only samples, whose packages are of others."""

import os
from pathlib import Path

import pytest
from transformers import LlamaConfig

from lima.common.secret_names import engine_environment
from lima.errors import EngineDiedError
from lima.generation.tensor_parallel.engine import TensorParallelEngine, load_tensor_parallel
from lima.generation.vllm.engine import _cache
from lima.generation.vllm.process import start_vllm
from lima.spec import ComputeSpec, DataSpec, GenerateSpec, ModelSpec
from lima.store.storage import Storage
from tests.helpers.models import make_base

SECRETS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
    "DATABASE_PASSWORD",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "JUDGE_TOKEN",
    "KUBECONFIG",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "OPENAI_API_KEY",
    "OUR_JUDGE",
    "RAY_AUTH_TOKEN",
    "WANDB_API_KEY",
    "client_secret",
)
KEPT = ("CUDA_VISIBLE_DEVICES", "HF_HOME", "HF_TOKEN", "HTTPS_PROXY", "NCCL_DEBUG", "VLLM_X")
WROTE = """#!/bin/sh
env -0 > {}
"""


@pytest.fixture(autouse=True)
def _secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SECRETS, *KEPT):
        monkeypatch.setenv(name, "hush-4711" if name in SECRETS else "0")
    monkeypatch.setenv("LIMA_KEY_NAMES", "OUR_JUDGE")  # as --allow-key names it


def told(written: Path) -> dict[str, str]:
    """Return an environment as the kernel shows it."""
    lines = written.read_text("utf-8").rstrip("\0").split("\0")
    return dict(line.split("=", 1) for line in lines)


def test_all_else_stays() -> None:
    assert os.environ.keys() - engine_environment().keys() >= set(SECRETS)
    assert set(KEPT) <= engine_environment().keys()


def test_no_secret_reaches_the_process_of_vllm(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(WROTE.format(tmp_path / "environment"), "utf-8")
    python.chmod(0o700)
    with pytest.raises(EngineDiedError):
        start_vllm(python, {})
    environment = told(tmp_path / "environment")
    assert "hush-4711" not in environment.values()
    assert set(KEPT) <= environment.keys()


@pytest.mark.slow
def test_no_secret_reaches_the_ranks_of_a_model_that_is_cut(tmp_path: Path) -> None:
    base = make_base(tmp_path / "base", num_key_value_heads=2)
    spec = GenerateSpec(
        DataSpec("authored:test"),
        ModelSpec(str(base), eot_token="</s>"),
        compute=ComputeSpec(device="cpu", precision="fp32"),
    )
    engine = load_tensor_parallel(spec, spec.model, 3, Storage(str(tmp_path)), 2).engine
    assert isinstance(engine, TensorParallelEngine)
    try:
        for rank in engine.ranks:
            environment = told(Path(f"/proc/{rank.process.pid}/environ"))
            assert "hush-4711" not in environment.values()
            assert environment["HF_TOKEN"] == "0"
    finally:
        engine.end()


@pytest.mark.parametrize(
    ("compute", "batch_tokens", "places"),
    [
        (ComputeSpec(device="cpu", precision="fp32"), None, 512 + 16 * 1024),
        (ComputeSpec(device="cpu", precision="fp32"), 5000, 512 + 5000),
        (ComputeSpec(device="cpu", precision="fp32"), 10, 512 + 1024),  # one row always fits
        (ComputeSpec(gpus_per_worker=2), 5000, (512 + 5000) / 2 / 2),
        (ComputeSpec(gpus_per_worker=8), 5000, (512 + 5000) / 2 / 4),  # of four heads each
        (ComputeSpec(gpus_per_worker=2), None, None),
    ],
)
def test_the_memory_that_vllm_gets_for_keys_and_values(
    compute: ComputeSpec, batch_tokens: int | None, places: float | None
) -> None:
    spec = GenerateSpec(DataSpec("authored:test"), compute=compute, batch_tokens=batch_tokens)
    heads = {"num_attention_heads": 8, "num_key_value_heads": 4}
    config = LlamaConfig(hidden_size=64, num_hidden_layers=3, **heads)
    found = _cache(spec, config, 1024)
    a_place = 2 * 3 * 4 * 8 * 4  # keys and values, layers, heads, their width, bytes
    assert found == ({} if places is None else {"kv_cache_memory_bytes": a_place * places})
