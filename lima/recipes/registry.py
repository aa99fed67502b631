"""Studies by name or file: all recipes, and how one is read and changed."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lima.common.paths import expanded
from lima.errors import SpecError
from lima.recipes.curation import curate_ablations, curate_alpaca, curate_lima, curate_small
from lima.recipes.demo import smol, tiny
from lima.recipes.extending import extended, with_extensions
from lima.recipes.overrides import apply_overrides
from lima.recipes.paper import (
    ablations_7b,
    alpaca_65b,
    dialogue_65b,
    lima_65b,
    structure_65b,
)
from lima.recipes.study_file import read_study
from lima.spec import CellSpec
from lima.spec.codec import shortened
from lima.spec.hints import closest

Recipe = Callable[[], tuple[CellSpec, ...]]

RECIPES: dict[str, Recipe] = {
    recipe.__name__: recipe
    for recipe in (
        *(lima_65b, alpaca_65b, ablations_7b, dialogue_65b, structure_65b),
        *(smol, tiny),
        *(curate_lima, curate_ablations, curate_alpaca, curate_small),
    )
}


def describe(recipe: Recipe) -> str:
    """Return what a recipe is, in one line."""
    return (recipe.__doc__ or "").split("\n", 1)[0]


def load_study(
    name_or_file: str,
    overrides: Sequence[str] = (),
    arms: Sequence[str] = (),
    seeds: Sequence[int] = (),
    extensions: Sequence[str] = (),
) -> tuple[CellSpec, ...]:
    """Return the runs of a recipe, or of a file as `lima-k8s show` writes it.

    Args:
        name_or_file: A recipe's name, or the path of a JSON or YAML file (see
            `lima.recipes.study_file`).
        overrides: `path=value` texts, see `lima.recipes.overrides`; applied to every run.
        arms: Keep only these; empty: all.
        seeds: Keep only these; empty: all.
        extensions: Python files of the study's own, beside those that it names; none of them runs
            here (see `lima.inputs.extensions`).

    Raises:
        SpecError: nothing has that name, the file is not a study, or no run is left.

    """
    cells = _keep(_keep(_read(name_or_file, extensions), "arm", arms), "seed", seeds)
    return apply_overrides([with_extensions(cell, extensions) for cell in cells], overrides)


def study_of(
    document: Mapping[str, Any], file: str, extensions: Sequence[str] = ()
) -> tuple[CellSpec, ...]:
    """Return the runs that a file will have once it says `{extends: RECIPE, …}`.

    Raises:
        SpecError: it would be no study; it would extend itself, for one.

    """
    above = (_place(file),)
    return extended(document, file, lambda name: _read(name, extensions, above), extensions)


def _read(
    name_or_file: str, extensions: Sequence[str], above: tuple[str, ...] = ()
) -> tuple[CellSpec, ...]:
    """Return all runs; `above` are the files that extend this one."""
    if recipe := RECIPES.get(name_or_file):
        return recipe()
    if _place(name_or_file) in above:
        raise SpecError(f"{shortened(name_or_file)} extends itself")
    here = (*above, _place(name_or_file))
    cells = read_study(name_or_file, lambda name: _read(name, extensions, here), extensions)
    if cells is None:
        hint = closest(name_or_file, RECIPES, "recipes")
        raise SpecError(f"{shortened(name_or_file)}: neither a recipe nor a file; {hint}")
    return cells


def _place(file: str) -> str:
    return os.path.realpath(expanded(file))


def _keep(cells: tuple[CellSpec, ...], name: str, wanted: Sequence[object]) -> tuple[CellSpec, ...]:
    known = list(dict.fromkeys(str(getattr(cell, name)) for cell in cells))
    for value in wanted:
        if str(value) not in known:
            hint = closest(str(value), known, f"{name}s")
            raise SpecError(f"no run has {name} {value!r}; {hint}")
    return tuple(cell for cell in cells if not wanted or getattr(cell, name) in wanted)
