"""Saved models that transformers 4 opens as well as transformers 5, which writes them.

What 5 writes, 4.57 refuses (lists of special tokens, classes of tokenizers) or, worse, passes over
(positions: it would read a model of Llama 3.1 with the default ones). Both read what is added here.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

OLDEST = "4.57"
TOKENIZER_CLASS = "PreTrainedTokenizerFast"
"""Of both: it takes tokenizer.json as it is. Classes of families build tokenizers of their own."""
LEFT_OUT = (
    *("backend", "is_local", "local_files_only"),  # of the process that saved it
    # What classes of families build from; tokenizer.json has all of it.
    *("add_prefix_space", "legacy", "from_slow", "sp_model_kwargs", "use_default_system_prompt"),
)


def make_portable(folder: Path) -> bool:
    """Say in the files of a saved model what transformers 4 looks for; return whether it will do.

    It does not know positions that differ between kinds of layers.
    """
    if (folder / "tokenizer.json").is_file():
        _edit(folder / "tokenizer_config.json", _tokenizer)
    return _edit(folder / "config.json", _positions)


def _edit(file: Path, change: Callable[[dict[str, Any]], bool]) -> bool:
    content = json.loads(file.read_text("utf-8"))
    done = change(content)
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    file.write_text(f"{text}\n", "utf-8")
    return done


def _tokenizer(config: dict[str, Any]) -> bool:
    for name in LEFT_OUT:
        config.pop(name, None)
    if isinstance(config.get("extra_special_tokens"), list):
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    config |= {"tokenizer_class": TOKENIZER_CLASS, "clean_up_tokenization_spaces": False}
    return True


def _positions(config: dict[str, Any]) -> bool:
    rope = config.get("rope_parameters")
    if not rope:
        return True
    if "rope_type" not in rope:  # by kind of layer
        return False
    beside = ("rope_theta", "partial_rotary_factor")
    config |= {name: rope[name] for name in beside if rope.get(name) is not None}
    if rope["rope_type"] != "default":
        config["rope_scaling"] = {k: v for k, v in rope.items() if k not in beside}
    return True
