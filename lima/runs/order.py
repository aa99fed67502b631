"""Which cells of a study must wait for others: who compares needs the responses of both."""

from collections.abc import Collection, Sequence

from lima.spec import CellSpec
from lima.spec.codec import run_id


def baselines_among(cell: CellSpec, cells: Sequence[CellSpec]) -> list[CellSpec]:
    """Return the cells whose responses the judge of `cell` compares with those of its own."""
    spec = cell.judge
    if spec is None or not spec.baselines:
        return []
    own, named = run_id(cell, "generate"), {*spec.baselines, *(spec.baseline_runs or ())}
    return [
        other
        for other in cells
        if other.generate
        and (answers := run_id(other, "generate")) != own
        and (answers in named or _is_arm_of(other, cell, named))
    ]


def _is_arm_of(other: CellSpec, cell: CellSpec, named: Collection[str]) -> bool:
    """Say whether it is another arm of the same study that is named; an arm is not its own."""
    return other.experiment == cell.experiment and other.arm != cell.arm and other.arm in named
