"""Specs to and from JSON: canonical text, strict decoding, JSON Schema, run ids."""

import dataclasses
import hashlib
import json
import math
import re
import types
import typing
from typing import Any, TypeVar

import msgspec

from lima.errors import SpecError
from lima.spec.cell import CellSpec, Stage
from lima.spec.credentials import refuse_credentials
from lima.spec.extensions import package_of
from lima.spec.hints import closest
from lima.spec.names import names_of
from lima.spec.stages import stage_cell, used_extensions

T = TypeVar("T")
RUN_ID_LENGTH = 16
"""Hex digits of a run id: short enough for the names of Kubernetes objects."""


def encode(spec: object, *, operational: bool = True) -> Any:
    """Return `spec` as plain dicts, lists, strings and numbers, with all defaults.

    Without `operational`, fields that are no part of a run's identity are left out.
    """
    # Not msgspec.to_builtins: it leaves out the defaults of what msgspec.convert has made.
    if dataclasses.is_dataclass(spec):
        named = set() if operational else _named_by_content(spec)
        return {
            f.name: encode(_counted(f, spec, operational), operational=operational)
            for f in dataclasses.fields(spec)
            if operational or (f.name not in named and _decides(f, getattr(spec, f.name)))
        }
    if isinstance(spec, dict):
        return {key: encode(value, operational=operational) for key, value in spec.items()}
    if isinstance(spec, list | tuple):
        return [encode(item, operational=operational) for item in spec]
    return spec


def _counted(field: "dataclasses.Field[Any]", spec: object, operational: bool) -> object:
    """Return the value of a field; in an identity, of one that once was part of it, the former."""
    value = getattr(spec, field.name)
    return value if operational else field.metadata.get("once", value)


def _decides(field: "dataclasses.Field[Any]", value: object) -> bool:
    """Say whether a field is part of a run's identity (see `lima.spec.identity`)."""
    if field.metadata.get("later") and value == field.default:
        return False
    return "once" in field.metadata or not field.metadata.get("operational")


def _named_by_content(spec: Any) -> set[str]:
    """Return the fields in whose place a known fingerprint is part of a run's identity."""
    return {
        name
        for field in dataclasses.fields(spec)
        if getattr(spec, field.name) is not None
        for name in field.metadata.get("stands_for", ())
    }


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, UTF-8, no NaN."""
    return json.dumps(
        encode(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    )


def sha256_key(value: object) -> str:
    """Return the sha256 of the canonical JSON of `value`, as 64 hex digits."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def spec_hash(cell: CellSpec) -> str:
    """Return the full hash of what a cell finds, recorded in every row."""
    return sha256_key(encode(used_extensions(cell), operational=False))


def run_id(cell: CellSpec, stage: Stage | None = None) -> str:
    """Return the id of a run: of the whole cell, or of its part up to `stage`."""
    return spec_hash(stage_cell(cell, stage) if stage else cell)[:RUN_ID_LENGTH]


def decode(
    kind: type[T], value: object, where: str = "", extensions: typing.Sequence[str] = ()
) -> T:
    """Turn plain data into a spec, strictly.

    A name of one of its own extensions is taken as it is, since a spec is also read where that file
    is not: `lima.spec.extensions.require_names` is for where it is.

    Args:
        kind: Of the spec.
        value: What JSON knows.
        where: What messages begin with.
        extensions: Python files that go with it beside its own.

    Raises:
        SpecError: an unknown key, a missing key, a wrong type or a value out of range. The
            message names the path, what is allowed there and what was given; for an unknown
            key the closest known one.

    """
    given = {package_of(path) for path in extensions}
    _refuse_unknown(kind, value, where, _own_packages(kind, value) | given)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise SpecError(_explain(str(error), kind, value, where)) from None


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


def is_list(annotation: object) -> bool:
    """Say whether a field of this type holds a list (`tuple[X, ...]`)."""
    if hasattr(annotation, "__metadata__"):
        return is_list(typing.get_args(annotation)[0])
    return typing.get_origin(annotation) is tuple


def is_unicode(text: str) -> bool:
    """Say whether a text can be stored: one from JSON may hold half of a surrogate pair."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def shortened(text: str, length: int = 200) -> str:
    """Return a text as a message can show it: cut where it is longer than `length`."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def type_text(annotation: object) -> str:
    """Return the type and the range of a field in words, as `integer >= 1 or null`."""
    arguments = typing.get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        names = names_of(annotation.__metadata__)
        plain = type_text(arguments[0]) + _range_text(annotation.__metadata__)
        return _one_of(names) if names else plain
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_text(a) for a in arguments)
    if origin is typing.Literal:
        return _one_of(arguments)
    if origin in (tuple, dict):
        list_or_mapping, item = ("list", 0) if origin is tuple else ("mapping", 1)
        return f"{list_or_mapping} of {type_text(arguments[item])}"
    if spec_type(annotation):
        return "mapping"
    return _TYPE_NAMES[annotation]


