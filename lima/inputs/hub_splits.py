"""Which files of a data set of a hub make a split, as `datasets` has it.

From `configs` in the head of the card, else from the word of the split in the names of the files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.errors import DataError, InputError
from lima.inputs.example_names import EXAMPLES, HUB
from lima.inputs.hub import DEFAULT_REVISION

TRAIN, DEFAULT = "train", "default"
"""The split and the config that a path without one means."""
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What splits are called in the names of files."""
SHOWN = 5
"""Names that an error shows."""
_PATH = re.compile(r"(?P<name>[^@#/]+/[^@#/]+)(@(?P<revision>[^@#]+))?(#(?P<split>[^@#]+))?")

Config = Mapping[str, Any]
"""What the head of a card says of the files of a config."""


@dataclass(frozen=True)
class HubData:
    """A split of a data set of a hub."""

    name: str
    revision: str = DEFAULT_REVISION
    split: str = TRAIN
    config: str | None = None


def parsed_path(path: str) -> HubData:
    """Return what a path means.

    Raises:
        InputError: it has another form.

    """
    match = _PATH.fullmatch(path.removeprefix(HUB))
    if not match:
        raise InputError(f"{path}: write {HUB}OWNER/NAME, with @REVISION or #SPLIT after it")
    config, _, split = (match["split"] or TRAIN).rpartition("/")
    return HubData(match["name"], match["revision"] or DEFAULT_REVISION, split, config or None)


def chosen(names: Sequence[str], configs: Sequence[Config], data: HubData, path: str) -> list[str]:
    """Return the files of a split, sorted.

    Args:
        names: All files of examples of a repository.
        configs: Of its card; none: the card says nothing of files.
        data: The split that is wanted.
        path: What errors call it.

    Raises:
        DataError: there is no such config or split, or it is not told which config is meant.

    """
    config = _config(configs, data, path)
    folder = str(config.get("data_dir") or "").strip("./") if configs else data.config
    below = [name for name in names if not folder or name.startswith(f"{folder}/")]
    if config.get("data_files"):
        found = _by_patterns(below, config, data, folder or "", path)
    else:
        found = _by_names(below, folder or "", data.split)
    if not found:
        kinds = ", ".join(EXAMPLES)
        raise DataError(
            f"{path}: no files of a split {data.split!r} among those that are read ({kinds}); of "
            f"such files it has {_listed(below)}"
        )
    return sorted(found)


def configs_of(card: str) -> list[Config]:
    """Return what the head of a card says of the files of each config."""
    import yaml

    head = card.split("\n---", 1)[0].removeprefix("---") if card.startswith("---") else ""
    try:
        found = yaml.safe_load(head)
    except yaml.YAMLError:
        return []
    configs = found.get("configs") if isinstance(found, dict) else None
    return [c for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []


def _config(configs: Sequence[Config], data: HubData, path: str) -> Config:
    """Return the config that is meant; an empty one where the card names none."""
    if not configs:
        return {}
    by_name = {str(c.get("config_name", DEFAULT)): c for c in configs}
    if data.config is not None:
        if data.config not in by_name:
            raise DataError(f"{path}: no config {data.config!r}; it has {_listed([*by_name])}")
        return by_name[data.config]
    marked = next((c for c in configs if c.get("default")), by_name.get(DEFAULT))
    if marked is not None or len(by_name) == 1:
        return marked or configs[0]
    raise DataError(
        f"{path}: it has several configs, {_listed([*by_name])}; say which: "
        f"{HUB}{data.name}#CONFIG/{data.split}"
    )


def _by_patterns(
    names: Sequence[str], config: Config, data: HubData, folder: str, path: str
) -> list[str]:
    from fsspec.utils import glob_translate

    by_split: dict[str, list[str]] = {}
    for split, pattern in _entries(config["data_files"]):
        by_split.setdefault(split, []).append(f"{folder}/{pattern}" if folder else pattern)
    if data.split not in by_split:
        raise DataError(f"{path}: no split {data.split!r}; it has {_listed([*by_split])}")
    patterns = [re.compile(glob_translate(pattern)) for pattern in by_split[data.split]]
    return [name for name in names if any(p.fullmatch(name) for p in patterns)]


def _entries(files: Any) -> Iterator[tuple[str, str]]:
    """Yield (split, pattern) of what a card says: a pattern, a list, or a list by splits."""
    for entry in files if isinstance(files, list) else [files]:
        known = entry if isinstance(entry, dict) else {"split": TRAIN, "path": entry}
        found = known.get("path")
        for pattern in found if isinstance(found, list) else [found]:
            if isinstance(pattern, str):
                yield str(known.get("split", TRAIN)), pattern.removeprefix("./")


def _by_names(names: Sequence[str], folder: str, split: str) -> list[str]:
    """Return the files with the word of a split in their names below a folder."""
    below = {name: name.removeprefix(folder).lstrip("/") for name in names}
    found = [name for name, short in below.items() if _is_of(short, split)]
    if found or split != TRAIN:
        return found
    return [n for n, short in below.items() if not any(_is_of(short, s) for s in SPLITS)]


def _is_of(name: str, split: str) -> bool:
    """Say whether a split's word stands in the name of a file or of its folders."""
    words = re.split(r"[^a-z]+", name.lower())
    return split in re.split(r"[-/.]", name) or any(w in words for w in SPLITS.get(split, ()))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(sorted(names)[:SHOWN])
    return f"{shown} and {len(names) - SHOWN} more" if len(names) > SHOWN else shown or "none"
