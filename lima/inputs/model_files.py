"""Which files of a saved model are read."""

from collections.abc import Collection
from pathlib import PurePosixPath

OTHER_WEIGHTS = {
    ".bin",
    ".pt",
    ".pth",
    ".ckpt",
    ".h5",
    ".msgpack",
    ".gguf",
    ".ggml",
    ".onnx",
    ".tflite",
    ".ot",
}
"""Formats that hold the same weights once more, beside safetensors."""

GGUF = ".gguf"
"""A whole model as one file, of llama.cpp."""


def is_gguf(path: str) -> bool:
    """Say whether a path names a GGUF file."""
    return path.lower().endswith(GGUF)


def needed_files(names: Collection[str]) -> set[str]:
    """Return what transformers reads of a saved model: its weights once, and all that is small."""
    paths = {name: PurePosixPath(name) for name in names}
    tensors = {name for name, path in paths.items() if path.suffix == ".safetensors"}
    if not tensors:
        return set(names)
    # Mistral's own layout lies beside that of transformers.
    doubles = {name for name in tensors if paths[name].name.startswith("consolidated")}
    if doubles == tensors:
        doubles = set()
    return {n for n, path in paths.items() if path.suffix not in OTHER_WEIGHTS} - doubles
