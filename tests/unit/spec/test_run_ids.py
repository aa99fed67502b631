"""The ids of all recipes' runs. Whoever changes one makes its users compute it again."""

import json
from pathlib import Path

import pytest

from lima.inputs.content import Content, Contents
from lima.inputs.fingerprint import of_bytes
from lima.inputs.places import Place
from lima.preparing.prepare import prepare
from lima.recipes.registry import RECIPES
from lima.spec.codec import run_id

GOLDEN = json.loads((Path(__file__).parent / "run_ids.json").read_text("utf-8"))
"""By recipe, arm and seed. CHANGELOG.md says why they last changed."""


class _Given(Contents):
    """What ships here as it is; anything else contains its own name."""

    def _of(self, place: Place) -> Content:
        if place.paths[0].startswith("authored:"):
            found = super()._of(place)
            assert isinstance(found, Content)
            return found
        return Content(of_bytes(" ".join(place.paths).encode()))


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_runs_of_a_recipe_keep_their_ids(recipe: str) -> None:
    cells = prepare(RECIPES[recipe](), _Given()).cells
    assert {f"{cell.arm}/{cell.seed}": run_id(cell) for cell in cells} == GOLDEN[recipe]


def test_every_recipe_is_golden() -> None:
    assert set(GOLDEN) == set(RECIPES)
