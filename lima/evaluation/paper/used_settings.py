"""Which settings of a run had a say in it: what nothing was done with is no evidence.

A spec tells every setting, also those that nobody chose and nothing read: how to sample, of an arm
whose responses come from a file; the temperature of a pool that is drawn without one.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from lima.runs.lineage import Chain
from lima.spec import ENDPOINT, RESPONSES
from lima.store.scan import Tables
from lima.store.tables import GENERATIONS

NotApplied = Mapping[str, Collection[str]]
"""Decoding settings that an endpoint did not apply, by run of generation."""
_DECODING = "generate.decoding."


def read_not_applied(tables: Tables, chains: Sequence[Chain]) -> NotApplied:
    """Return the decoding settings that endpoints did not apply to some of their responses."""
    asked = [c.runs.get("generate") for c in chains if _sampled(c.spec).startswith(ENDPOINT)]
    runs = {run for run in asked if run}
    found: dict[str, set[str]] = {}
    parts = tables.map(GENERATIONS, ["not_applied"], lambda p: p.to_pylist(), runs=runs)
    for run, rows in parts if runs else ():
        found.setdefault(run, set()).update(*(row["not_applied"] or () for row in rows))
    return found


def used_of_cell(chain: Chain, path: str, not_applied: NotApplied) -> Any:
    """Return the setting at a path of a cell; None: no run of the cell did anything with it.

    Args:
        chain: the cell, as far as it has come.
        path: of the setting in its spec.
        not_applied: see `read_not_applied`.

    """
    stage = path.partition(".")[0]
    if stage not in chain.runs:
        return None
    if path.startswith(_DECODING):
        name, model = path.removeprefix(_DECODING), _sampled(chain.spec)
        left_out = not_applied.get(chain.runs["generate"], ())
        greedy = value_at(chain.spec, f"{_DECODING}temperature") == 0
        if model.startswith(RESPONSES) or name in left_out or (greedy and name == "top_p"):
            return None
    value = value_at(chain.spec, path)
    if path in ("train.checkpoints.first_epoch", "train.checkpoints.last_epoch"):
        # A shorter training exports its last epoch, whatever these say.
        epochs = value_at(chain.spec, "train.epochs")
        return value if value is not None and epochs is not None and value <= epochs else None
    return value


def used_of_curation(spec: Mapping[str, Any], path: str) -> Any:
    """Return the setting at a path of a run of curation; None: the run did nothing with it."""
    if path.startswith("curate.filters."):
        sources = value_at(spec, "curate.sources") or ()
        if not any(source.get("kind") == "stackexchange" for source in sources):
            return None
    if path.endswith(".temperature"):
        part = value_at(spec, path.removesuffix(".temperature")) or {}
        if part.get("balance") != "temperature":
            return None
    return value_at(spec, path)


def value_at(spec: Any, path: str) -> Any:
    """Return what lies at a path of a spec; an entry of a list goes by its name or its pool."""
    value = spec
    for key in path.split("."):
        if isinstance(value, list):
            found = [v for v in value if key in (v.get("name"), v.get("pool"))]
            value = found[0] if found else None
        else:
            value = value.get(key) if isinstance(value, dict) else None
    return value


def _sampled(spec: Mapping[str, Any]) -> str:
    """Return what a cell samples from."""
    return value_at(spec, "generate.model.path") or ""
