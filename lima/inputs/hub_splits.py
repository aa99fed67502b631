"""Which files of a data set of a hub make a split: as `datasets` reads it.

From `configs` in the head of the card, else from the word of the split in the names of the files.
"""

import fnmatch
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.errors import InputError
from lima.inputs.example_names import HUB
from lima.inputs.hub import DEFAULT_REVISION

TRAIN = "train"
"""The split that a path without one means."""
SPLITS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""What splits are called in the names of files."""
_PATH = re.compile(r"(?P<name>[^@#/]+/[^@#/]+)(@(?P<revision>[^@#]+))?(#(?P<split>[^@#]+))?")


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


def chosen(names: Sequence[str], configs: Sequence[Mapping[str, Any]], data: HubData) -> list[str]:
    """Return the files of a split, sorted.

    Args:
        names: All files of examples of a repository.
        configs: What the head of its card says of them.
        data: The split that is wanted.

    """
    if patterns := _patterns(configs, data):
        return sorted(n for n in names if any(fnmatch.fnmatchcase(n, p) for p in patterns))
    if data.config:
        names = [name for name in names if name.startswith(f"{data.config}/")]
    of_split = sorted(name for name in names if _is_of(name, data.split))
    if of_split or data.split != TRAIN:
        return of_split
    return sorted(n for n in names if not any(_is_of(n, split) for split in SPLITS))


def _patterns(configs: Sequence[Mapping[str, Any]], data: HubData) -> list[str]:
    """Return the patterns of the names of a split's files; none where the card does not tell."""
    wanted = [c for c in configs if data.config in (None, c.get("config_name"))]
    first = next((c for c in wanted if c.get("default")), wanted[0] if wanted else {})
    files = first.get("data_files") or ()
    entries = files if isinstance(files, list) else [files]
    return [pattern for entry in entries for pattern in _of_entry(entry, data.split)]


def _of_entry(entry: Any, wanted: str) -> Iterator[str]:
    known = entry if isinstance(entry, dict) else {"split": TRAIN, "path": entry}
    split, path = known.get("split"), known.get("path")
    if split == wanted:
        yield from (p for p in (path if isinstance(path, list) else [path]) if isinstance(p, str))


def _is_of(name: str, split: str) -> bool:
    """Say whether a split's word stands in the name of a file or of its folders."""
    words = re.split(r"[^a-z]+", name.lower())
    return split in re.split(r"[-/.]", name) or any(w in words for w in SPLITS.get(split, ()))


def configs_of(card: str) -> list[dict[str, Any]]:
    """Return what the head of a card says of the files of each config."""
    import yaml

    head = card.split("\n---", 1)[0].removeprefix("---") if card.startswith("---") else ""
    try:
        found = yaml.safe_load(head)
    except yaml.YAMLError:
        return []
    configs = found.get("configs") if isinstance(found, dict) else None
    return [c for c in configs if isinstance(c, dict)] if isinstance(configs, list) else []
