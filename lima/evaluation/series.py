"""Cells that belong to one line of a figure: one arm, the same settings, all of its seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lima.evaluation.lineage import Chain
from lima.evaluation.settings import differing, settings
from lima.spec import STAGES, Stage

CHECKPOINT = "generate.model.epoch"
CONTROLS = dict.fromkeys(set(range(32)) - {9, 10, 13} | {127}, "\ufffd")


@dataclass(frozen=True)
class Series:
    """Cells of one arm that share all settings up to a stage, seeds aside.

    `colour` is the place of the arm in the study, so that it looks the same in every figure.
    """

    label: str
    arm: str
    colour: int
    chains: tuple[Chain, ...]


def arms_of(chains: Sequence[Chain]) -> list[str]:
    """Return the arms in the order in which people read them: `x-4k` before `x-16k`."""
    return sorted({chain.arm for chain in chains}, key=_natural)


def series_of(chains: Sequence[Chain], stage: Stage | None = None) -> list[Series]:
    """Return the series of a study at a stage; without one, all cells, finished or not.

    An arm that was run with several settings becomes several series: they are never merged.
    """
    stages = STAGES if stage is None else STAGES[: STAGES.index(stage) + 1]
    found = []
    for colour, arm in enumerate(arms_of(chains)):
        members = [c for c in chains if c.arm == arm and (stage is None or c.spec.get(stage))]
        groups = _alike(members, stages)
        different = list(differing([group[0] for group in groups], stages))
        labels = [f"{arm} ({_named(g[0], different)})" if different else arm for g in groups]
        for label, group in sorted(zip(labels, groups, strict=True), key=lambda g: _natural(g[0])):
            found.append(Series(readable(label), arm, colour, tuple(group)))
    return found


def readable(text: str) -> str:
    """Return `text` without the control characters that a page or an SVG may not hold."""
    return text.translate(CONTROLS)


def _alike(chains: Sequence[Chain], stages: Sequence[Stage]) -> list[list[Chain]]:
    """Return groups of equal settings; a cell joins the first one that it does not differ from."""
    groups: list[list[Chain]] = []
    for chain in sorted(chains, key=lambda c: -len(c.runs)):
        group = next((g for g in groups if not differing((g[0], chain), stages)), None)
        if group is None:
            groups.append([chain])
        else:
            group.append(chain)
    return groups


def _named(chain: Chain, paths: Sequence[str]) -> str:
    values = {path: value for stage in STAGES for path, value in settings(chain, stage).items()}
    return ", ".join(_words(path, values.get(path)) for path in paths)


def _words(path: str, value: Any) -> str:
    if path == CHECKPOINT:
        return "last exported epoch" if value is None else f"epoch {value}"
    return f"{'.'.join(path.split('.')[-2:])} {value}"


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Return a sort key in which numbers count as numbers, with k and m as thousands."""
    scale = {"": 1, "k": 1e3, "m": 1e6}
    parts = re.findall(r"(\d+)([km](?![a-z]))?|(\D+)", text.lower())
    return [(1, int(n) * scale[unit], "") if n else (0, 0.0, word) for n, unit, word in parts]
