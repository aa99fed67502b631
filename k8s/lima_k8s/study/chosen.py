"""The study that the options of a command choose, with what runs of its own code."""

from collections.abc import Sequence

from lima.recipes.extending import require_consent
from lima.recipes.registry import load_study
from lima.spec import CellSpec, used_extensions
from lima_k8s.terminal.output import say


def chosen_study(
    recipe: str,
    overrides: Sequence[str],
    arms: Sequence[str],
    seeds: Sequence[int],
    extensions: Sequence[str],
) -> tuple[CellSpec, ...]:
    """Return a study as `load_study` does, and run the Python files that it uses.

    Raises:
        InputError: there is no such study, one of its files cannot be used, or is not among
            `extensions`.
        StorageError: an object store that has such a file does not answer.

    """
    cells = load_study(recipe, overrides, arms, seeds, extensions)
    if any(cell.extensions for cell in cells):
        from lima.inputs.extensions import meet

        require_consent(cells, extensions)
        meet(cells)
        _say_unused(cells)
    return cells


def _say_unused(cells: Sequence[CellSpec]) -> None:
    given = {extension for cell in cells for extension in cell.extensions}
    used = {extension for cell in cells for extension in used_extensions(cell).extensions}
    for extension in sorted(given - used, key=lambda e: e.package):
        say(
            f"warning: {extension.path} is not used: no run of this study has a name "
            f"{extension.package}.…"
        )
