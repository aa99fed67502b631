"""A study by what it changes of another one, in a few lines.

extends: tiny                                  # a recipe, or a file
experiment: mine                               # the study's name; that of the recipe without it
set: {train.data.path: mine.jsonl}             # for every run
arms: {short: {train.data.count: 32}, all: {}} # for an arm, on top
seeds: [0, 1]
extensions: [mine.py]                          # Python files of the study's own
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from lima.errors import SpecError
from lima.recipes.overrides import Override, changed, meant_for, overrides_of
from lima.spec import CellSpec, ExtensionSpec, used_extensions
from lima.spec.codec import unknown_key

Recipes: TypeAlias = Callable[[str], Sequence[CellSpec]]
"""Returns the runs of a recipe, or of a file; raises SpecError if there is neither."""
KEYS = ("extends", "experiment", "set", "arms", "seeds", "extensions")


def extended(
    document: Mapping[str, Any], name: str, recipe: Recipes, extensions: Sequence[str] = ()
) -> tuple[CellSpec, ...]:
    """Return the runs of a study that extends another one.

    With `arms`, each is the first run of the other study with the arm's settings; without, the
    arms of the other study stay. With `seeds`, each arm has these; without, its own.

    Args:
        document: The file.
        name: Of the file, for messages.
        recipe: Returns the runs of what it extends.
        extensions: Python files whose names it may have beside those that it lists.

    Raises:
        SpecError: a key is unknown, or a value is none.

    """
    for key in document:
        if key not in KEYS:
            raise unknown_key(str(key), KEYS, name)
    listed = _extensions(document.get("extensions"), f"{name}: extensions")
    parents = [
        with_extensions(cell, listed) for cell in _parents(document["extends"], name, recipe)
    ]
    common = _overrides(document.get("set"), f"{name}: set")
    if "experiment" in document:
        common = [Override(("experiment",), document["experiment"]), *common]
    arms = _arms(document.get("arms"), parents, f"{name}: arms")
    seeds = _seeds(document.get("seeds"), f"{name}: seeds")
    return tuple(
        changed(cell, [*meant_for(cell, common, parents), *own], name, extensions)
        for first, own in arms
        for cell in _seeded(first, parents, seeds)
    )


def with_extensions(cell: CellSpec, paths: Sequence[str]) -> CellSpec:
    """Return a cell with these Python files too; one takes the place of another of its name."""
    there = {extension.path for extension in cell.extensions}
    new = [ExtensionSpec(path) for path in dict.fromkeys(paths) if path not in there]
    names = {extension.package for extension in new}
    kept = [extension for extension in cell.extensions if extension.package not in names]
    return replace(cell, extensions=(*kept, *new))


def require_consent(cells: Sequence[CellSpec], named: Sequence[str]) -> None:
    """Refuse to run Python files that a study lists and that whoever reads it has not named.

    A study may come from somebody else: to look at it must run nothing of theirs.

    Raises:
        SpecError: a file that a run uses is not among `named`.

    """
    used = {e.path: None for cell in cells for e in used_extensions(cell).extensions}
    if unasked := [path for path in used if path not in named]:
        options = " ".join(f"--extension {path}" for path in unasked)
        raise SpecError(
            f"extensions: this study brings Python files, which would run with your rights: "
            f"{', '.join(unasked)}; once you have read them, name them: {options} (in Python: "
            "extensions=[…])"
        )


def _extensions(paths: object, where: str) -> list[str]:
    if paths is None:
        return []
    if not isinstance(paths, list) or not all(isinstance(p, str) and p for p in paths):
        raise SpecError(f"{where}: expected a list of files, as [mine.py], got {paths!r}")
    return paths


def _parents(extends: object, name: str, recipe: Recipes) -> Sequence[CellSpec]:
    if not isinstance(extends, str):
        raise SpecError(
            f"{name}: extends: expected the name of a recipe or a file, got {extends!r}"
        )
    try:
        return recipe(extends)
    except SpecError as error:
        raise SpecError(f"{name}: extends: {error}") from None


def _arms(
    arms: object, parents: Sequence[CellSpec], where: str
) -> list[tuple[CellSpec, list[Override]]]:
    """Return a run of each arm, and what is to be changed in it."""
    if arms is None:
        nothing: list[Override] = []
        return [(cell, nothing) for cell in reversed({c.arm: c for c in parents[::-1]}.values())]
    if not isinstance(arms, dict) or not arms:
        raise SpecError(f"{where}: expected a mapping of names to settings, got {arms!r}")
    return [
        (
            parents[0],
            [Override(("arm",), str(arm)), *_overrides(settings, f"{where}.{arm}")],
        )
        for arm, settings in arms.items()
    ]


def _overrides(settings: object, where: str) -> list[Override]:
    return [] if settings is None else overrides_of(settings, where)


def _seeds(seeds: object, where: str) -> list[int] | None:
    if seeds is None:
        return None
    if not isinstance(seeds, list) or not seeds or not all(type(seed) is int for seed in seeds):
        raise SpecError(f"{where}: expected a list of whole numbers, as [0, 1], got {seeds!r}")
    return seeds


def _seeded(
    first: CellSpec, parents: Sequence[CellSpec], seeds: list[int] | None
) -> list[CellSpec]:
    """Return the runs of an arm."""
    if seeds is None:
        return [cell for cell in parents if cell.arm == first.arm]
    return [replace(first, seed=seed) for seed in seeds]
