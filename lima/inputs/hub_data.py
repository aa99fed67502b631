"""Data sets of a hub: `hub:OWNER/NAME[@REVISION][#[CONFIG/]SPLIT]` as files of this machine."""

import glob
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lima.errors import DataError, HubError, InputError, LimaError
from lima.inputs.example_names import EXAMPLES, is_example_file
from lima.inputs.hub import ANSWER_S, cache_of, cached_commit
from lima.inputs.hub_splits import HubData, chosen, configs_of, parsed_path

CARD = "README.md"
_PART = re.compile(r"-\d{5}(-of-\d{5})")
"""Of the name of a file that is one of several."""


def hub_files(path: str) -> dict[str, str]:
    """Return the files of a split: name in the repository to where it lies here, in their order.

    They are fetched once into the cache that `huggingface_hub` keeps; where the hub may not be
    asked or does not answer, what that cache has is taken.

    Raises:
        DataError: there is no such data set or split, or it may not be read.
        HubError: the hub does not answer, and the data set is not in the cache.

    """
    folder, names = _fetch(parsed_path(path), path)
    return {name: str(folder / name) for name in names}


def _chosen(listed: Sequence[str], folder: Path, data: HubData, path: str) -> list[str]:
    """Return the files of a split among all files of a repository.

    Raises:
        DataError: there are none, or not all of them are there.

    """
    names = [name for name in listed if is_example_file(name)]
    found = chosen(names, configs_of(_card(folder)), data)
    if not found:
        raise DataError(
            f"{path}: no files of a split {data.split!r} among those that are read "
            f"({', '.join(EXAMPLES)}); of such files it has {_listed(names)}"
        )
    parts = Counter(_PART.sub(r"-\1", name) for name in found if _PART.search(name))
    for name, count in parts.items():
        all_of_it = int(name.rpartition("-of-")[2][:5])
        if count < all_of_it:
            raise DataError(
                f"{path}: {count} of {all_of_it} files of {name} are here, and the hub does not "
                "answer; fetch the others with a network"
            )
    return found


def _card(folder: Path) -> str:
    try:
        return (folder / CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:5])
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown or "none"


def _fetch(data: HubData, path: str) -> tuple[Path, list[str]]:
    """Return the folder of a data set in the cache of this machine, and the files of a split."""
    try:
        return _asked(data, path)
    except HubError:
        folder = _cached_folder(data)
        if folder is None:
            raise
        names = [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()]
        return folder, _chosen(names, folder, data, path)


def _asked(data: HubData, path: str) -> tuple[Path, list[str]]:
    """Ask the hub, and fetch what this machine lacks."""
    try:
        from huggingface_hub import HfApi, errors
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: reading a data set of a hub needs huggingface_hub; install lima-k8s[jobs]"
        ) from None
    try:
        about = HfApi().dataset_info(data.name, revision=data.revision, timeout=ANSWER_S)
        folder = _snapshot(data, [CARD])
        found = _chosen([file.rfilename for file in about.siblings or ()], folder, data, path)
        return _snapshot(data, found), found
    except LimaError:
        raise
    except errors.GatedRepoError:
        raise DataError(
            f"{path}: its owner lets some people read it: accept its terms at the hub, and set "
            "HF_TOKEN"
        ) from None
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.HFValidationError,
    ):
        raise DataError(
            f"{path}: the hub has no such data set or revision, or not for you; private ones need "
            "HF_TOKEN"
        ) from None
    except Exception as error:  # its client has errors of its own, by version
        raise HubError(
            f"{path}: the hub does not answer ({error}), and its data set is not in the cache of "
            "this machine; fetch it with a network, or name a file of yours"
        ) from error


def _snapshot(data: HubData, names: Sequence[str]) -> Path:
    """Fetch some files; return the folder where they lie."""
    from huggingface_hub import snapshot_download

    patterns = [glob.escape(name) for name in names]
    return Path(
        snapshot_download(
            data.name, repo_type="dataset", revision=data.revision, allow_patterns=patterns
        )
    )


def _cached_folder(data: HubData) -> Path | None:
    commit = cached_commit(data.name, data.revision, "datasets")
    folder = cache_of(data.name, "datasets") / "snapshots" / (commit or "")
    return folder if commit and folder.is_dir() else None
