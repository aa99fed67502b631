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
SAVE_SAFELY = "save the model as safetensors, which is transformers' default, and name that"


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
    if pickled := pickled_weights(Path(path)):
        raise ModelError(
            f"{path}: its weights are pickled ({pickled}): whoever made the file could run code "
            f"here, so it is never opened; {SAVE_SAFELY}"
        )


def pickled_weights(folder: Path) -> str:
    """Return a file of a model that has pickled weights alone; empty: it has others, or none."""
    files = [f for f in folder.iterdir() if f.is_file()] if folder.is_dir() else []
    pickled = sorted(f.name for f in files if f.suffix in PICKLED)
    return "" if any(f.suffix == SAFE for f in files) else next(iter(pickled), "")


def _configuration(path: str, name: str, revision: str | None) -> dict[str, Any]:
    """Return a configuration as it is saved; empty if there is none."""
    from transformers import PretrainedConfig

    with contextlib.suppress(Exception):  # it has been said that the model cannot be loaded
        found, _ = PretrainedConfig.get_config_dict(
            path, revision=revision, _configuration_file=name
        )
        return dict(found)
    return {}
