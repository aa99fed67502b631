"""Cells that belong to one line of a figure: one arm, the same settings, all of its seeds."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lima.evaluation.cells.settings import differing, settings
from lima.runs.lineage import Chain
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


def series_of(
    chains: Sequence[Chain], stage: Stage | None = None, last: Stage = "judge"
) -> list[Series]:
    """Return the series of a study at a stage; without one, all cells, finished or not.

    An arm that was run with several settings becomes several series: they are never merged. With
    `last`, settings of later stages tell none apart: what judges say stands side by side.
    """
    stages = STAGES[: STAGES.index(stage or last) + 1]
    found = []
    for colour, arm in enumerate(arms_of(chains)):
        members = [c for c in chains if c.arm == arm and (stage is None or c.spec.get(stage))]
        groups = _alike(members, stages)
        different = sorted(differing([group[0] for group in groups], stages), key=_place)
        labels = [f"{arm} ({_named(g[0], different)})" if different else arm for g in groups]
        for label, group in sorted(zip(labels, groups, strict=True), key=lambda g: _natural(g[0])):
            found.append(Series(readable(label), arm, colour, tuple(group)))
    return found


@dataclass(frozen=True)
class Judging:
    """A judge that scores responses; `label` tells it from the others, and is empty alone."""

    label: str
    chains: tuple[Chain, ...]


def judges_of(chains: Sequence[Chain]) -> list[Judging]:
    """Return the judges that score responses of some cells, each with the cells that it scores."""
    members = [c for c in chains if c.spec.get("judge") and not c.compares]
    groups = _alike(members, ("judge",))
    different = sorted(differing([group[0] for group in groups], ("judge",)), key=_place)
    labels = [", ".join(_value(g[0], path) for path in different) for g in groups]
    named = sorted(zip(labels, groups, strict=True), key=lambda found: _natural(found[0]))
    return [Judging(readable(label), tuple(group)) for label, group in named]


def _value(chain: Chain, path: str) -> str:
    """Return a setting of a judge in words; its rubric and its model are known by their names."""
    value = settings(chain, "judge").get(path)
    return str(value) if path in ("judge.model", "judge.rubric") else _words(path, value)


def _place(path: str) -> tuple[int, str]:
    """Return where a setting is told: in the order of the stages, then by name."""
    return list(STAGES).index(path.partition(".")[0]), path  # type: ignore[arg-type]


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
