"""`lima-k8s plan`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lima.recipes.paper import load_study
from lima_k8s.commands import completion
from lima_k8s.commands.options import format_option, study_options
from lima_k8s.profile.cluster_spec import StopSpec
from lima_k8s.terminal.output import say, write_json, write_table

if TYPE_CHECKING:
    from lima.spec import CellSpec, ModelSpec, ShapeSpec
    from lima.training.sizing import Gpu, Memory, Saving

MIB_S = StopSpec().uploadMiBps
"""That a node writes to storage a second, as the charts have it (cluster.stop.uploadMiBps)."""
PARTS = (
    "weights", "gradients", "optimizer", "working", "activations", "logits", "cache", "context",
)  # fmt: skip


@click.command("plan")
@click.argument("recipe", metavar="RECIPE-or-FILE", shell_complete=completion.recipes)
@click.option(
    "--gpu",
    "gpu_name",
    required=True,
    help="H100, H200, B200, A100-80GB, L40S, …",
    shell_complete=completion.gpus,
)
@click.option("--nodes", type=click.IntRange(1), required=True, help="Nodes of a run.")
@click.option(
    "--gpus-per-node", type=click.IntRange(1), default=8, show_default=True, help="GPUs of a node."
)
@study_options
@format_option("table", "json")
@click.pass_context
def command(
    context: click.Context,
    *,
    recipe: str,
    gpu_name: str,
    nodes: int,
    gpus_per_node: int,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    output_format: str,
) -> None:
    """Estimate the memory and the time of a recipe on GPUs.

    Memory of a GPU for the longest examples, the time of a step between two bounds (all
    communication hidden, none hidden), the share of the GPUs' peak that this uses (MFU), and
    the time that saving states and weights takes beside the steps.
    docs/plan.md has the formulas and their sources. Exit code 2: a stage does not fit.
    """
    from lima.training.sizing import find_gpu
    from lima_k8s.study.inputs import documents, look, told

    gpu = find_gpu(gpu_name)
    cells = load_study(recipe, overrides, arms, seeds)
    alike = {(c.base, c.train, c.generate): c for c in reversed(cells)}
    stages = [
        s for cell in reversed(alike.values()) for s in _stages(cell, gpu, nodes, gpus_per_node)
    ]
    inputs = documents(look(cells, offline=True))
    if output_format == "json":
        asked = {"gpu": gpu_name, "nodes": nodes, "gpus_per_node": gpus_per_node}
        write_json({**asked, "stages": stages, "inputs": inputs})
    else:
        _write(stages)
        for entry in inputs:
            click.echo(f"reads {entry['role']}: {told(entry)}")
    context.exit(0 if all(stage["fits"] for stage in stages) else 2)


def _stages(cell: "CellSpec", gpu: "Gpu", nodes: int, per_node: int) -> list[dict[str, Any]]:
    from lima.training.sizing import generation_memory, saving, step_pace, training_memory

    found, workers = [], nodes * per_node
    for stage in ("base", "train"):
        spec = getattr(cell, stage)
        if spec is None:
            continue
        shape = _shape(cell, spec.model)
        memory = training_memory(spec, shape, workers)
        pace = step_pace(spec, shape, gpu, nodes, per_node)
        row = _row(cell, stage, memory, gpu)
        row["step_s"] = [pace.best_s, pace.worst_s]
        row["mfu"] = [pace.mfu(gpu, pace.worst_s), pace.mfu(gpu, pace.best_s)]
        row["bound_by"] = "network" if pace.communication_s > pace.compute_s else "arithmetic"
        if spec.compute.workers != workers:
            row["set"] = f"{stage}.compute.workers={workers}"
        if spec.data.count:
            steps = -(-spec.epochs * spec.data.count // spec.batch_size)
            row["steps"] = steps
            row["hours"] = [steps * pace.best_s / 3600, steps * pace.worst_s / 3600]
            row["saving"] = _saving(saving(spec, shape, spec.data.count, nodes, MIB_S))
        found.append(row)
    if cell.generate:
        memory = generation_memory(cell.generate, _shape(cell, cell.generate.model))
        found.append(_row(cell, "generate", memory, gpu))
    return found


def _saving(written: "Saving") -> dict[str, Any]:
    return {**asdict(written), "hours": written.hours, "mib_s": MIB_S}


def _shape(cell: "CellSpec", model: "ModelSpec") -> "ShapeSpec":
    """Return the shape of a model, through the stages of the cell that make it."""
    from lima.training.sizing import model_shape

    made = {"run:train": cell.train, "run:base": cell.base}.get(model.path)
    return _shape(cell, made.model) if made else model_shape(model)


def _row(cell: "CellSpec", stage: str, memory: "Memory", gpu: "Gpu") -> dict[str, Any]:
    from lima.training.sizing import GIB

    return {
        "arm": cell.arm,
        "stage": stage,
        "memory_gib": {part: round(getattr(memory, part) / GIB, 2) for part in PARTS},
        "total_gib": round(memory.total / GIB, 2),
        "gpu_gib": round(gpu.memory_gib, 1),
        "fits": memory.fits(gpu),
    }


def _write(stages: list[dict[str, Any]]) -> None:
    rows = [
        (
            f"{s['arm']}/{s['stage']}",
            *(s["memory_gib"][part] for part in PARTS),
            s["total_gib"],
            s["gpu_gib"],
            "yes" if s["fits"] else "NO",
        )
        for s in stages
    ]
    write_table(("STAGE, GiB A GPU", *(p.upper() for p in PARTS), "TOTAL", "GPU", "FITS"), rows)
    for s in stages:
        if "step_s" in s:
            hours = f"; {s['steps']} steps: {_range(s['hours'], '.1f')} h" if "steps" in s else ""
            click.echo(
                f"{s['arm']}/{s['stage']}: {_range(s['step_s'], '.2f')} s a step of the longest "
                f"examples, MFU {_range([100 * m for m in s['mfu']], '.0f')} %, bound by "
                f"{s['bound_by']}{hours}"
            )
        if "saving" in s:
            click.echo(f"{s['arm']}/{s['stage']}: {_written(s['saving'])}")
        if not s["fits"]:
            say(
                f"{s['arm']}/{s['stage']}: does not fit; take more nodes (--nodes), GPUs with more "
                "memory (--gpu), or --set train.compute.offload=optimizer"
            )
        elif "set" in s:
            say(f"{s['arm']}/{s['stage']}: submit with --set {s['set']}")


def _written(saving: dict[str, Any]) -> str:
    states = saving["states"] * saving["state_s"] / 3600
    exports = saving["exports"] * saving["export_s"] / 3600
    return (
        f"beside the steps, {saving['states']} saves of {saving['state_gib']:.3g} GiB: "
        f"{states:.1f} h, and {saving['exports']} exports of {saving['export_gib']:.3g} GiB: "
        f"{exports:.1f} h, at {saving['mib_s']} MiB/s a node (cluster.stop.uploadMiBps)"
    )


def _range(values: list[float], form: str) -> str:
    low, high = (format(value, form) for value in values)
    return low if low == high else f"{low} to {high}"
