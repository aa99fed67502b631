"""Models that bring code with them, which is never run: their makers would run it as this user."""

import contextlib
from pathlib import Path
from typing import Any

from lima.errors import ModelError

CONFIGURATIONS = ("config.json", "tokenizer_config.json")
CODE = "auto_map"
"""What a configuration says under which the code is that it needs."""
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
SAFE = ".safetensors"


def refuse_code(path: str, revision: str | None = None) -> None:
    """Say why a model that could not be loaded cannot be, if it is for the code in it.

    Args:
        path: Folder of the model, or its name on the hub.
        revision: Of the hub's model.

    Raises:
        ModelError: it needs code of its own, or its weights are pickled, which is code too.

    """
    if any(CODE in _configuration(path, name, revision) for name in CONFIGURATIONS):
        raise ModelError(
            f"{path}: this model needs code that comes with it, and such code is never run; name "
            "one whose architecture transformers has"
        )
    files = [f for f in Path(path).iterdir() if f.is_file()] if Path(path).is_dir() else []
    pickled = sorted(f.name for f in files if f.suffix in PICKLED)
    if pickled and not any(f.suffix == SAFE for f in files):
        raise ModelError(
            f"{path}: its weights are pickled ({pickled[0]}): whoever made the file could run code "
            "here, so it is never opened; save the model as safetensors, which is transformers' "
            "default, and name that"
        )


def _configuration(path: str, name: str, revision: str | None) -> dict[str, Any]:
    """Return a configuration as it is saved; empty if there is none."""
    from transformers import PretrainedConfig

    with contextlib.suppress(Exception):  # it has been said that the model cannot be loaded
        found, _ = PretrainedConfig.get_config_dict(
            path, revision=revision, _configuration_file=name
        )
        return dict(found)
    return {}
