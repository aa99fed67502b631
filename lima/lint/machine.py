"""What this machine lacks for a study; a cluster is asked otherwise."""

from collections.abc import Sequence

from lima.lint.finding import Finding
from lima.runs.devices import gpus_here, missing_here
from lima.spec import CellSpec


def of_this_machine(cells: Sequence[CellSpec]) -> list[Finding]:
    """Return a warning for each stage that asks for GPUs, or an engine, which are not here.

    `submit --local` refuses such a stage; on a cluster it may run, so that it is no error.
    """
    found: dict[tuple[str, str, str], list[str]] = {}
    there = gpus_here()
    for cell in cells:
        for lack in missing_here(cell, there):
            found.setdefault(lack, []).append(f"{cell.arm}/{cell.seed}")
    return [Finding("warning", *lack, runs=tuple(runs)) for lack, runs in found.items()]
