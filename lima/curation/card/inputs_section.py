"""What a data set was made of, for its card."""

from lima.curation.card.attribution import escaped
from lima.spec import CellSpec, stage_cell
from lima.store.input_tables import INPUTS
from lima.store.shards import RunTable
from lima.store.storage import Storage


def inputs_section(storage: Storage, cell: CellSpec) -> str:
    """Return the section of a card on the files that were read; empty: nobody noted them."""
    table = RunTable(storage, INPUTS, stage_cell(cell, "curate"))
    rows = table.read(["role", "name", "fingerprint", "bytes", "files"]).to_pylist()
    if not rows:
        return ""
    lines = ["", "## Inputs", "", "| input | files | bytes | fingerprint |", "|---|---|---:|---|"]
    for row in rows:
        files = row["files"] or []
        name = f"{row['name']} ({len(files)} files)" if files else row["name"]
        size = "" if row["bytes"] is None else row["bytes"]
        fingerprint = row["fingerprint"] or "unknown"
        lines.append(f"| {row['role']} | {escaped(name)} | {size} | `{fingerprint}` |")
    return "\n".join(lines) + "\n"
