"""Runs a study's own Python files, which add names to registries: each content once in a process.

A job hands them on to its workers by a variable of the environment: paths that end with
`DIGITS/PACKAGE.py`, the sha256 of the file and what its names begin with. One that is relative
stands below a place where Python looks for modules, since Ray puts files there.
"""

import hashlib
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from lima.common.variables import EXTENSIONS
from lima.errors import SpecError, whole_reason

LOCK = threading.RLock()
"""Held while files run, and names are asked for that they may add."""
_loaded: dict[str, str] = {}
"""sha256 of what ran, by package."""
_running: list[str] = []


@dataclass(frozen=True)
class HandedOn:
    """A file that a job has handed on, as `lima.spec.names.load_file` takes it."""

    package: str
    data: bytes
    where: str


def running() -> str | None:
    """Return the package whose file is being run; None: none is."""
    return _running[-1] if _running else None


def is_running(package: str) -> bool:
    """Say whether the package's file is being run, maybe for one that runs another meanwhile."""
    return package in _running


def loaded() -> frozenset[str]:
    """Return the packages whose files ran in this process."""
    return frozenset(_loaded)


def is_loaded(package: str, data: bytes) -> bool:
    """Say whether this content ran here for the package, as the last one."""
    return _loaded.get(package) == _digits(data)


def execute(package: str, data: bytes, where: str) -> None:
    """Run a file as the module `package`.

    Raises:
        SpecError: it fails.

    """
    module = ModuleType(package)
    module.__file__ = where
    sys.modules[package] = module  # where dataclasses and pickle look
    _loaded.pop(package, None)
    _running.append(package)
    try:
        exec(compile(data, where, "exec"), module.__dict__)
    except (Exception, SystemExit) as error:
        sys.modules.pop(package, None)  # the file may have taken it away
        raise SpecError(f"{where}: {_told(error, where)}") from error
    finally:
        _running.pop()
    _loaded[package] = _digits(data)


def _told(error: BaseException, where: str) -> str:
    if isinstance(error, SpecError):
        return str(error)
    lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == where]
    line = f"line {lines[-1]}: " if lines else ""
    advice = "mend it"
    if isinstance(error, ImportError):
        advice = "what it imports must be installed here and where the jobs run"
    return f"{line}{type(error).__name__}: {whole_reason(error)}; {advice}"


def handed_on() -> Iterator[HandedOn]:
    """Yield the files that the job of this process has handed on.

    Raises:
        SpecError: one is not there, or holds something else.

    """
    for entry in filter(None, os.environ.get(EXTENSIONS, "").split(os.pathsep)):
        file = _found(Path(entry))
        data = file.read_bytes()
        if _digits(data) != file.parent.name:
            raise SpecError(f"{file}: is not the file of this run any more; start the job again")
        yield HandedOn(file.stem, data, str(file))


def as_variable(files: Iterable[str]) -> dict[str, str]:
    """Return the variable that hands on these files."""
    return {EXTENSIONS: os.pathsep.join(files)}


def _found(path: Path) -> Path:
    places = [Path(place) / path for place in ("", *sys.path)]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise SpecError(f"{path}: the job's file is not there any more; start the job again")
    return found


def _digits(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
