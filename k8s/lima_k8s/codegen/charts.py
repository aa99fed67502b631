"""Writes what a chart has from Python: `python -m lima_k8s.codegen.charts charts`.

values.yaml and values.schema.json of every chart come from the recipes and the cluster spec; a
test compares them with the repository.
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from lima.recipes.curation import curate_lima
from lima.recipes.paper import ablations_7b, lima_65b
from lima.recipes.study_file import FOR_READERS
from lima.spec import CellSpec, Stage
from lima.spec.codec import encode, field_types, spec_type
from lima.training.sizing.state_size import state_gib
from lima_k8s.profile.cluster_spec import ClusterSpec, merge
from lima_k8s.profile.kinds import up_to
from lima_k8s.profile.queue_spec import QueueSpec
from lima_k8s.terminal.output import yaml_text

NOTICE = "# Made from the code by `make charts`; changes here are lost."
QUEUE_CHART = "lima-queue"


@dataclass(frozen=True)
class RunChart:
    """A chart of runs: the recipe that it has by default, and how its cluster differs."""

    recipe: str
    cells: tuple[CellSpec, ...]
    last: Stage
    cluster: Mapping[str, Any]


def run_charts() -> dict[str, RunChart]:
    """Return the charts of runs by name."""
    alone: dict[str, Any] = {}
    elastic = {"autoscaling": {"enabled": True}}
    charts = {
        "lima-train": RunChart("lima_65b", lima_65b(), "train", alone),
        "lima-ablation": RunChart("ablations_7b", ablations_7b(), "judge", alone),
        "lima-generate": RunChart("lima_65b", lima_65b(), "generate", elastic),
        "lima-judge": RunChart("ablations_7b", ablations_7b(), "judge", alone),
        "lima-curate": RunChart("curate_lima", curate_lima(), "curate", alone),
    }
    return {
        name: replace(chart, cells=tuple(up_to(cell, chart.last) for cell in chart.cells))
        for name, chart in charts.items()
    }


def render() -> dict[str, str]:
    """Return what is made from the code: path below the charts' folder, and text."""
    files = {}
    for name, chart in run_charts().items():
        judged = name == "lima-judge"
        state = 0.0 if judged else max(map(state_gib, chart.cells))
        changes = merge({"stop": {"stateGiB": state}}, chart.cluster)
        cluster = merge(encode(ClusterSpec()), changes)
        runs = [encode(cell) for cell in chart.cells]
        files[f"{name}/values.yaml"] = _values(
            [("cluster", ClusterSpec, cluster)], runs, chart.recipe
        )
        files[f"{name}/values.schema.json"] = _schema({"cluster": ClusterSpec}, with_runs=True)
    parts = [
        ("queue", QueueSpec, encode(QueueSpec())),
        ("cluster", ClusterSpec, encode(ClusterSpec())),
    ]
    files[f"{QUEUE_CHART}/values.yaml"] = _values(parts)
    files[f"{QUEUE_CHART}/values.schema.json"] = _schema(
        {"queue": QueueSpec, "cluster": ClusterSpec}, with_runs=False
    )
    return files


def write(folder: Path) -> None:
    """Write all files below the charts' folder."""
    for path, text in render().items():
        (folder / path).write_text(text, "utf-8")


def _values(
    parts: list[tuple[str, type, dict[str, Any]]],
    runs: list[dict[str, Any]] | None = None,
    recipe: str = "",
) -> str:
    lines = [NOTICE]
    for key, kind, values in parts:
        lines += ["", f"# {_first_line(kind)}", f"{key}:"]
        lines += [f"  {line}" for line in _commented(kind, values)]
    if runs is not None:
        lines += [
            "",
            "# -- The runs, as `lima-k8s show RECIPE` writes them; one RayJob each.",
            f"# @default -- recipe `{recipe}`",
            yaml_text({"runs": runs}),
        ]
    return "\n".join([*lines, ""])


def _commented(kind: type, values: Mapping[str, Any]) -> Iterator[str]:
    """Yield YAML lines, each field below its description as helm-docs reads it."""
    types = field_types(kind)
    for item in dataclasses.fields(kind):
        nested, value = spec_type(types[item.name]), values[item.name]
        description = _description(types[item.name])
        if nested and isinstance(value, Mapping):
            yield f"# {description or _first_line(nested)}"
            yield f"{item.name}:"
            yield from (f"  {line}" for line in _commented(nested, value))
        else:
            yield f"# -- {description}"
            yield from yaml_text({item.name: value}).splitlines()


def _description(annotation: Any) -> str:
    found = [m.description for m in getattr(annotation, "__metadata__", ()) if m.description]
    return found[0] if found else ""


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n", 1)[0]


def _schema(parts: Mapping[str, type], *, with_runs: bool) -> str:
    kinds = [*parts.values(), *([CellSpec] if with_runs else [])]
    references, definitions = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    for definition in definitions.values():
        definition["additionalProperties"] = False
    for name in _of_clusters(parts):
        for allowed in definitions[name].get("properties", {}).values():
            _take_text(allowed)
    for reference in references[: len(parts)]:
        _require_all(reference, definitions)
    properties: dict[str, Any] = dict(zip(parts, references, strict=False))
    # Helm gives these to every chart; those of the library hold nothing.
    properties |= {"global": {"type": "object"}, "lima-common": {"type": "object"}}
    if with_runs:
        # A file for lima-queue and the runs has both; the template says what a run lacks.
        properties["queue"] = {"type": "object"}
        whole = {"required": definitions["CellSpec"]["required"]}
        items = {"type": "object", "if": whole, "then": references[-1]}
        properties["runs"] = {"type": "array", "items": items}
        for name in FOR_READERS:
            properties[name] = {"type": "array"}
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": properties,
        "required": [*parts, *(["runs"] if with_runs else [])],
        "additionalProperties": False,
        "$defs": definitions,
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _of_clusters(parts: Mapping[str, type]) -> set[str]:
    """Return the names of the definitions that `parts` need; those of runs are apart."""
    return set(msgspec.json.schema_components(parts.values(), ref_template="{name}")[1])


def _require_all(reference: dict[str, Any], definitions: dict[str, dict[str, Any]]) -> None:
    """Require what has a default, all the way down: null, which takes it away, is then refused.

    What may be empty may be null: lists, mappings, and text that is empty by default.
    """
    definition = definitions[reference["$ref"].rpartition("/")[2]]
    properties = definition.get("properties", {})
    definition["required"] = [
        name for name, allowed in properties.items() if not _may_be_empty(allowed)
    ]
    for allowed in properties.values():
        if "$ref" in allowed:
            _require_all(allowed, definitions)


def _may_be_empty(allowed: dict[str, Any]) -> bool:
    return (
        allowed.get("type") in ("array", "object")
        or "anyOf" in allowed
        or allowed.get("default") == ""
    )


def _take_text(allowed: dict[str, Any]) -> None:
    """Let a number be text too: Helm's --set makes text of 3.5."""
    if allowed.get("type") == "number":
        allowed["type"] = ["number", "string"]
        allowed["pattern"] = r"^[0-9]+(\.[0-9]+)?$"


if __name__ == "__main__":
    write(Path(sys.argv[1]))
