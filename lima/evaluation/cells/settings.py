"""The settings of cells, flat: `train.optimizer.lr_start` to its value; what differs, what for."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from lima.runs.lineage import Chain
from lima.spec import STAGES, CellSpec, Stage
from lima.spec.codec import encode, field_types, spec_type
from lima.spec.flat import flatten


@dataclass(frozen=True)
class Setting:
    """What a field of a spec means; `operational` ones are no part of a run's identity.

    Nor is a `later` one while it has its default: a run from before it says nothing of it.
    """

    description: str
    operational: bool
    later: bool = False
    default: Any = None


FINGERPRINT = ".fingerprint"


def settings(chain: Chain, stage: Stage, *, operational: bool = False) -> dict[str, Any]:
    """Return the settings of a stage that decide its results; empty if it is not reached.

    Seeds are left out: cells that differ in nothing else are the same experiment again.
    `operational` adds what only decides how fast the stage goes.
    """
    flat = flatten(chain.spec.get(stage) or {}, stage)
    known = known_settings()
    return {
        path: value
        for path, value in flat.items()
        if not path.endswith(".seed")
        and (path not in known or _counts(known[path], value, operational))
    }


def _counts(setting: Setting, value: Any, operational: bool) -> bool:
    is_unset = setting.later and value == setting.default
    return operational or not (is_unset or setting.operational)


def differing(chains: Iterable[Chain], stages: Sequence[Stage] = STAGES) -> dict[str, list[Any]]:
    """Return the settings that differ between chains: path to the different values.

    A stage that a chain has not reached yet says nothing about its settings.
    """
    chains, found = list(chains), {}
    for stage in stages:
        reached = [flat for chain in chains if (flat := settings(chain, stage))]
        for path in dict.fromkeys(path for flat in reached for path in flat):
            values = [flat.get(path) for flat in reached]
            unique = [v for i, v in enumerate(values) if v not in values[:i]]
            if len(unique) > 1:
                found[path] = unique
        _by_content(found, reached)
    return found


def _by_content(found: dict[str, list[Any]], reached: Sequence[dict[str, Any]]) -> None:
    """Let an input differ by what it contains: where it lies is how it is told, if it does."""
    for path in [path for path in {key for flat in reached for key in flat} if FINGERPRINT in path]:
        places = [f"{path.removesuffix(FINGERPRINT)}.{name}" for name in ("path", "revision")]
        if path in found and places[0] in found:
            del found[path]
        elif path not in found and reached[0].get(path):
            for place in places:
                found.pop(place, None)


@cache
def known_settings() -> dict[str, Setting]:
    """Return all settings that a spec can have, by path."""
    types = field_types(CellSpec)
    return {
        path: setting
        for stage in STAGES
        for path, setting in _settings_of(spec_type(types[stage]), stage).items()
    }


def _settings_of(kind: type | None, where: str) -> dict[str, Setting]:
    if kind is None or not dataclasses.is_dataclass(kind):
        return {}
    found, types = {}, field_types(kind)
    for field in dataclasses.fields(kind):
        path, annotation = f"{where}.{field.name}", types[field.name]
        metas = getattr(annotation, "__metadata__", ())
        description = next((m.description for m in metas if m.description), "")
        found[path] = Setting(
            description,
            bool(field.metadata.get("operational")),
            bool(field.metadata.get("later")),
            encode(field.default) if field.metadata.get("later") else None,
        )
        found |= _settings_of(spec_type(annotation), path)
    return found
