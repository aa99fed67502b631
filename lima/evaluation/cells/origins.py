"""What rows come from: the inputs that runs read, and the versions that computed them."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lima.inputs.fingerprint import short
from lima.runs.lineage import Chain
from lima.spec import Stage
from lima.store.scan import Tables
from lima.store.tables import ATTEMPTS, INPUTS

DECIDING = ("lima-k8s", "torch", "transformers")
"""Software whose versions may change what a run finds."""
NAMED = 3
"""Runs that a note names before it counts."""
COLUMNS = ("run_id", "stage", "role", "name", "fingerprint", "promised", "bytes", "rows", "read_at")
READING: tuple[Stage, ...] = ("curate", "base", "train", "generate")
"""Stages that read inputs; a judge reads what generation wrote."""


@dataclass(frozen=True)
class Origins:
    """What the runs of a study come from.

    Args:
        inputs: Rows of the table `run_inputs`, by run.
        versions: Of the software and the image of each attempt, by run.

    """

    inputs: Mapping[str, Sequence[dict[str, Any]]]
    versions: Mapping[str, Sequence[Mapping[str, str]]]


def read_origins(tables: Tables) -> Origins:
    """Read what runs come from.

    Raises:
        StorageError: storage cannot be reached.

    """
    inputs: dict[str, list[dict[str, Any]]] = {}
    for row in tables.read(INPUTS, COLUMNS).to_pylist():
        inputs.setdefault(row["run_id"], []).append(row)
    versions: dict[str, list[dict[str, str]]] = {}
    for row in tables.read(ATTEMPTS, ["run_id", "versions", "image"]).to_pylist():
        if row["versions"]:
            known = {n: str(v) for n, v in json.loads(row["versions"]).items() if n in DECIDING}
            image = {"image": row["image"]} if row["image"] else {}
            versions.setdefault(row["run_id"], []).append(known | image)
    return Origins(inputs, versions)


def notes(origins: Origins, chains: Sequence[Chain]) -> list[str]:
    """Return where rows of one arm come from different versions."""
    arms = {(chain.experiment, chain.arm): None for chain in chains}
    told = []
    for experiment, arm in arms:
        same = [c for c in chains if (c.experiment, c.arm) == (experiment, arm)]
        if different := _different(origins, same):
            told.append(f"arm {arm!r}: rows come from different versions: {different}")
    return told


def unknown(origins: Origins, chains: Sequence[Chain]) -> str:
    """Return whose inputs are unknown: of runs of earlier versions, and others; empty: nobody's."""
    runs = list(dict.fromkeys(run for chain in chains for run in _unknown(origins, chain)))
    if not runs:
        return ""
    more = f" and {len(runs) - NAMED} more" if len(runs) > NAMED else ""
    return f"fingerprints unknown: of inputs of {', '.join(runs[:NAMED])}{more}, named by paths"


def _different(origins: Origins, chains: Sequence[Chain]) -> str:
    found: dict[str, set[str]] = {}
    for chain in chains:
        for run in chain.runs.values():
            for versions in origins.versions.get(run, ()):
                for name, version in versions.items():
                    found.setdefault(name, set()).add(version)
    return "; ".join(f"{n} {' and '.join(sorted(v))}" for n, v in found.items() if len(v) > 1)


def _unknown(origins: Origins, chain: Chain) -> Iterator[str]:
    """Yield the runs of a cell whose inputs nobody named by their content."""
    for stage, run in chain.runs.items():
        rows = origins.inputs.get(run)
        if stage in READING and (rows is None or any(row["promised"] is None for row in rows)):
            yield run


def input_rows(origins: Origins, chains: Sequence[Chain]) -> list[dict[str, Any]]:
    """Return what the cells read, each input once, with the arms that read it."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for chain in chains:
        for run in chain.runs.values():
            for row in origins.inputs.get(run, ()):
                key = (row["role"], row["fingerprint"], row["name"])
                entry = found.setdefault(key, {**row, "arms": []})
                if chain.arm not in entry["arms"]:
                    entry["arms"].append(chain.arm)
    return [{**row, "fingerprint": short(row["fingerprint"])} for row in found.values()]
