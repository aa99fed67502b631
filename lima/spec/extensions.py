"""Python files of a study's own: what each may be called, and who uses its names."""

import functools
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, is_dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Annotated, Any, get_type_hints

from msgspec import Meta

from lima.common.paths import file_name
from lima.errors import SpecError
from lima.spec import extension_files
from lima.spec.identity import Fingerprint, stands_for
from lima.spec.names import Names, names_of

SUFFIX = ".py"


@dataclass(frozen=True)
class ExtensionSpec:
    """A Python file that adds names to engines, rubrics, sources or batch builders."""

    path: Annotated[
        str,
        Meta(
            min_length=1,
            description="A file or a storage URI, `PACKAGE.py`; it adds names `PACKAGE.NAME`.",
        ),
    ]
    fingerprint: Fingerprint = field(default=None, metadata=stands_for("path"))

    @property
    def package(self) -> str:
        """What its names begin with."""
        return package_of(self.path)


def package_of(path: str) -> str:
    """Return what the names begin with that a file adds."""
    return file_name(path).removesuffix(SUFFIX)


def packages(spec: object) -> set[str]:
    """Return the packages of the names that a part of a spec has."""
    return {name.partition(".")[0] for _, _, name in _named(spec, "") if "." in name}


def require_names(spec: object, where: str) -> None:
    """Refuse names that nobody has added.

    Raises:
        SpecError: a part of the spec has one.

    """
    for place, names, name in _named(spec, where):
        if name not in names:
            known = ", ".join(names)
            raise SpecError(f"{place}: no {name!r} among the {names.kind}, which are {known}")


def require_file_name(path: str) -> None:
    """Refuse a file that is not called as a module.

    Raises:
        SpecError: it is not.

    """
    if not path.endswith(SUFFIX) or not package_of(path).isidentifier():
        raise SpecError(
            f"{path}: an extension is a file PACKAGE.py, PACKAGE of letters, digits and "
            "underscores; its names are PACKAGE.NAME; give it such a name"
        )


def require_free(path: str, data: bytes) -> None:
    """Refuse a file whose names could be another's.

    Args:
        path: Of the file.
        data: Its content.

    Raises:
        SpecError: a module of its name is there already.

    """
    package = package_of(path)
    if _is_anothers(package, data):
        raise SpecError(
            f"{path}: a module {package!r} is installed, whose names {package}.… these could be; "
            "give the file another name"
        )


def _is_anothers(package: str, data: bytes) -> bool:
    if package in extension_files.loaded():
        return False
    if package in sys.stdlib_module_names or package in sys.modules:
        return True
    found = PathFinder.find_spec(package)
    if found is None or found.origin is None:  # a folder of that name is no package
        return False
    # The file itself, where Python looks for modules.
    return Path(found.origin).read_bytes() != data


def _named(spec: object, where: str) -> Iterator[tuple[str, Names, str]]:
    """Yield the places of a spec that hold a name, the names that are known there, and the name."""
    if isinstance(spec, tuple):
        for index, item in enumerate(spec):
            yield from _named(item, f"{where}[{index}]")
    if not is_dataclass(spec) or isinstance(spec, type):
        return
    of_fields = _names_of_fields(type(spec))
    for part in fields(spec):
        value, place = getattr(spec, part.name), f"{where}.{part.name}".lstrip(".")
        if names := of_fields.get(part.name):
            yield place, names, value
        else:
            yield from _named(value, place)


@functools.cache
def _names_of_fields(kind: Any) -> dict[str, Names]:
    hints = get_type_hints(kind, include_extras=True)
    found = {name: names_of(getattr(hint, "__metadata__", ())) for name, hint in hints.items()}
    return {name: names for name, names in found.items() if names is not None}
