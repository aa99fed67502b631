"""Exported weights: a folder per epoch that transformers opens, and a manifest that commits it.

STORAGE/checkpoints/run_id=R/weights/epoch=05/{config.json, model.safetensors, …}
STORAGE/checkpoints/run_id=R/weights/epoch=05.json
"""

import json
from pathlib import Path

from lima.storage import Storage


def checkpoints_path(run: str) -> str:
    """Return the folder of a run's checkpoints."""
    return f"checkpoints/run_id={run}"


def weights_path(run: str, epoch: int) -> str:
    """Return the folder of the weights after an epoch."""
    return f"{checkpoints_path(run)}/weights/epoch={epoch:02d}"


def weights_epochs(storage: Storage, run: str) -> list[int]:
    """Return the epochs whose weights are complete, in order."""
    folder = f"{checkpoints_path(run)}/weights"
    names = [entry.path.removeprefix(f"{folder}/") for entry in storage.entries(folder)]
    manifests = [n for n in names if "/" not in n and n.endswith(".json")]
    return sorted(int(n.removeprefix("epoch=").removesuffix(".json")) for n in manifests)


def commit_weights(storage: Storage, run: str, epoch: int, folder: Path) -> None:
    """Copy a folder of weights to storage; it counts once its manifest is there."""
    path = weights_path(run, epoch)
    files = {e.path.removeprefix(f"{path}/"): e.size for e in storage.upload_folder(folder, path)}
    storage.write(f"{path}.json", json.dumps({"files": files}, indent=1).encode())
