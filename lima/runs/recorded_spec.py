"""The spec of a run, as the rows of a study have it."""

import json

from lima.errors import InputError
from lima.spec import STAGES, CellSpec
from lima.spec.codec import decode
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS


def cell_of(storage: Storage, run: str) -> CellSpec:
    """Return the spec of a run: of its stage and of those before it.

    Args:
        storage: Of the study.
        run: Its id, or how that begins.

    Raises:
        InputError: no run has that id, or several begin like it.
        StorageError: storage cannot be reached.

    """
    rows = Tables(storage).read(RUNS, ["run_id", "stage", "spec"]).to_pylist()
    found = {r["run_id"]: r["spec"] for r in rows if r["stage"] in STAGES}
    named = [name for name in sorted(found) if name.startswith(run)]
    if len(named) != 1:
        told = ", ".join(named or sorted(found)) or "none"
        many = "several runs begin with" if named else "there is no run"
        raise InputError(f"{storage.uri}: {many} {run!r}; runs there: {told}")
    return decode(CellSpec, json.loads(found[named[0]]))
