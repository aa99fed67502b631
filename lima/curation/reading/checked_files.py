"""The files of curation, checked before they are read: against the run's promise and its begin.

STORAGE/curation/run_id=R/files.json holds the fingerprint of every file, by source and name, as
the run found them when it began.
"""

import json
from collections.abc import Sequence

from lima.errors import ChangedInputError
from lima.inputs.content import Contents
from lima.inputs.listing import source_files
from lima.inputs.memory import Unknown
from lima.inputs.places import Place, of_stage
from lima.inputs.promise import check_place, look
from lima.spec import CellSpec
from lima.spec.codec import canonical_json
from lima.spec.curate import SourceSpec
from lima.store.storage import Storage

Files = dict[str, dict[str, str]]
"""Fingerprints by name, by the role of the source."""


def check_sources(storage: Storage, folder: str, cell: CellSpec) -> None:
    """Check all sources of a run, and record what each file contains.

    Args:
        storage: Of the study.
        folder: Where the record lies.
        cell: The stage curate.

    Raises:
        ChangedInputError: files are not those that the run was promised, or began with.
        InputError: a source is not there.

    """
    path = f"{folder}/files.json"
    before: Files = json.loads(storage.read(path)) if storage.exists(path) else {}
    now: Files = {}
    for place in _sources(cell):
        found = check_place(place, before.get(place.role)) or look(place)
        now[place.role] = {name: file.fingerprint for name, file in found.files.items()}
    if not before:
        storage.write(path, canonical_json(now).encode())
    elif changed := _changed(before, now):
        raise ChangedInputError(
            f"input files have changed since this run began: {', '.join(changed[:5])}; put the old "
            "ones back, or give the new ones another experiment name or another storage"
        )


def check_files(
    storage: Storage, folder: str, cell: CellSpec, source: SourceSpec, paths: Sequence[str]
) -> None:
    """Check some files of a source, or all of them, against what the run found when it began.

    Args:
        storage: Of the study.
        folder: Where the record lies.
        cell: The stage curate.
        source: The source.
        paths: Its files that will be read; none: all.

    Raises:
        ChangedInputError: a file is another one.

    """
    path = f"{folder}/files.json"
    if not storage.exists(path) or cell.curate is None:
        return
    place = _sources(cell)[cell.curate.sources.index(source)]
    before = json.loads(storage.read(path)).get(place.role, {})
    contents = Contents()
    for name, where in source_files(source.kind, place.paths).items():
        if paths and where not in paths:
            continue
        found = contents.file(where)
        now = found.why if isinstance(found, Unknown) else found.fingerprint
        if now != before.get(name):
            raise ChangedInputError(
                f"{where}: has changed since this run began: {before.get(name)} then, {now} now; "
                "put the old file back, or submit the study again: the new one makes a new run"
            )


def _sources(cell: CellSpec) -> list[Place]:
    return [place for place in of_stage(cell, "curate") if place.kind == "source"]


def _changed(before: Files, now: Files) -> list[str]:
    return sorted(
        name
        for role in {*before, *now}
        for name in {*before.get(role, {}), *now.get(role, {})}
        if before.get(role, {}).get(name) != now.get(role, {}).get(name)
    )
