"""Overrides: `--set train.epochs=3` changes one value of every run of a study."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any, Union, get_args, get_origin

from lima.errors import SpecError
from lima.spec import CellSpec, cell_stages
from lima.spec.codec import decode, encode, field_types, is_list, shortened, spec_type, type_text
from lima.spec.hints import close_names, did_you_mean

NULLS = ("null", "~")


@dataclass(frozen=True)
class Override:
    """A path into a cell and the value to put there, checked against the types of the spec."""

    path: tuple[str, ...]
    value: Any


def parse_override(text: str) -> Override:
    """Parse `path=value`; the value is YAML: a number, a word, null, `[a, b]`, `{path: x}`.

    Raises:
        SpecError: no `=`, a value that is not YAML, or a path that no spec has.

    """
    name, separator, raw = text.partition("=")
    path = tuple(name.strip().split("."))
    if not separator or not all(path):
        raise SpecError(f"--set {text!r}: write PATH=VALUE, for example train.epochs=3")
    annotation = _annotation(path, f"--set {'.'.join(path)}")
    return Override(path, _value(raw, annotation, name))


def overrides_of(settings: object, where: str) -> list[Override]:
    """Return the overrides that a mapping of a file stands for.

    Keys are paths, `train.epochs: 3`, or mappings of such, `train: {epochs: 3}`; what a mapping
    does not name stays as it is.

    Args:
        settings: As read from the file.
        where: Of the file, for messages.

    Raises:
        SpecError: it is no mapping, or names a path that no spec has.

    """
    return list(_flattened(settings, (), where))


def _flattened(settings: object, above: tuple[str, ...], where: str) -> Iterator[Override]:
    if not isinstance(settings, dict):
        raise SpecError(
            f"{where}: expected a mapping of settings, as {{train.epochs: 3}}, got {settings!r}"
        )
    for key, value in settings.items():
        path = (*above, *str(key).split("."))
        annotation = _annotation(path, f"{where}: {'.'.join(path)}")
        if isinstance(value, dict) and spec_type(annotation) and not is_list(annotation):
            yield from _flattened(value, path, where)
        else:
            yield Override(path, value)


def changed(
    cell: CellSpec, overrides: Sequence[Override], where: str, extensions: Sequence[str] = ()
) -> CellSpec:
    """Return a cell with overrides applied, in their order, and checked as a whole.

    Args:
        cell: What is changed.
        overrides: The changes.
        where: What messages begin with.
        extensions: Python files whose names it may have beside those of its own.

    Raises:
        SpecError: it is not valid.

    """
    try:
        return _apply(cell, overrides, extensions)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None


def apply_overrides(cells: Sequence[CellSpec], texts: Sequence[str]) -> tuple[CellSpec, ...]:
    """Return the cells with all overrides applied, in their order, and checked as a whole.

    A value below a stage or a part that is null creates it from its defaults; below a stage that
    other runs of the study have, it is theirs alone: an arm that is not trained stays so.

    Raises:
        SpecError: an override cannot be parsed, or makes a spec that is not valid.

    """
    overrides = [parse_override(text) for text in texts]
    if not overrides:
        return tuple(cells)
    return tuple(_apply(cell, meant_for(cell, overrides, cells)) for cell in cells)


def meant_for(
    cell: CellSpec, overrides: Sequence[Override], study: Sequence[CellSpec]
) -> list[Override]:
    """Return the overrides without those below a stage that only other runs of the study have."""
    of_others = {stage for other in study for stage in cell_stages(other)} - {*cell_stages(cell)}
    return [o for o in overrides if len(o.path) == 1 or o.path[0] not in of_others]


def _apply(
    cell: CellSpec, overrides: Sequence[Override], extensions: Sequence[str] = ()
) -> CellSpec:
    plain = encode(cell)
    for override in overrides:
        target = plain
        for key in override.path[:-1]:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
        target[override.path[-1]] = override.value
    return decode(CellSpec, plain, extensions=extensions)


def _annotation(path: tuple[str, ...], told: str) -> object:
    """Return the type of the field at a path; the error for a wrong one names the closest."""
    annotation: object = CellSpec
    for depth, key in enumerate(path):
        kind, where = spec_type(annotation), ".".join(path[:depth])
        if is_list(annotation):
            raise SpecError(
                f"{told}: {where} is a list; set it as a whole, or edit a file "
                "that `lima-k8s show RECIPE` wrote"
            )
        if kind is None:
            raise SpecError(f"{told}: {where} is a single value, without keys")
        fields = field_types(kind)
        if key not in fields:
            raise SpecError(f"{told}: no such path; {_hint('.'.join(path))}")
        annotation = fields[key]
    return annotation


def _hint(wanted: str) -> str:
    """Name the paths that end in `wanted`, else the closest one."""
    known = known_paths()
    same_end = [path for path in known if path.endswith(f".{wanted}")]
    meant = did_you_mean(same_end or close_names(wanted, known))
    return meant or "`lima-k8s show RECIPE` shows all paths"


def known_paths() -> list[str]:
    """Return all paths that an override can name."""
    return list(_paths(CellSpec))


def _paths(kind: type) -> Iterator[str]:
    for name, annotation in field_types(kind).items():
        yield name
        nested = spec_type(annotation)
        if nested is not None and not is_list(annotation):
            yield from (f"{name}.{path}" for path in _paths(nested))


def _value(raw: str, annotation: object, name: str) -> Any:
    """Read a value as YAML; text is what is written, unless that is quoted or null."""
    import yaml

    from lima.spec.yamltext import load_yaml

    try:
        value = load_yaml(raw)
    except yaml.YAMLError as error:
        value, problem = raw, str(error).splitlines()[0]
        if not _is_text(annotation):
            raise SpecError(
                f"--set {name}: {shortened(repr(raw))} is not YAML ({problem}); expected "
                f"{type_text(annotation)}"
            ) from None
    if _is_text(annotation) and not isinstance(value, str) and raw.strip() not in NULLS:
        return raw.strip()
    return value


def _is_text(annotation: object) -> bool:
    if hasattr(annotation, "__metadata__"):
        return _is_text(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return any(_is_text(a) for a in get_args(annotation))
    return annotation is str
