"""Judges a study before anything is started, by the values that will really be used.

Works offline: a model on a hub and data on an object store are not read, and that is said. The
command adds what their stores tell of them without being read.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from lima.lint.curation import CURATION_CHECKS
from lima.lint.facts import Facts
from lima.lint.finding import LEVELS, Finding
from lima.lint.lengths import LENGTH_CHECKS
from lima.lint.names import NAME_CHECKS
from lima.lint.stages import STAGE_CHECKS
from lima.lint.training import TRAINING_CHECKS
from lima.runs.order import baselines_among
from lima.spec import STAGES, CellSpec

__all__ = ["LEVELS", "Finding", "lint"]
ALL_CHECKS = (*NAME_CHECKS, *CURATION_CHECKS, *STAGE_CHECKS, *TRAINING_CHECKS, *LENGTH_CHECKS)


def lint(cells: Sequence[CellSpec], facts: Facts | None = None) -> list[Finding]:
    """Return the findings on a study, errors first; what holds for several runs once.

    `facts` may hold what was looked at already, and holds what was looked at afterwards.
    """
    facts = facts or Facts()
    runs: dict[Finding, list[str]] = {}
    for cell in cells:
        for check in ALL_CHECKS:
            for finding in check(cell, facts):
                runs.setdefault(finding, []).append(f"{cell.arm}/{cell.seed}")
    found = [replace(f, runs=tuple(r)) for f, r in runs.items()]
    of_all = (*_duplicates(cells), *_same_arms(cells), *_compared(cells))
    return sorted([*of_all, *found], key=_order)


def _order(finding: Finding) -> tuple[int, int]:
    stage = finding.path.partition(".")[0]
    return LEVELS.index(finding.level), [*STAGES].index(stage) if stage in STAGES else -1


def _duplicates(cells: Sequence[CellSpec]) -> list[Finding]:
    """Find arms that have a seed twice: their rows could not be told apart."""
    counts = Counter((cell.experiment, cell.arm, cell.seed) for cell in cells)
    return [
        Finding(
            "error",
            "arm",
            f"{count} runs of {experiment!r} have arm {arm!r} and seed {seed}",
            "give each run an arm or a seed of its own, or drop the others",
            runs=(f"{arm}/{seed}",) * count,
        )
        for (experiment, arm, seed), count in counts.items()
        if count > 1
    ]


def _compared(cells: Sequence[CellSpec]) -> list[Finding]:
    """Say which arms have to answer before the judges of others can compare."""
    runs: dict[tuple[str, ...], list[str]] = {}
    for cell in cells:
        if others := dict.fromkeys(other.arm for other in baselines_among(cell, cells)):
            runs.setdefault(tuple(others), []).append(f"{cell.arm}/{cell.seed}")
    return [
        Finding(
            "note",
            "judge.baselines",
            f"compared with {', '.join(others)} of this study, which must have answered before: "
            "a job on this machine sees to it; on a cluster, first `submit generate`, then "
            "`submit judge`",
            runs=tuple(named),
        )
        for others, named in runs.items()
    ]


def _same_arms(cells: Sequence[CellSpec]) -> list[Finding]:
    """Find arms that differ in nothing but their name, as after --set on what they vary."""
    arms: dict[CellSpec, list[str]] = {}
    for cell in cells:
        arms.setdefault(replace(cell, arm=""), []).append(cell.arm)
    return [
        Finding(
            "warning",
            "arm",
            f"arms {', '.join(names)} are the same but for their name",
            "an override applies to every run: choose arms with --arm, or edit a file",
            runs=tuple(f"{name}/{cell.seed}" for name in names),
        )
        for cell, names in arms.items()
        if len(set(names)) > 1
    ]
