"""The table `run_inputs`: what each run reads, recorded when it first starts.

A run whose inputs could not be looked at when it was submitted is named by their paths. What it
found there at its first start is then what it was promised: other content later is refused.
"""

from typing import Any

from lima.common.clock import now
from lima.data.examples import count_examples
from lima.errors import LimaError
from lima.inputs.check import check
from lima.inputs.content import Content, Contents
from lima.inputs.memory import Unknown
from lima.inputs.places import Place, of_stage
from lima.spec import CellSpec, DataSpec, Stage, stage_cell
from lima.store.input_tables import INPUTS
from lima.store.shards import RunTable
from lima.store.storage import Storage

SHARD = "inputs"


def record_inputs(storage: Storage, cell: CellSpec, stage: Stage) -> None:
    """Record the inputs of a stage, once; check those whose content the spec does not name.

    Raises:
        ChangedInputError: an input is not what it was when the run first started.
        StorageError: an object store does not answer.

    """
    table, contents = RunTable(storage, INPUTS, stage_cell(cell, stage)), Contents()
    inputs = list(of_stage(cell, stage))
    if not inputs:
        return
    if table.has(SHARD):
        for row in table.read(["role", "fingerprint", "promised"]).to_pylist():
            if row["promised"] is None:
                _check_again(row, inputs, contents)
        return
    table.write(SHARD, [_row(place, contents) for place in inputs])


def _check_again(row: dict[str, Any], inputs: list[Place], contents: Contents) -> None:
    for place in inputs:
        if place.role == row["role"] and row["fingerprint"]:
            found = _look(place, contents)
            if isinstance(found, Content):
                check(found.fingerprint, row["fingerprint"], ", ".join(place.paths))


def _row(place: Place, contents: Contents) -> dict[str, Any]:
    found = _look(place, contents)
    known = found if isinstance(found, Content) else None
    return {
        "stage": place.stage,
        "role": place.role,
        "name": place.name,
        "fingerprint": place.fingerprint or (known and known.fingerprint),
        "promised": place.fingerprint,
        "bytes": known and known.size,
        "rows": _rows(place),
        "read_at": " ".join(place.paths),
        "files": _files(known),
        "at": now(),
    }


def _look(place: Place, contents: Contents) -> Content | Unknown:
    """Look at an input, unless only its workers shall: weights in a bucket are read once, there."""
    if place.kind == "model" and "://" in place.paths[0]:
        return Unknown("weights in a bucket are checked where they are loaded")
    return contents.of(place)


def _files(found: Content | None) -> list[tuple[str, str]] | None:
    if found is None or len(found.files) < 2:
        return None
    return [(name, file.fingerprint) for name, file in found.files.items()]


def _rows(place: Place) -> int | None:
    if place.kind != "data":
        return None
    try:
        return count_examples(DataSpec(place.paths[0]))
    except LimaError:
        return None  # the stage itself says what is wrong
