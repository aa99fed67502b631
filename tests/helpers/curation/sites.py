"""Three sites of Stack Exchange to curate from, and what was drawn of them."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from lima.curation.stackexchange.posts_by_question import RANGE
from lima.spec.curate import ArmSpec, CurateSpec, PartSpec
from tests.helpers.curation import dumps

STEM = ("ai", "cs", "math")
WORDS = tuple(
    f"{first}{last}"
    for first in ("quan", "spa", "gra", "lim", "ser", "fie")
    for last in ("tum", "ces", "phs", "its", "ies", "lds")
)
SIZES = {"ai": 40, "cs": 12, "math": 4}


def answer_body(site: str, number: int) -> str:
    """Return an answer that repeats no other one."""
    words = random.Random(f"{site}{number}").choices(WORDS, k=230)
    return f"<p>{' '.join(words).capitalize()}.</p>"


def write_sites(folder: Path) -> Path:
    """Write sites of different sizes; every fourth answer speaks in the first person."""
    for site in STEM:
        rows = []
        for n in range(1, SIZES[site] + 1):
            number = n if n % 2 else n + RANGE  # two partitions
            body = answer_body(site, n).replace("<p>", "<p>I say: " if n % 4 == 0 else "<p>")
            rows += [
                dumps.question(
                    number,
                    f"What is {site} thing number {n} good for?",
                    Score=n,
                    Body=f"<p>A description of {site} thing number {n}, in words.</p>",
                ),
                dumps.answer(number + 200_000, number, Body=body),
            ]
        posts = {"Posts": dumps.document(rows)}
        dumps.write_folder(folder / f"{site}.stackexchange.com", posts)
    return folder


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Return the folder of the sites."""
    return write_sites(tmp_path / "in")


def stem_part(count: int, **more: Any) -> PartSpec:
    """Return a draw over the sites, by temperature and highest score."""
    return PartSpec("stackexchange-stem", count, balance="temperature", order="score", **more)


def stem_spec(inputs: Path, *arms: ArmSpec, **more: Any) -> CurateSpec:
    """Return a spec over the sites, by default of one arm of nine."""
    return dumps.spec(inputs, arms=arms or (ArmSpec("small", (stem_part(9),)),), **more)


def drawn(storage: Path, arm: str) -> list[dict[str, Any]]:
    """Return the examples of an arm."""
    (path,) = (storage / "datasets").rglob(f"{arm}.jsonl")
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
