"""The kinds of submission, each a chart and the stage with which it ends."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lima.errors import InputError
from lima.spec import STAGES, CellSpec, Stage, cell_stages


@dataclass(frozen=True)
class Kind:
    """A kind of submission: the name of its chart, and the last stage that it runs."""

    chart: str
    last: Stage


KINDS = {
    "train": Kind("lima-train", "train"),
    "ablation": Kind("lima-ablation", "judge"),
    "generate": Kind("lima-generate", "generate"),
    "judge": Kind("lima-judge", "judge"),
    "curate": Kind("lima-curate", "curate"),
}
"""By what `submit` calls them."""
CHARTS = {name: kind.chart for name, kind in KINDS.items()}
"""The chart of each kind."""


def up_to(cell: CellSpec, last: Stage) -> CellSpec:
    """Return `cell` without the stages after `last`.

    Raises:
        InputError: nothing is left.

    """
    later = STAGES[STAGES.index(last) + 1 :]
    cut = replace(cell, **dict.fromkeys(later, None))  # type: ignore[arg-type]
    if not cell_stages(cut):
        raise InputError(f"arm {cell.arm!r} has no stage up to {last!r}; see `lima-k8s show`")
    return cut


def study_up_to(cells: Sequence[CellSpec], last: Stage) -> list[CellSpec]:
    """Return a study without the stages after `last`, and without the arms that have none then.

    Raises:
        InputError: nothing is left of any arm.

    """
    stages = {*STAGES[: STAGES.index(last) + 1]}
    some = [cell for cell in cells if stages & {*cell_stages(cell)}]
    return [up_to(cell, last) for cell in some or cells]


def kinds_of(cells: Sequence[CellSpec]) -> dict[str, list[CellSpec]]:
    """Return what a study can be submitted as, with the cells that each kind would run."""
    found: dict[str, list[CellSpec]] = {}
    for name, kind in KINDS.items():
        # All stages, also without a judge; the other kinds need the stage that they end with.
        wanted = set(STAGES) - {"curate"} if name == "ablation" else {kind.last}
        with contextlib.suppress(InputError):  # an arm has no stage up to there
            cut = study_up_to(cells, kind.last)
            if any(wanted & {*cell_stages(cell)} for cell in cut):
                found[name] = cut
    return found
