"""Exported weights: a folder per epoch that transformers opens, and a manifest that commits it.

STORAGE/checkpoints/run_id=R/weights/epoch=05/{config.json, model-00001-of-00130.safetensors, …}
STORAGE/checkpoints/run_id=R/weights/epoch=05.json
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec

from lima.common.typed_json import DamagedJsonError, decoded
from lima.errors import ModelError, StorageError

if TYPE_CHECKING:
    from lima.store.storage import Storage

_MANIFEST = re.compile(r"epoch=(0[0-9]|[1-9][0-9]+)\.json")


class _Weights(msgspec.Struct):
    """The bytes of each file, by name."""

    files: Annotated[dict[str, Annotated[int, msgspec.Meta(ge=0)]], msgspec.Meta(min_length=1)]


def checkpoints_path(run: str) -> str:
    """Return the folder of a run's checkpoints."""
    return f"checkpoints/run_id={run}"


def weights_path(run: str, epoch: int) -> str:
    """Return the folder of the weights after an epoch."""
    return f"{checkpoints_path(run)}/weights/epoch={epoch:02d}"


def weights_epochs(storage: "Storage", run: str) -> list[int]:
    """Return the epochs whose weights are complete, in order; other names are no manifests."""
    folder = f"{checkpoints_path(run)}/weights"
    names = [entry.path.removeprefix(f"{folder}/") for entry in storage.entries(folder)]
    return sorted(int(found[1]) for name in names if (found := _MANIFEST.fullmatch(name)))


def check_weights(storage: "Storage", run: str, epoch: int) -> None:
    """Refuse exported weights of which a file is missing or cut short.

    Raises:
        ModelError: it says which file, and what to generate from instead.

    """
    path = weights_path(run, epoch)
    there = {e.path.removeprefix(f"{path}/"): e.size for e in storage.entries(path)}
    try:
        files = decoded(storage.read(f"{path}.json"), _Weights).files
    except DamagedJsonError as error:
        raise _damaged(storage, run, epoch, f"its manifest cannot be read: {error}") from None
    for name, size in files.items():
        if there.get(name) != size:
            raise _damaged(storage, run, epoch, f"{name} has {there.get(name, 0)} of {size} bytes")


def _damaged(storage: "Storage", run: str, epoch: int, reason: str) -> ModelError:
    others = [e for e in weights_epochs(storage, run) if e != epoch]
    return ModelError(
        f"{storage.uri}/{weights_path(run, epoch)}: damaged weights ({reason}); use another epoch "
        f"(generate.model.epoch; exported: {others}), or delete {storage.uri}/"
        f"{checkpoints_path(run)} and train again"
    )


@contextlib.contextmanager
def local_files(folder: Path) -> Iterator[None]:
    """Explain a failure to write temporary files: torch and safetensors name no path.

    Raises:
        StorageError: the files could not be written.

    """
    try:
        yield
    except Exception as error:
        if not _is_about_writing(error):
            raise
        raise StorageError(
            f"cannot write temporary files to {folder}: {' '.join(str(error).split())}; free some "
            "space there, or set TMPDIR to a larger place, then start the same command again"
        ) from error


def _is_about_writing(error: Exception) -> bool:
    from safetensors import SafetensorError

    # torch's writer of files raises a RuntimeError that names its source file or its stream.
    of_torch = any(word in str(error) for word in ("inline_container", "iostream"))
    return isinstance(error, OSError | SafetensorError) or of_torch


def commit_weights(storage: "Storage", run: str, epoch: int, files: dict[str, int]) -> None:
    """Say that the weights of an epoch are whole: `files` are the bytes of each, by name."""
    content = json.dumps({"files": dict(sorted(files.items()))}, indent=1)
    storage.write(f"{weights_path(run, epoch)}.json", content.encode(), replace=True)


def completion_path(run: str) -> str:
    """Return where the mark lies that says that a training run is complete."""
    return f"{checkpoints_path(run)}/complete.json"


def mark_complete(storage: "Storage", run: str, steps: int) -> None:
    """Say that all steps are done and all rows and weights are on storage."""
    storage.write(completion_path(run), json.dumps({"steps": steps}).encode())
