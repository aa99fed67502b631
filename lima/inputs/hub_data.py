"""Data sets of a hub: `hub:OWNER/NAME[@REVISION][#[CONFIG/]SPLIT]` as files of this machine."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lima.errors import DataError, HubError, InputError, LimaError
from lima.inputs.example_names import is_example_file
from lima.inputs.hub_splits import HubData, chosen, configs_of, parsed_path

CARD = "README.md"
ALWAYS_THERE = ".gitattributes"


def hub_files(path: str) -> dict[str, str]:
    """Return the files of a split: name in the repository to where it lies here, in their order.

    They are of one commit, fetched once into the cache that `huggingface_hub` keeps; where the hub
    may not be asked or does not answer, what that cache has of it is taken, if it is all there.

    Raises:
        InputError: the path has another form, or `huggingface_hub` is not installed.
        DataError: there is no such data set or split, or it may not be read.
        HubError: the hub does not answer, and the cache lacks something.

    """
    folder, names = _fetched(parsed_path(path), path)
    return {name: str(folder / name) for name in names}


def _fetched(data: HubData, path: str) -> tuple[Path, list[str]]:
    """Return the folder of a data set in the cache, and the files of a split, which are there."""
    try:
        from huggingface_hub import errors, get_cached_repo_tree
    except ModuleNotFoundError:
        raise InputError(
            f"{path}: reading a data set of a hub needs huggingface_hub; install lima-k8s[jobs]"
        ) from None
    try:
        folder = _snapshot(data.name, data.revision, [CARD, ALWAYS_THERE])
        listed = get_cached_repo_tree(data.name, repo_type="dataset", revision=folder.name)
        names = [file.path for file in listed if is_example_file(file.path)]
        found = chosen(names, configs_of(_card(folder)), data, path)
        return _snapshot(data.name, folder.name, found), found
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
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        raise HubError(
            f"{path}: the hub does not answer ({reason}), and not all of the data set is in the "
            "cache of this machine; fetch it with a network, or name a file of yours"
        ) from error


def _snapshot(name: str, revision: str, files: Sequence[str]) -> Path:
    """Fetch some files of a repository; return the folder of its commit, which they are in."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import tqdm

    class ForPeople(tqdm):
        """Progress on terminals alone."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **{**options, "disable": None})  # type: ignore[no-untyped-call]

    found = snapshot_download(
        name,
        repo_type="dataset",
        revision=revision,
        allow_patterns=[glob.escape(file) for file in files],
        tqdm_class=ForPeople,
    )
    return Path(found)


def _card(folder: Path) -> str:
    try:
        return (folder / CARD).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
