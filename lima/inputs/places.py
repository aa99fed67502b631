"""The places of a spec that name an input: where each is read, and its fingerprint.

One walk over a cell serves all who look at its inputs and all who write fingerprints into it.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from lima.common.paths import below, file_name
from lima.spec import (
    ENDPOINT,
    RESPONSES,
    CellSpec,
    DataSpec,
    ExtensionSpec,
    GenerateSpec,
    ModelSpec,
    Stage,
    TrainSpec,
    cell_stages,
)
from lima.spec.curate import CurateSpec, SourceSpec
from lima.spec.extensions import packages

Kind = Literal["data", "responses", "model", "source", "picks", "file", "tokenizer", "extension"]
MADE_HERE = ("scratch", "run:", ENDPOINT)
"""Starts of the path of a model that is no input: what a run of ours wrote is named by that run,
and nobody knows what an endpoint contains."""
PATHS = frozenset({"path", "paths", "root", "picks", "patches", "sites", "tokenizer"})
"""Fields of a spec that say where an input lies, in whichever part of it they stand."""
JOINER = "#"
"""Between the files of responses that hold no questions and the file of those."""


@dataclass(frozen=True)
class Place:
    """An input of a stage.

    Args:
        stage: What reads it.
        role: What it is there, as the path of the spec: `train.data`.
        kind: What is read: decides what its content is.
        paths: Files, folders, URIs or names, as they are opened.
        fingerprint: What it contains; None: not known yet.
        revision: Of a name on a hub.
        source: What kind of source of curation it is.

    """

    stage: Stage
    role: str
    kind: Kind
    paths: tuple[str, ...]
    fingerprint: str | None
    revision: str | None = None
    source: str = ""

    @property
    def name(self) -> str:
        """What people call it: the names of its files, without folders."""
        hub = (self.fingerprint or "").startswith("commit:")
        return ", ".join(path if hub else file_name(path) for path in self.paths)


Change = Callable[[Place], Place]
"""Returns a place with other paths, or with a fingerprint."""


def places(cell: CellSpec) -> list[Place]:
    """Return the inputs of all stages of a cell, in the order in which they are read."""
    found: list[Place] = []

    def note(place: Place) -> Place:
        found.append(place)
        return place

    map_places(cell, note)
    return found


def map_places(cell: CellSpec, change: Change) -> CellSpec:
    """Return a cell with every input changed."""
    changed: dict[str, Any] = {}
    for stage in cell_stages(cell):
        spec = getattr(cell, stage)
        if isinstance(spec, CurateSpec):
            changed[stage] = _curate(spec, change)
        elif isinstance(spec, TrainSpec):
            changed[stage] = _train(spec, stage, change)
        elif isinstance(spec, GenerateSpec):
            changed[stage] = _generate(spec, change)
    extensions = tuple(_extension(spec, cell, change) for spec in cell.extensions)
    return replace(cell, **changed, extensions=extensions)


def _extension(spec: ExtensionSpec, cell: CellSpec, change: Change) -> ExtensionSpec:
    """Return an extension, changed as an input of the first stage that uses it; else as it is."""
    stages = (s for s in cell_stages(cell) if spec.package in packages(getattr(cell, s)))
    stage = next(stages, None)
    if stage is None:
        return spec
    role = f"extensions.{spec.package}"
    place = change(Place(stage, role, "extension", (spec.path,), spec.fingerprint))
    return replace(spec, path=place.paths[0], fingerprint=place.fingerprint)


def _train(spec: TrainSpec, stage: Stage, change: Change) -> TrainSpec:
    return replace(
        spec,
        model=_model(spec.model, stage, change),
        data=_data(spec.data, stage, "data", change),
        heldout=spec.heldout and _data(spec.heldout, stage, "heldout", change),
    )


def _generate(spec: GenerateSpec, change: Change) -> GenerateSpec:
    return replace(
        spec,
        prompts=_data(spec.prompts, "generate", "prompts", change),
        model=_model(spec.model, "generate", change),
    )


def _data(spec: DataSpec, stage: Stage, name: str, change: Change) -> DataSpec:
    place = change(Place(stage, f"{stage}.{name}", "data", (spec.path,), spec.fingerprint))
    return replace(spec, path=place.paths[0], fingerprint=place.fingerprint)


def _model(spec: ModelSpec, stage: Stage, change: Change) -> ModelSpec:
    if spec.path.startswith(MADE_HERE):
        return spec
    is_file = spec.path.startswith(RESPONSES)
    start = RESPONSES if is_file else ""
    named = spec.path.removeprefix(start)
    place = change(
        Place(
            stage,
            f"{stage}.model",
            "responses" if is_file else "model",
            tuple(named.split(JOINER, 1)) if is_file else (named,),
            spec.fingerprint,
            spec.revision,
        )
    )
    path = start + JOINER.join(place.paths)
    return replace(spec, path=path, fingerprint=place.fingerprint)


def _curate(spec: CurateSpec, change: Change) -> CurateSpec:
    sources = tuple(
        _source(source, spec.root, f"curate.sources[{index}]", change)
        for index, source in enumerate(spec.sources)
    )
    tokens = spec.assembly
    sites = _file(
        spec.sites, spec.root, _at("curate.sites", "file", spec.sites_fingerprint), change
    )
    name = "curate.assembly.tokenizer"
    tokenizer = _file(
        tokens.tokenizer, spec.root, _at(name, "tokenizer", tokens.tokenizer_fingerprint), change
    )
    return replace(
        spec,
        root="",  # all paths stand below it now
        sources=sources,
        assembly=replace(tokens, tokenizer=tokenizer[0], tokenizer_fingerprint=tokenizer[1]),
        sites=sites[0],
        sites_fingerprint=sites[1],
    )


def _source(source: SourceSpec, root: str, role: str, change: Change) -> SourceSpec:
    place = replace(_at(role, "source", source.fingerprint), source=source.kind)
    read = change(replace(place, paths=tuple(below(root, path) for path in source.paths)))
    picks = _at(f"{role}.picks", "picks", source.picks_fingerprint)
    patches = _at(f"{role}.patches", "file", source.patches_fingerprint)
    picked, patched = (
        _file(path, root, at, change)
        for path, at in ((source.picks, picks), (source.patches, patches))
    )
    return replace(
        source,
        paths=read.paths,
        fingerprint=read.fingerprint,
        picks=picked[0],
        picks_fingerprint=picked[1],
        patches=patched[0],
        patches_fingerprint=patched[1],
    )


def _at(role: str, kind: Kind, known: str | None) -> Place:
    return Place("curate", role, kind, (), known)


def _file(
    path: str | None, root: str, place: Place, change: Change
) -> tuple[str | None, str | None]:
    """Return the path and the fingerprint of a file of curation, changed; None: it names none."""
    if path is None:
        return None, place.fingerprint
    read = change(replace(place, paths=(below(root, path),)))
    return read.paths[0], read.fingerprint


def of_stage(cell: CellSpec, stage: Stage) -> Iterator[Place]:
    """Yield the inputs that one stage reads."""
    return (place for place in places(cell) if place.stage == stage)


def unknown(cell: CellSpec, stages: Sequence[Stage]) -> list[Place]:
    """Return the inputs of some stages whose content is not known."""
    return [p for p in places(cell) if p.stage in stages and p.fingerprint is None]
