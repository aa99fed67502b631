"""Which stages a cell has, what each of them computes on, and what decides its outcome."""

from dataclasses import replace

from lima.spec.cell import (
    STAGES,
    CellSpec,
    ComputeSpec,
    GenerateSpec,
    Stage,
    TrainSpec,
    is_baseline,
)
from lima.spec.curate import SourceSpec
from lima.spec.extensions import packages

BASE_ARM, CURATION_ARM = "base", "curation"


def gpus(compute: ComputeSpec) -> int:
    """Return how many GPUs a stage holds."""
    return compute.workers * compute.gpus_per_worker if compute.device == "cuda" else 0


def training_compute(spec: TrainSpec) -> ComputeSpec:
    """Return what a training holds: the workers that it was moved to, or those of its name."""
    return replace(spec.compute, workers=spec.on_workers or spec.compute.workers)


def computes(cell: CellSpec) -> dict[Stage, ComputeSpec]:
    """Return what the stages of `cell` hold that need workers with a model.

    Responses of a baseline need none, whatever their spec says: the driver reads or asks for them.
    """
    stages: dict[Stage, TrainSpec | GenerateSpec | None] = {
        "base": cell.base,
        "train": cell.train,
        "generate": cell.generate,
    }
    return {
        stage: training_compute(spec) if isinstance(spec, TrainSpec) else spec.compute
        for stage, spec in stages.items()
        if spec is not None and not is_baseline(spec.model)
    }


def stage_cell(cell: CellSpec, stage: Stage) -> CellSpec:
    """Return the part of `cell` that decides the outcome of `stage`: its identity.

    Later stages are left out, so that another judge reuses the responses and another decoding
    reuses the weights. Curated data and the base model are shared by all arms and seeds.
    """
    if stage == "curate":
        shared = CellSpec(cell.experiment, CURATION_ARM, curate=cell.curate)
        return used_extensions(replace(shared, extensions=cell.extensions))
    if stage == "base":
        shared = CellSpec(cell.experiment, BASE_ARM, base=cell.base)
        return used_extensions(replace(shared, extensions=cell.extensions))
    later = STAGES[STAGES.index(stage) + 1 :]
    return used_extensions(replace(cell, **dict.fromkeys(later, None)))  # type: ignore[arg-type]


def used_extensions(cell: CellSpec) -> CellSpec:
    """Return `cell` with those of its extensions alone that one of its stages uses, in one order.

    So that the file of another rubric trains nothing again.
    """
    if not cell.extensions:
        return cell
    used = {package for stage in cell_stages(cell) for package in packages(getattr(cell, stage))}
    kept = [extension for extension in cell.extensions if extension.package in used]
    return replace(cell, extensions=tuple(sorted(kept, key=lambda e: e.package)))


def reading_cell(cell: CellSpec) -> CellSpec:
    """Return the part of the stage curate that decides its candidates.

    Picks and edits by hand decide what is drawn from them: other ones are another run, which
    reads nothing again.
    """
    own = stage_cell(cell, "curate")
    if own.curate is None:
        return own
    sources = tuple(_as_read(source) for source in own.curate.sources)
    return replace(own, curate=replace(own.curate, sources=sources))


def _as_read(source: SourceSpec) -> SourceSpec:
    if source.picks_fingerprint is not None:
        source = replace(source, picks=None, picks_fingerprint=None)
    if source.patches_fingerprint is not None:
        source = replace(source, patches=None, patches_fingerprint=None)
    return source


def cell_stages(cell: CellSpec) -> tuple[Stage, ...]:
    """Return the stages that `cell` has, in the order in which they run."""
    return tuple(stage for stage in STAGES if getattr(cell, stage) is not None)
