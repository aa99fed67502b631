"""Tokenizers built as those of model families are, small: made, not downloaded."""

import json
from pathlib import Path
from typing import Any

from lima.data.examples import load_examples
from lima.spec import DataSpec

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text into words; Qwen's differs in its digits."""
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]

FAMILIES: dict[str, dict[str, str]] = {
    # kind of text, class of the tokenizer in its settings, kind of model, special tokens
    "llama": {"kind": "first", "class": "LlamaTokenizer", "model": "llama"},
    "llama-as-its-file-says": {
        "kind": "prepend",
        "class": "PreTrainedTokenizerFast",
        "model": "llama",
    },
    "mistral": {"kind": "first", "class": "LlamaTokenizer", "model": "mistral"},
    "gemma": {
        "kind": "gemma",
        "class": "GemmaTokenizer",
        "model": "gemma2",
        "bos": "<bos>",
        "eos": "<eos>",
        "pad": "<pad>",
    },
    "llama-3": {
        "kind": "bytes",
        "class": "PreTrainedTokenizerFast",
        "model": "llama",
        "bos": "<|begin_of_text|>",
        "eos": "<|end_of_text|>",
        "pad": "<|pad|>",
    },
    "qwen": {
        "kind": "nfc",
        "class": "Qwen2Tokenizer",
        "model": "qwen2",
        "bos": "",
        "eos": "<|endoftext|>",
        "pad": "<|pad|>",
    },
    "opt": {
        "kind": "prefixed",
        "class": "PreTrainedTokenizerFast",
        "model": "llama",
        "bos": "<s>",
        "eos": "</s>",
        "pad": "<pad>",
    },
    "smollm": {
        "kind": "digits",
        "class": "GPT2Tokenizer",
        "model": "llama",
        "bos": "<|im_start|>",
        "eos": "<|im_end|>",
        "pad": "<|pad|>",
    },
}


def make_tokenizer(family: str, folder: Path) -> Path:
    """Save a tokenizer of a family where `AutoTokenizer` loads it as a user's."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {"bos": "<s>", "eos": "</s>", "pad": ""} | FAMILIES[family]
    special = [token for token in ("<unk>", about["bos"], about["eos"], about["pad"]) if token]
    texts = [t for e in load_examples(DataSpec("authored:howto")) for t in e.conversation]
    state = _trained(about["kind"], special, texts)
    # As in the files that LLaMA came with: found after normalization.
    for token in state["added_tokens"]:
        token["normalized"] = about["kind"] == "prepend"
    (folder / "tokenizer.json").write_text(json.dumps(state), "utf-8")
    settings: dict[str, Any] = {"tokenizer_class": about["class"], "unk_token": "<unk>"}
    settings |= {f"{role}_token": about[role] or None for role in ("bos", "eos", "pad")}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    (folder / "config.json").write_text(json.dumps({"model_type": about["model"]}), "utf-8")
    return folder


def _trained(kind: str, special: list[str], texts: list[str]) -> dict[str, Any]:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    words = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    digits = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    replace = normalizers.Replace(" ", "▁")
    by_kind: dict[str, tuple[Any, Any]] = {
        "first": (None, pre_tokenizers.Metaspace("▁", "first", split=False)),
        "prepend": (normalizers.Sequence([normalizers.Prepend("▁"), replace]), None),
        "gemma": (replace, pre_tokenizers.Split(" ", "merged_with_previous")),
        "bytes": (None, pre_tokenizers.Sequence([words, byte_level])),
        "nfc": (normalizers.NFC(), pre_tokenizers.Sequence([words, byte_level])),
        "digits": (None, digits),
        "prefixed": (None, pre_tokenizers.ByteLevel(add_prefix_space=True)),
    }
    normalizer, pre_tokenizer = by_kind[kind]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))
    plain = kind in ("first", "prepend", "gemma")
    # Sentences as words, so that training is quick; no word holds a ▁ but at its beginning.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always") if plain else pre_tokenizer
    alphabet = [] if plain else pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if plain:
        steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        strip = [] if kind == "gemma" else [decoders.Strip(" ", 1, 0)]
        tokenizer.decoder = decoders.Sequence([*steps, *strip])
    else:
        tokenizer.decoder = decoders.ByteLevel()
    state: dict[str, Any] = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
        state["pre_tokenizer"] = json.loads(tokenizer.to_str())["pre_tokenizer"]
    if plain:
        vocabulary = state["model"]["vocab"]
        vocabulary.update({byte: len(vocabulary) + i for i, byte in enumerate(BYTES)})
        state["model"]["byte_fallback"] = True
    return state
