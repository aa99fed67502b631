"""Models of a hub: whether they can be had, before anything waits for them."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from lima.common.paths import PACKAGE, is_here
from lima.errors import HubError, ModelError
from lima.model.checkpoint_manifest import completion_path
from lima.model.loading import RUN, SCRATCH
from lima.spec import CellSpec, ModelSpec, Stage, computes, stage_cell
from lima.spec.codec import run_id
from lima.store.shards import RunTable
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS

CONFIG = "config.json"
WHOLE = ("model.safetensors", "pytorch_model.bin")
"""Weights in one file; of several files an index tells, named like it."""
TIMEOUT_S = 10.0


def require_models(cells: Iterable[CellSpec], storage: Storage) -> None:
    """Refuse cells that start from a model of a hub which cannot be had now.

    Stages that have results are not looked at: their models were there.

    Raises:
        ModelError: there is no such model, or it may not be read, or the hub may not be asked.
        HubError: the hub does not answer, and the model is not in the cache of this machine.

    """
    wanted = {model: stage for cell in cells for stage, model in _of_hubs(cell, storage)}
    for model, stage in wanted.items():
        if not _is_cached(model):
            _ask(model, f"--set {stage}.model.path=FOLDER")


def _of_hubs(cell: CellSpec, storage: Storage) -> Iterator[tuple[Stage, ModelSpec]]:
    for stage in computes(cell):
        model: ModelSpec = getattr(cell, stage).model
        elsewhere = model.path == SCRATCH or model.path.startswith((RUN, PACKAGE, ".", "/", "~"))
        if elsewhere or "://" in model.path or is_here(model.path):
            continue
        if not _has_results(cell, stage, storage):
            yield stage, model


def _has_results(cell: CellSpec, stage: Stage, storage: Storage) -> bool:
    if stage == "generate":
        return bool(RunTable(storage, GENERATIONS, stage_cell(cell, stage)).shards())
    return storage.exists(completion_path(run_id(cell, stage)))


def _is_cached(model: ModelSpec) -> bool:
    """Say whether this machine has a model's settings and all of its weights."""
    if _cached(model, CONFIG) is None:
        return False
    for name in WHOLE:
        if _cached(model, name):
            return True
        if index := _cached(model, f"{name}.index.json"):
            parts = set(json.loads(index.read_text("utf-8")).get("weight_map", {}).values())
            return all(_cached(model, part) for part in parts)
    return False


def _cached(model: ModelSpec, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(model.path, name, revision=model.revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def _ask(model: ModelSpec, advice: str) -> None:
    """Ask the hub for a model's settings; a few hundred bytes go over the wire."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_url

    fix = f"name a folder that holds the model: {advice}"
    try:
        url = hf_hub_url(model.path, CONFIG, revision=model.revision)
        get_hf_file_metadata(url, timeout=TIMEOUT_S)
    except errors.OfflineModeIsEnabled:
        raise ModelError(
            f"{model.path}: neither a folder here nor in the hub's cache, and HF_HUB_OFFLINE keeps "
            f"the hub from being asked; {fix}"
        ) from None
    except errors.GatedRepoError:
        raise ModelError(
            f"{model.path}: the hub gives it to those alone who accepted its terms; do so on its "
            f"page and set HF_TOKEN, or {fix}"
        ) from None
    except (errors.EntryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ModelError(f"{model.path}: {_first_line(error)}; {fix}") from None
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise ModelError(
            f"{model.path}: neither a folder here nor a model of the hub, as far as that tells "
            f"(HF_TOKEN opens those that are private); {fix}"
        ) from None
    except Exception as error:  # its client has errors of its own, by version
        raise HubError(
            f"{model.path}: the hub does not answer ({_first_line(error)}), and the model is not "
            f"in the cache of this machine; {fix}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
