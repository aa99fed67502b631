"""A made-up study that fills a report, and the figures of the page."""

import re

from tests.helpers.synthetic import Arm, Study

FIGURES = (
    "score",
    "quantity",
    "checkpoints",
    "loss",
    "perplexity",
    "examples",
    "lengths",
    "stops",
    "attempts",
    "hours",
)
RICH = Study(
    arms=(
        Arm("filtered-16k", 16000, quality=3.9),
        Arm("filtered-2k", 2000),
        Arm("wikihow-2k", 2000, "wikihow.jsonl", 3.4),
    ),
    seeds=3,
    checkpoints=(2, None),
    experiment="ablations",
)


def figure(page: str, name: str) -> str:
    """Return the source of a figure."""
    found = re.search(rf'<figure id="{name}".*?</figure>', page, re.DOTALL)
    assert found
    return found[0]
