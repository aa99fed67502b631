"""Which runs belong together: the stages of each cell, tied by walking up parents.

A run of training may have several runs of generation, and these several judges. Each last run
is one chain; chains of one arm share the earlier runs.
"""

import json
from dataclasses import dataclass
from typing import Any

from lima.errors import DataError, InputError
from lima.spec import STAGES, Stage
from lima.store.scan import Tables
from lima.store.tables import ANNOTATIONS, RUNS

SHARED: tuple[Stage, ...] = ("curate", "base")
"""Stages that cells share, and that are no arm of the study."""
PREFERENCE = "preference"
"""The rubric by which responses are compared."""
_NOT_READ = ("spec_hash", "created_at", "example_tokens")
RUN_COLUMNS = [c.name for c in RUNS.columns if c.name not in _NOT_READ]


@dataclass(frozen=True)
class Chain:
    """A cell as far as it has come: its last run and the runs that this one stands on."""

    experiment: str
    arm: str
    seed: int
    run_id: str
    runs: dict[Stage, str]
    spec: dict[str, Any]
    examples: int | None
    versions: dict[str, Any]

    @property
    def label(self) -> dict[str, Any]:
        """What rows can be grouped by; null where the cell has no such stage."""
        judge, generate = self.spec.get("judge") or {}, self.spec.get("generate") or {}
        return {
            "experiment": self.experiment,
            "arm": self.arm,
            "seed": self.seed,
            "run_id": self.run_id,
            "generation": self.runs.get("generate", self.run_id),
            "epoch": generate.get("model", {}).get("epoch") or self.sampled_epoch,
            "judge": judge.get("model"),
            "rubric": judge.get("rubric"),
        }

    @property
    def compares(self) -> bool:
        """Whether its judge compares responses; it gives no scores then."""
        return (self.spec.get("judge") or {}).get("rubric") == PREFERENCE

    @property
    def sampled_epoch(self) -> int | None:
        """The epoch of the cell's own training that its responses are from (section 3).

        Where the spec names none, it is the last one whose weights were exported: of 15 epochs
        the tenth, not the fifteenth. None: there are no responses, or they are another model's.
        """
        model = (self.spec.get("generate") or {}).get("model") or {}
        own = ("run:train", f"run:{self.runs.get('train')}")
        if not self.spec.get("train") or model.get("path") not in own:
            return None
        named: int | None = model.get("epoch")
        return named or _last_exported(self.spec["train"])


def _last_exported(train: dict[str, Any]) -> int | None:
    """Return the last epoch of `exported_epochs`; None: the spec is of another version."""
    last, epochs = (train.get("checkpoints") or {}).get("last_epoch"), train.get("epochs")
    return min(last, epochs) if isinstance(last, int) and isinstance(epochs, int) else None


def read_chains(tables: Tables) -> list[Chain]:
    """Return the chains of a study, sorted by experiment, arm, seed and run.

    Curated data and the base model are part of chains, but no chains of their own; what people
    did, conversations and labels, is no part of any, and may stand alone.

    Raises:
        DataError: there is nothing, or a row of `runs` holds no spec.
        InputError: there is something, but nothing of the experiment that was asked for.

    """
    every = tables.read(RUNS, RUN_COLUMNS).to_pylist()
    rows = {row["run_id"]: row for row in every if row["stage"] in STAGES}
    if not every and not tables.read(ANNOTATIONS, ["run_id"]).num_rows:
        _refuse_empty(tables)
    parents = {row["parent_run_id"] for row in rows.values()}
    leaves = [r for r in rows.values() if r["run_id"] not in parents and r["stage"] not in SHARED]
    chains = [_chain(leaf, rows) for leaf in leaves]
    return sorted(chains, key=lambda c: (c.experiment, c.arm, c.seed, c.run_id))


def has_cells(tables: Tables) -> bool:
    """Say whether any stage of a cell has begun; conversations and labels may stand alone."""
    return bool(set(tables.read(RUNS, ["stage"])["stage"].to_pylist()) & set(STAGES))


def read_spec(run: str, text: str) -> dict[str, Any]:
    """Return the spec of a run, whatever version wrote it: an object, its stages objects or null.

    Raises:
        DataError: it is something else.

    """
    spec = _object(text)
    stages = [spec.get(stage) for stage in STAGES] if spec is not None else [0]
    if spec is None or not all(stage is None or isinstance(stage, dict) for stage in stages):
        raise DataError(f"runs: run {run}: its spec is not that of a run: {text[:100]!r}")
    return spec


def _object(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _chain(leaf: dict[str, Any], rows: dict[str, dict[str, Any]]) -> Chain:
    runs: dict[Stage, str] = {}
    examples, row = None, leaf
    while row and row["stage"] not in runs:
        runs[row["stage"]] = row["run_id"]
        examples = row["examples"] if row["stage"] == "train" else examples
        row = rows.get(row["parent_run_id"]) or {}
    spec, versions = read_spec(leaf["run_id"], leaf["spec"]), _object(leaf["versions"])
    if versions is None:
        raise DataError(f"runs: run {leaf['run_id']}: its versions are not an object of JSON")
    identity = {key: leaf[key] for key in ("experiment", "arm", "seed", "run_id")}
    return Chain(**identity, runs=runs, spec=spec, examples=examples, versions=versions)


def experiments(tables: Tables) -> list[str]:
    """Return all experiments of a storage: those with runs, conversations or labels."""
    parts = [tables.everywhere().read(table, ["experiment"]) for table in (RUNS, ANNOTATIONS)]
    return sorted({str(name) for part in parts for name in part["experiment"].to_pylist()})


def _refuse_empty(tables: Tables) -> None:
    tables.require_readable()
    known, uri = experiments(tables), tables.storage.uri
    if known:
        raise InputError(f"{uri}: no such experiment; there are {', '.join(known)}")
    raise DataError(
        f"{uri}: no runs there (the table `runs` is empty or absent); check the URI, or start a "
        "study with `lima-k8s submit`"
    )
