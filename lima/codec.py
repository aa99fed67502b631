"""Specs to and from JSON: canonical text, strict decoding, JSON Schema, run ids."""

import dataclasses
import difflib
import hashlib
import json
import re
import types
import typing
from typing import Any, TypeVar

import msgspec

from lima.errors import SpecError
from lima.spec import CellSpec, Stage, stage_cell

T = TypeVar("T")
RUN_ID_LENGTH = 16
"""Hex digits of a run id: short enough for the names of Kubernetes objects."""


def encode(spec: object) -> Any:
    """Return `spec` as plain dicts, lists, strings and numbers."""
    return msgspec.to_builtins(spec)


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_key(value: object) -> str:
    """Return the sha256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def spec_hash(cell: CellSpec) -> str:
    """Return the full hash of a cell, recorded in every row."""
    return sha256_key(cell)


def run_id(cell: CellSpec, stage: Stage | None = None) -> str:
    """Return the id of a run: of the whole cell, or of its part up to `stage`."""
    return spec_hash(stage_cell(cell, stage) if stage else cell)[:RUN_ID_LENGTH]


def decode(kind: type[T], value: object, where: str = "") -> T:
    """Turn plain data into a spec, strictly.

    Raises:
        SpecError: an unknown key, a missing key, a wrong type or a value out of range. The
            message names the path, and for an unknown key the closest known one.

    """
    _refuse_unknown_keys(kind, value, where)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SpecError(_explain(str(error), where)) from None


def json_schema(kind: type) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a spec; unknown properties are refused."""
    schema = msgspec.json.schema(kind)
    for definition in schema["$defs"].values():
        definition["additionalProperties"] = False
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def spec_type(annotation: object) -> type | None:
    """Return the dataclass inside an annotation (`Annotated[X | None, …]`), if there is one."""
    if dataclasses.is_dataclass(annotation) and isinstance(annotation, type):
        return annotation
    arguments = typing.get_args(annotation)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        return next((found for a in arguments if (found := spec_type(a))), None)
    return spec_type(arguments[0]) if arguments and hasattr(annotation, "__metadata__") else None


def field_types(kind: type) -> dict[str, object]:
    """Return the annotated type of every field of a spec."""
    return dict(typing.get_type_hints(kind, include_extras=True))


def unknown_key(key: str, known: typing.Iterable[str], where: str) -> SpecError:
    """Return the error for a key that no spec has, with the closest one that exists."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(names)}"
    return SpecError(f"{where or 'spec'}: unknown key {key!r}; {hint}")


def _refuse_unknown_keys(kind: object, value: object, where: str) -> None:
    nested = spec_type(kind)
    if nested is None:
        return
    if isinstance(value, list):
        for index, item in enumerate(value):
            _refuse_unknown_keys(nested, item, f"{where}[{index}]")
        return
    if not isinstance(value, dict):
        return
    fields = field_types(nested)
    for key, item in value.items():
        if key not in fields:
            raise unknown_key(str(key), fields, where)
        _refuse_unknown_keys(fields[key], item, f"{where}.{key}" if where else str(key))


def _explain(message: str, where: str) -> str:
    """Rewrite msgspec's message as `path: what is wrong`."""
    reason, _, path = message.partition(" - at `$")
    path = (where + path.rstrip("`")).lstrip(".")
    reason = reason.replace("Object missing required field", "required key is missing:")
    reason = re.sub(r"^Expected ", "expected ", reason).replace("`", "")
    return f"{path or 'spec'}: {reason}"
