"""Which runs of generation a storage holds, and which of them a person means."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from lima.errors import InputError
from lima.rating.dialogues import STAGE as CHAT
from lima.runs.lineage import read_spec
from lima.spec.codec import canonical_json
from lima.store.scan import Tables
from lima.store.shards import experiment_of, read_parquet, run_of
from lima.store.storage import Storage
from lima.store.tables import GENERATIONS, RUNS


@dataclass(frozen=True)
class Generated:
    """A run that has responses; `parent` is the run whose weights were sampled."""

    run: str
    experiment: str
    arm: str
    seed: int
    parent: str | None = None
    epoch: int | None = None
    setting: str = ""
    """How it was sampled but for the epoch, as canonical JSON."""
    chat: bool = False
    """Whether its responses are answers in conversations."""

    def __str__(self) -> str:
        epoch = f", epoch {self.epoch}" if self.epoch else ""
        return f"{self.run} ({self.experiment}, {self.arm}, seed {self.seed}{epoch})"


def generated_runs(storage: Storage, experiment: str | None = None) -> list[Generated]:
    """Return the runs that have responses, sorted by arm, seed and epoch.

    Raises:
        InputError: there are none.

    """
    facts = _facts(storage)
    found = []
    shards = {
        entry.path.rpartition("/")[0]: entry.path
        for entry in storage.entries(GENERATIONS.name)
        if entry.path.endswith(".parquet")
    }
    for shard in (shards[folder] for folder in sorted(shards)):
        name, run_id = experiment_of(shard), run_of(shard)
        if run_id and experiment in (None, name):
            row = read_parquet(storage, shard, ["arm", "seed"]).slice(0, 1).to_pylist()[0]
            fact = facts.get(run_id, _Fact())
            found.append(Generated(run_id, name, row["arm"], row["seed"], *fact))
    if not found:
        raise InputError(
            f"{storage.uri}: no responses{f' of {experiment}' if experiment else ''} to label; "
            "generate some: lima-k8s submit generate --local --recipe RECIPE"
        )
    return sorted(found, key=lambda g: (g.experiment, g.arm, g.seed, g.epoch or 0, g.run))


def chosen(
    runs: Sequence[Generated], name: str | None, option: str, what: str = "a run with responses"
) -> Generated:
    """Return the run that a name means: a run id, ARM/SEED, or an arm with one run.

    None: the only run.

    Raises:
        InputError: none, or several.

    """
    fitting = [g for g in runs if name in (None, g.run, g.arm, f"{g.arm}/{g.seed}")]
    if len(fitting) == 1:
        return fitting[0]
    state = f"{name!r} is not {what}" if not fitting else f"more than one is {what}"
    listed = "\n".join(f"  {g}" for g in fitting or runs)
    raise InputError(f"{state}; name one with {option}, by its id:\n{listed}")


def checkpoints(runs: Sequence[Generated], name: str | None) -> list[Generated]:
    """Return the runs of one model's epochs, sampled alike, by epoch.

    Args:
        runs: All runs with responses.
        name: An arm, a run of training or one of the runs; None: the only such group.

    Raises:
        InputError: no group, or several, or one of a single epoch.

    """
    groups: dict[tuple[str | None, str], list[Generated]] = {}
    for g in runs:
        if g.epoch is not None and name in (None, g.run, g.arm, g.parent):
            groups.setdefault((g.parent, g.setting), []).append(g)
    full = [group for group in groups.values() if len(group) > 1]
    if len(full) == 1:
        return sorted(full[0], key=lambda g: g.epoch or 0)
    if not full:
        raise InputError(
            "no model has responses of two epochs or more to the same prompts; generate them: "
            "lima-k8s submit generate … --set generate.model.epoch=5, and so on for each epoch"
        )
    listed = "\n".join(f"  {group[0].parent} ({group[0].arm})" for group in full)
    raise InputError(
        f"several models have responses of several epochs; name one with --run:\n{listed}"
    )


class _Fact(NamedTuple):
    """What the table `runs` tells of a run of generation, as fields of `Generated`."""

    parent: str | None = None
    epoch: int | None = None
    setting: str = ""
    chat: bool = False


def _facts(storage: Storage) -> dict[str, _Fact]:
    table = Tables(storage).read(RUNS, ["run_id", "stage", "parent_run_id", "spec"])
    return {
        row["run_id"]: _fact(
            row["parent_run_id"], read_spec(row["run_id"], row["spec"]), row["stage"] == CHAT
        )
        for row in table.to_pylist()
        if row["stage"] in ("generate", CHAT)
    }


def _fact(parent: str | None, spec: dict[str, Any], chat: bool) -> _Fact:
    if chat:
        return _Fact(parent, chat=True)
    generate = spec.get("generate") or {}
    model = generate.get("model") or {}
    setting = {**generate, "model": {**model, "epoch": None}}
    return _Fact(parent, model.get("epoch"), canonical_json(setting))