def _one_of(values: typing.Iterable[object]) -> str:
    return "one of " + ", ".join(json.dumps(value) for value in values)


def unknown_key(key: str, known: typing.Iterable[str], where: str) -> SpecError:
    """Return the error for a key that no spec has, with the closest one that exists."""
    return SpecError(f"{where or 'spec'}: unknown key {key!r}; {closest(key, known, 'known keys')}")


_TYPE_NAMES: dict[object, str] = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true or false",
    type(None): "null",
    Any: "anything",
}
_BOUNDS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}


def _range_text(metadata: tuple[msgspec.Meta, ...]) -> str:
    parts = [
        f"{sign} {getattr(meta, bound)}"
        for meta in metadata
        for bound, sign in _BOUNDS.items()
        if getattr(meta, bound) is not None
    ]
    for meta in metadata:
        if meta.min_length is not None or meta.max_length is not None:
            most = "or more" if meta.max_length is None else f"to {meta.max_length}"
            parts.append(f"of {meta.min_length or 0} {most} characters")
        if meta.pattern is not None:
            parts.append(f"matching {meta.pattern}")
    return "".join(f"{' and' if i else ''} {part}" for i, part in enumerate(parts))


def _own_packages(kind: object, value: object) -> frozenset[str]:
    """Return the packages of the extensions of a cell that is plain data, as far as it has any."""
    found = value.get("extensions") if kind is CellSpec and isinstance(value, dict) else None
    items = found if isinstance(found, list) else []
    paths = [item.get("path") for item in items if isinstance(item, dict)]
    return frozenset(package_of(path) for path in paths if isinstance(path, str))


def _refuse_unknown(kind: object, value: object, where: str, own: frozenset[str]) -> None:
    """Refuse what msgspec lets pass: unknown keys, passwords, what canonical JSON cannot hold."""
    if isinstance(value, float) and not math.isfinite(value):
        raise SpecError(f"{where or 'spec'}: expected a finite number, got {value}")
    if isinstance(value, str) and not is_unicode(value):
        raise SpecError(f"{where or 'spec'}: {value!a} is not Unicode text")
    if isinstance(value, str):
        refuse_credentials(value, where or "spec")
        package, dot, _ = value.partition(".")
        if not (dot and package in own):
            _refuse_unknown_name(kind, value, where)
    # Only as deep as the types go: what was given may be nested without end.
    if isinstance(value, list):
        if is_list(kind):
            for index, item in enumerate(value):
                _refuse_unknown(_item_type(kind), item, f"{where}[{index}]", own)
        return
    nested = spec_type(kind)
    if nested is None or not isinstance(value, dict):
        return
    fields = field_types(nested)
    for key, item in value.items():
        if key not in fields:
            raise unknown_key(str(key), fields, where)
        _refuse_unknown(fields[key], item, f"{where}.{key}" if where else str(key), own)


def _refuse_unknown_name(kind: object, value: str, where: str) -> None:
    """Refuse a name that a field of these names does not have."""
    names = names_of(getattr(kind, "__metadata__", ()))
    if names is not None and value not in names:
        package, dot, _ = value.partition(".")
        advice = f"; if {package}.py of yours adds it: --extension {package}.py" if dot else ""
        raise SpecError(f"{where}: expected {_one_of(names)}, got {_shown(value)}{advice}")


def _explain(message: str, kind: object, value: object, where: str) -> str:
    """Rewrite msgspec's message as `path: what is allowed, what was given`."""
    reason, _, path = message.partition(" - at `$")
    path = path.rstrip("`").partition("[...]")[0]  # a value of a mapping: its key is not told
    place = (where + path).lstrip(".") or "spec"
    if missing := re.match("Object missing required field `(.+)`", reason):
        return f"{place}: the key {missing[1]!r} is missing"
    expected, given = _at(kind, value, path)
    return f"{place}: expected {type_text(expected)}, got {_shown(given)}"


def _shown(value: object) -> str:
    try:
        return shortened(json.dumps(value, ensure_ascii=False, default=str), 60)
    except RecursionError:
        return "lists or mappings within each other without end"


def _at(kind: object, value: Any, path: str) -> tuple[object, Any]:
    """Return the annotation and the value at a path like `.train.data.sources[1]`."""
    for index, key in re.findall(r"\[(\d+)\]|\.([^.\[]+)", path):
        if index:
            kind, value = _item_type(kind), value[int(index)]
        else:
            kind, value = field_types(typing.cast(type, spec_type(kind)))[key], value[key]
    return kind, value


def _item_type(annotation: object) -> object:
    """Return the type of the items of `tuple[X, ...]`."""
    inner = typing.get_args(annotation)[0]
    return _item_type(inner) if hasattr(annotation, "__metadata__") else inner
