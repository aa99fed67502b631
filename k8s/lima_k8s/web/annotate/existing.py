"""The rounds of labelling that exist: which one is meant, read without a change to anything."""

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lima.errors import InputError, LimaError
from lima.rating.items import EvaluationSpec
from lima.spec.codec import decode
from lima.store.storage import Storage
from lima_k8s.web.annotate.database import read_only

FOLDER = "annotate"
SAME_ROUND = ("count", "shared")
"""What may differ between the commands of one round: draws are nested, so more of it is the same
round grown, and less of it is there already."""


@dataclass(frozen=True)
class Round:
    """A round that exists: its file, and what it began as."""

    path: Path
    spec: EvaluationSpec

    def __str__(self) -> str:
        others = f" against {', '.join(self.spec.others)}" if self.spec.others else ""
        return f"{self.path}: {self.spec.kind} of {self.spec.arm} ({self.spec.run}){others}"


def rounds_folder(storage: Storage) -> Path:
    """Return where stores lie: beside the tables, or here for an object store."""
    return storage.local_path(FOLDER) or Path("lima-annotate")


def same_round(one: EvaluationSpec, other: EvaluationSpec) -> bool:
    """Say whether two specs are of one round, which may be more or less of it."""
    nothing: dict[str, Any] = dict.fromkeys(SAME_ROUND)
    return replace(one, **nothing) == replace(other, **nothing)


def find_round(
    storage: Storage, spec: EvaluationSpec, database: Path | None = None
) -> Round | None:
    """Return the round that `spec` goes on with, in the file if one is named; None: a new one.

    Raises:
        InputError: several are, of other counts; the message names them.

    """
    found = [known for known in _rounds(storage, database) if same_round(known.spec, spec)]
    exact = [known for known in found if known.spec == spec]
    return _only(exact or found) if found else None


def existing_round(
    storage: Storage,
    database: Path | None,
    wanted: Mapping[str, Any],
    otherwise: Mapping[str, Any],
) -> Round:
    """Return the one round that exists and is as `wanted` says.

    Args:
        storage: Where rounds are looked for.
        database: The file of one, if it is named.
        wanted: Fields of its spec.
        otherwise: Fields by which one of several is told: what a new round would have.

    Raises:
        InputError: none is, or several are; the message names them.

    """
    known = _rounds(storage, database)
    found = _fitting(known, wanted)
    if not found:
        listed = "".join(f"\n  {r}" for r in known) or " none"
        raise InputError(
            f"{database or storage.uri}: no such round of labelling; rounds there:{listed}\n"
            "begin one with `lima-k8s annotate STORAGE --run ARM --against ARM`"
        )
    return _only(_fitting(found, otherwise) or found)


def _fitting(rounds: list[Round], fields: Mapping[str, Any]) -> list[Round]:
    return [r for r in rounds if all(getattr(r.spec, k) == v for k, v in fields.items())]


def _only(found: list[Round]) -> Round:
    if len(found) > 1:
        listed = "".join(f"\n  {known}" for known in found)
        raise InputError(f"several rounds of labelling fit; name one with --database:{listed}")
    return found[0]


def _rounds(storage: Storage, database: Path | None) -> list[Round]:
    paths: Iterable[Path] = (
        [database] if database else sorted(rounds_folder(storage).glob("*.sqlite"))
    )
    return [found for path in paths if path.is_file() and (found := _read(path))]


def _read(path: Path) -> Round | None:
    """Return the round that a file holds; None: it holds none that this version can read."""
    try:
        with read_only(path) as db:
            row = db.execute("SELECT value FROM settings WHERE name = 'spec'").fetchone()
        return Round(path, decode(EvaluationSpec, json.loads(row[0]), str(path))) if row else None
    except (sqlite3.DatabaseError, LimaError, ValueError):
        return None
