"""Which of our arms is one of the paper's: what its spec says, not what it is called.

A trained arm is one of the paper's if it is trained as its recipe says: on as many examples of a
file of that name, with a model of that size. A baseline is, if its endpoint is asked for that
model. Everything else is compared only if a user says so.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import PurePosixPath
from typing import Any

from lima.recipes.paper import ablations_7b, alpaca_65b, dialogue_65b, lima_65b, structure_65b
from lima.runs.lineage import Chain
from lima.spec import ENDPOINT, CellSpec

BASELINES = {
    "alpaca_65b": "Alpaca 65B",
    "davinci003": "DaVinci003",
    "bard": "Bard",
    "claude": "Claude",
    "gpt-4": "GPT-4",
}
"""The paper's names of what LIMA is compared with."""

MODELS = {
    "davinci003": ("text-davinci-003",),
    "bard": ("bard",),
    "claude": ("claude", "claude-v1", "claude-1"),
    "gpt-4": ("gpt-4", "gpt-4-0314"),
}
"""What endpoints call the paper's baselines."""


WHOLE = {"alpaca_65b": 52_000}
"""The paper's count of examples where a recipe takes all that there are: `curate_alpaca` leaves out
those without a response, and repeats."""
SHARE = 0.9
"""Of these, that there must be."""


@cache
def recipe_cells() -> Mapping[str, CellSpec]:
    """Return the cells of our recipes that are arms of the paper, by the paper's names."""
    (lima,), (dialogue,), (alpaca,) = lima_65b(), dialogue_65b(), alpaca_65b()
    _, structure = structure_65b()
    trained = {"lima": lima, "lima_dialogue": dialogue, "lima_structure": structure}
    return {**trained, "alpaca_65b": alpaca, **{cell.arm: cell for cell in ablations_7b()}}


def arms_by_spec(chains: Sequence[Chain]) -> dict[str, str]:
    """Return our arm of each of the paper's that exactly one of ours is, by its spec.

    Of several, that with the name that the recipe gives it: LIMA is trained by two recipes.
    """
    found: dict[str, str] = {}
    for name in (*recipe_cells(), *MODELS):
        arms = {chain.arm for chain in chains if is_arm_of_paper(name, chain.spec, chain.examples)}
        own = recipe_cells()[name].arm if name in recipe_cells() else name
        if len(arms) == 1 or own in arms:
            found[name] = own if own in arms else arms.pop()
    return found


def is_arm_of_paper(name: str, spec: Mapping[str, Any], examples: int | None) -> bool:
    """Say whether a cell is what the paper calls `name`, as far as its spec tells.

    Args:
        name: the paper's name.
        spec: of the cell.
        examples: that it was trained on; None: it was not trained.

    """
    if name in MODELS:
        model = ((spec.get("generate") or {}).get("model") or {}).get("path") or ""
        return model.startswith(ENDPOINT) and model.rpartition("#")[2].lower() in MODELS[name]
    wanted, train = recipe_cells()[name].train, spec.get("train") or {}
    data, model = train.get("data") or {}, (train.get("model") or {}).get("path") or ""
    return (
        wanted is not None
        and _is_count(
            data.get("count") or examples or 0,
            wanted.data.count or WHOLE[name],
            whole=name in WHOLE,
        )
        and _file(data.get("path") or "") == _file(wanted.data.path)
        and not data.get("sources")
        and _billions(model) == _billions(wanted.model.path)
    )


def _is_count(count: int, wanted: int, *, whole: bool) -> bool:
    """Say whether examples are as many as the paper's; of a `whole` set some may be missing."""
    return SHARE * wanted <= count <= wanted + 2 if whole else count == wanted


def _file(path: str) -> str:
    return PurePosixPath(path).name.removesuffix(".gz")


def _billions(model: str) -> float | None:
    """Return how many billions of parameters a model has, as its name tells."""
    found = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)b(?![a-z])", PurePosixPath(model).name.lower())
    return float(found[-1]) if found else None
