"""A small base model for tests: made, not downloaded."""

from pathlib import Path
from typing import Any

from lima.data.examples import load_examples
from lima.model.end_of_turn import train_tokenizer
from lima.spec import (
    CellSpec,
    CheckpointSpec,
    ComputeSpec,
    DataSpec,
    ModelSpec,
    OptimizerSpec,
    TrainSpec,
)

PARTITIONED: dict[str, Any] = {
    "hidden_size": 256,
    "vocab_size": 4096,
    "tie_word_embeddings": True,
}
"""A base with a weight above `engine.PERSISTENT`, which ZeRO-3 so cuts into parts; it is tied."""


def make_base(folder: Path, *, layers: int = 3, vocabulary: int = 400, **config: Any) -> Path:
    """Save a LLaMA of random weights with its tokenizer, as transformers does."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    texts = [t for e in load_examples(DataSpec("authored:howto")) for t in e.conversation]
    train_tokenizer(texts, vocabulary, folder)
    torch.manual_seed(0)
    shape: dict[str, Any] = {
        "vocab_size": len(AutoTokenizer.from_pretrained(folder)),
        "hidden_size": 32,
        "num_attention_heads": 4,
        "intermediate_size": 64,
        "max_position_embeddings": 256,
    }
    LlamaForCausalLM(LlamaConfig(num_hidden_layers=layers, **(shape | config))).save_pretrained(
        folder
    )
    return folder


def make_image_reader(folder: Path, *, context: int = 256) -> Path:
    """Save a Gemma 3 of random weights, whose configuration has a part for texts."""
    import torch
    from transformers import AutoTokenizer, Gemma3Config, Gemma3ForConditionalGeneration

    make_base(folder)  # its tokenizer
    (folder / "model.safetensors").unlink()
    torch.manual_seed(0)
    text = {
        "vocab_size": len(AutoTokenizer.from_pretrained(folder)),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "max_position_embeddings": context,
        "initializer_range": 0.3,
    }
    vision = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 28,
        "patch_size": 14,
    }
    config = Gemma3Config(text_config=text, vision_config=vision, mm_tokens_per_image=4)
    Gemma3ForConditionalGeneration(config).save_pretrained(folder)
    return folder


def small_cell(base: Path, **train: Any) -> CellSpec:
    """Return a training cell of few steps on `base`, on one CPU."""
    settings: dict[str, Any] = {
        "model": ModelSpec(str(base)),
        "data": DataSpec("authored:howto", count=10),
        "heldout": DataSpec("authored:dev", count=4),
        "epochs": 3,
        "batch_size": 4,
        "max_length": 128,
        "residual_dropout": 0.2,
        "optimizer": OptimizerSpec(lr_start=1e-3, lr_end=1e-4),
        "checkpoints": CheckpointSpec(first_epoch=2, last_epoch=3),
        "compute": ComputeSpec(
            workers=1,
            device="cpu",
            precision="fp32",
            gradient_checkpointing=False,
            micro_batch_size=2,
        ),
    }
    return CellSpec("unit", "howto", 7, train=TrainSpec(**(settings | train)))
