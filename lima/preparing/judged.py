"""What a judge reads: the wording of its rubric, which ships here, and responses of baselines."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from lima.errors import DataError
from lima.inputs.fingerprint import SHA256
from lima.judging.rubrics import RUBRICS
from lima.spec import CellSpec
from lima.spec.codec import RUN_ID_LENGTH, run_id

if TYPE_CHECKING:
    from lima.store.storage import Storage

_RUN_ID = re.compile(f"[0-9a-f]{{{RUN_ID_LENGTH}}}")


def with_judged(
    cells: Sequence[CellSpec], storage: "Storage | None" = None
) -> tuple[CellSpec, ...]:
    """Return the cells of a study with what their judges read.

    Args:
        cells: The study; the fingerprints of its other inputs are known.
        storage: Of the study, where baselines may lie that are no part of it; None: not asked.

    Raises:
        StorageError: storage cannot be reached.

    """
    return tuple(_with_judged(cell, cells, storage) for cell in cells)


def _with_judged(cell: CellSpec, cells: Sequence[CellSpec], storage: "Storage | None") -> CellSpec:
    if cell.judge is None:
        return cell
    rubric = RUBRICS.get(cell.judge.rubric)
    if rubric is None:  # of a file that is not here: of a run, to be read and not to be run
        return cell
    runs = cell.judge.baseline_runs
    if rubric.pairs and cell.judge.baselines and runs is None:
        runs = _runs(cell, cells, storage)
    lowest, highest = rubric.scale or (None, None)
    known = replace(cell.judge, wording=SHA256 + rubric.hash, lowest=lowest, highest=highest)
    return replace(cell, judge=replace(known, baseline_runs=runs))


def _runs(
    cell: CellSpec, cells: Sequence[CellSpec], storage: "Storage | None"
) -> tuple[str, ...] | None:
    """Return the runs of generation that the baselines mean; None: not known yet."""
    found: list[str] = []
    for name in cell.judge.baselines if cell.judge else ():
        run = _run(name, cell.experiment, cells, storage)
        if run is None:
            return None
        found.append(run)
    return tuple(found)


def _run(
    name: str, experiment: str, cells: Sequence[CellSpec], storage: "Storage | None"
) -> str | None:
    if _RUN_ID.fullmatch(name):
        return name
    own = {
        run_id(c, "generate")
        for c in cells
        if (c.experiment, c.arm) == (experiment, name) and c.generate
    }
    if own or storage is None:
        return own.pop() if len(own) == 1 else None
    from lima.rating.items import generation_runs

    try:
        return generation_runs(storage, experiment, (name,))[0]
    except DataError:
        return None  # the judge says which there are
