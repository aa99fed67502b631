"""Which of the models that were trained in a storage a person means."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lima.errors import InputError
from lima.runs.lineage import read_spec
from lima.spec import ModelSpec
from lima.store.scan import Tables
from lima.store.storage import Storage
from lima.store.tables import RUNS

MIN_RUN_ID = 4
"""Digits of a run id that are enough to name a run, as for `lima-k8s status`."""
COLUMNS = ("run_id", "experiment", "arm", "seed", "stage", "parent_run_id", "spec")


@dataclass(frozen=True)
class Trained:
    """A run of training, and the runs of the stages that stand on it."""

    run: str
    experiment: str
    arm: str
    seed: int
    stage: str
    later: tuple[str, ...] = ()
    taught: Mapping[str, Any] = field(default_factory=dict)
    """How a turn ends and a conversation is written, as fields of `ModelSpec`."""

    @property
    def model(self) -> ModelSpec:
        """The trained model, with the end of turn and the chat template that it was taught."""
        return ModelSpec(f"run:{self.run}", **self.taught)

    def __str__(self) -> str:
        return f"{self.run} ({self.experiment}, {self.arm}, seed {self.seed})"

    def is_named(self, name: str) -> bool:
        """Say whether a name is its arm, ARM/SEED, one of its ids or the name of its RayJob."""
        if name in (self.arm, f"{self.arm}/{self.seed}", self.run, *self.later):
            return True
        return bool(
            re.fullmatch(rf"{re.escape(_label(self.arm))}-s{self.seed}-[0-9a-f]{{8}}", name)
        )

    def begins_with(self, name: str) -> bool:
        """Say whether a name is the beginning of one of its ids."""
        ids = (self.run, *self.later)
        return len(name) >= MIN_RUN_ID and any(run.startswith(name) for run in ids)


def trained_runs(storage: Storage, name: str | None, experiment: str | None) -> list[Trained]:
    """Return the runs of training that a name may mean, named as for `lima-k8s status`.

    Args:
        storage: Holds the runs.
        name: None: all that were fine-tuned; base models must be named.
        experiment: Only of this one.

    Raises:
        InputError: there are none.

    """
    every = [r for r in _read(storage) if experiment in (None, r.experiment)]
    tuned = [run for run in every if run.stage == "train"]
    if not (every if name else tuned):
        raise InputError(f"{storage.uri}: no model was trained here; name one with --model")
    if name is None:
        return tuned
    found = [r for r in every if r.is_named(name)] or [r for r in every if r.begins_with(name)]
    if not found:
        raise InputError(
            f"{name!r} is no model that was trained here; name one with --run:\n{listed(tuned)}"
        )
    return found


def one_trained(storage: Storage, name: str, experiment: str | None = None) -> Trained:
    """Return the run of training that a name means.

    Raises:
        InputError: there is none, or several may be meant.

    """
    found = trained_runs(storage, name, experiment)
    if len(found) > 1:
        raise InputError(f"{name!r} may be any of these models; say which:\n{listed(found)}")
    return found[0]


def listed(runs: list[Trained]) -> str:
    """Return the runs, a line each."""
    return "\n".join(f"  {run}" for run in runs)


def _read(storage: Storage) -> list[Trained]:
    """Return the runs of training, with all that descends from each."""
    rows = {row["run_id"]: row for row in Tables(storage).read(RUNS, COLUMNS).to_pylist()}
    later: dict[str, list[str]] = {}
    for run, row in rows.items():
        parent = row["parent_run_id"]
        while parent in rows and rows[parent]["stage"] in ("generate", "judge"):
            parent = rows[parent]["parent_run_id"]
        if row["stage"] in ("generate", "judge") and parent:
            later.setdefault(parent, []).append(run)
    return [
        Trained(
            run,
            row["experiment"],
            row["arm"],
            row["seed"],
            row["stage"],
            tuple(later.get(run, ())),
            _taught(read_spec(run, row["spec"])),
        )
        for run, row in sorted(rows.items(), key=lambda r: (r[1]["arm"], r[1]["seed"], r[0]))
        if row["stage"] in ("base", "train")
    ]


def _taught(spec: dict[str, Any]) -> dict[str, Any]:
    model = (spec.get("train") or spec.get("base") or {}).get("model") or {}
    return {name: model[name] for name in ("eot_token", "chat_template") if name in model}


def _label(arm: str) -> str:
    """Return an arm as the charts write it into the name of a RayJob."""
    words = re.sub("[^a-z0-9]+", "-", arm.lower()).strip("-")
    return re.sub("^([0-9])", r"r\1", words)[:26].removesuffix("-") or "run"
