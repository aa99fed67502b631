"""Reads DeepSpeed's files of a saved state as tensors and plain values, never as code.

They are pickles. Whoever can write to storage can plant another one, with a manifest that fits.
"""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from lima.errors import LimaError


def trusted_types() -> list[Any]:
    """Return the classes, beside torch's own for tensors, that DeepSpeed puts into its files."""
    from deepspeed.runtime.fp16.loss_scaler import DynamicLossScaler, LossScaler
    from deepspeed.runtime.zero.config import ZeroStageEnum

    return [DynamicLossScaler, LossScaler, ZeroStageEnum]


def foreign_types(file: Path) -> list[str]:
    """Return what a file names that no state of ours does; nothing of it is run."""
    trusted = {f"{kind.__module__}.{kind.__qualname__}" for kind in trusted_types()}
    try:
        return sorted({*torch.serialization.get_unsafe_globals_in_checkpoint(file)} - trusted)
    except (ValueError, RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile):
        return ["no file of torch"]


def read_no_code(engine: Any) -> None:
    """Let a DeepSpeed engine load states with torch's reader that runs nothing they say."""
    from deepspeed.runtime.checkpoint_engine import TorchCheckpointEngine

    class TensorsOnly(TorchCheckpointEngine):  # type: ignore[misc]
        def load(self, path: str, map_location: Any = None) -> Any:
            try:
                with torch.serialization.safe_globals(trusted_types()):
                    return torch.load(path, map_location=map_location, weights_only=True)
            except pickle.UnpicklingError as error:
                # The others wait for this worker in a collective: only a failure ends that.
                raise LimaError(f"{Path(path).name}: not read, it may hold code") from error

    engine.checkpoint_engine = TensorsOnly(engine._config)
