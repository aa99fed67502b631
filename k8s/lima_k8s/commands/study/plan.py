"""`lima-k8s plan`."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from lima_k8s.commands import completion
from lima_k8s.commands.options import format_option, study_options
from lima_k8s.profile.cluster_spec import StopSpec
from lima_k8s.study.chosen import chosen_study
from lima_k8s.terminal.output import say, write_json, write_table

if TYPE_CHECKING:
    from lima.lint.facts import Facts
    from lima.lint.lengths import Measured
    from lima.spec import CellSpec, ModelSpec, ShapeSpec, TrainSpec
    from lima.training.sizing.gpu_needs import Gpu, Memory
    from lima.training.sizing.real_lengths import StepLoad
    from lima_k8s.study.savings import Saving

MIB_S = StopSpec().uploadMiBps
"""That a node writes to storage a second, as the charts have it (cluster.stop.uploadMiBps)."""
PARTS = (
    "weights",
    "gradients",
    "optimizer",
    "working",
    "activations",
    "logits",
    "cache",
    "context",
)


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
@click.option("--storage", help="Reckon with what states took that were saved there.")
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
    storage: str | None,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    extensions: tuple[str, ...],
    output_format: str,
) -> None:
    """Estimate the memory and the time of a recipe on GPUs.

    Memory of a GPU for the longest examples; the time of a step between two bounds (all
    communication hidden, none hidden), by the lengths of the examples where they are on this
    machine; the share of the GPUs' peak that this uses (MFU); and what saving takes: how long
    GPUs stand still for it, until when a state is whole, and how long a stop may take.
    docs/plan.md has the formulas and their sources. Exit code 2: a stage does not fit.
    """
    from lima.lint.facts import Facts
    from lima.training.sizing.gpu_needs import find_gpu
    from lima_k8s.study.inputs import documents, look, told

    rate = _rate(storage, gpus_per_node)
    asked = _Asked(find_gpu(gpu_name), nodes, gpus_per_node, rate, Facts())
    cells = chosen_study(recipe, overrides, arms, seeds, extensions)
    alike = {(c.base, c.train, c.generate): c for c in reversed(cells)}
    stages = [s for cell in reversed(alike.values()) for s in _stages(cell, asked)]
    inputs = documents(look(cells, brief=True))
    if output_format == "json":
        machines = {"gpu": gpu_name, "nodes": nodes, "gpus_per_node": gpus_per_node}
        write_json({**machines, "stages": stages, "inputs": inputs})
    else:
        _write(stages)
        for entry in inputs:
            click.echo(f"reads {entry['role']}: {told(entry)}")
    context.exit(0 if all(stage["fits"] for stage in stages) else 2)


@dataclass(frozen=True)
class _Asked:
    """What a study is planned on, and what is known of its files."""

    gpu: "Gpu"
    nodes: int
    per_node: int
    mib_s: float
    """That a node writes to storage."""
    facts: "Facts"

    @property
    def workers(self) -> int:
        return self.nodes * self.per_node


def _stages(cell: "CellSpec", asked: _Asked) -> list[dict[str, Any]]:
    found = [
        _trained(cell, stage, spec, asked)
        for stage, spec in (("base", cell.base), ("train", cell.train))
        if spec
    ]
    if cell.generate:
        from lima.training.sizing.gpu_needs import generation_memory

        memory = generation_memory(cell.generate, _shape(cell, cell.generate.model))
        found.append(_row(cell, "generate", memory, asked.gpu))
    return found


def _trained(cell: "CellSpec", stage: str, spec: "TrainSpec", asked: _Asked) -> dict[str, Any]:
    from lima.lint.lengths import measure
    from lima.spec import training_compute
    from lima.training.sizing.gpu_needs import step_pace, training_memory
    from lima.training.sizing.real_lengths import step_load
    from lima_k8s.study.savings import saving

    shape, workers, gpu = _shape(cell, spec.model), asked.workers, asked.gpu
    measured = measure(cell, stage, asked.facts)
    load = step_load(measured.lengths.tokens, spec, workers) if measured else None
    # The memory is that of the longest examples: some epoch may bring them together.
    row = _row(cell, stage, training_memory(spec, shape, workers), gpu)
    pace = step_pace(spec, shape, gpu, asked.nodes, asked.per_node, load=load)
    if load and measured:
        row["lengths"] = _lengths(load, measured)
    row["tokens_s"] = [pace.tokens / pace.worst_s, pace.tokens / pace.best_s]
    row["step_s"] = [pace.best_s, pace.worst_s]
    row["mfu"] = [pace.mfu(gpu, pace.worst_s), pace.mfu(gpu, pace.best_s)]
    row["bound_by"] = "network" if pace.communication_s > pace.compute_s else "arithmetic"
    if training_compute(spec).workers != workers:
        row["set"] = f"{stage}.compute.workers={workers}"
        row["set_to_move"] = f"{stage}.on_workers={workers}"
    if examples := spec.data.count or (measured and measured.examples):
        steps = -(-spec.epochs * examples // spec.batch_size)
        row["steps"] = steps
        row["hours"] = [steps * pace.best_s / 3600, steps * pace.worst_s / 3600]
        written = saving(
            spec, shape, examples, nodes=asked.nodes, workers=workers, mib_s=asked.mib_s
        )
        row["saving"] = _saving(written, asked.mib_s)
    return row


def _lengths(load: "StepLoad", measured: "Measured") -> dict[str, Any]:
    """Return what the lengths of the examples tell of a step."""
    return {
        "tokens_a_step": round(load.tokens),
        "micro_steps": round(load.passes, 2),
        "padding": load.padding,
        "idle": load.idle,
        "largest_micro_batch": load.longest,
        "caveat": measured.caveat,
    }


def _saving(written: "Saving", mib_s: float) -> dict[str, Any]:
    return {**asdict(written), "hours": written.hours, "mib_s": round(mib_s)}


def _rate(storage: str | None, per_node: int) -> float:
    """Return the MiB that a node writes a second: as measured in a storage, else as charts say.

    Raises:
        InputError: no run of that storage has told yet.

    """
    if storage is None:
        return MIB_S
    from lima.errors import InputError
    from lima.store.storage import Storage
    from lima_k8s.study.savings import measured

    found = measured(Storage(storage))
    if found is None:
        raise InputError(f"{storage}: no run there has saved a state yet; leave out --storage")
    return found * per_node


def _shape(cell: "CellSpec", model: "ModelSpec") -> "ShapeSpec":
    """Return the shape of a model, through the stages of the cell that make it."""
    from lima.training.sizing.gpu_needs import model_shape

    made = {"run:train": cell.train, "run:base": cell.base}.get(model.path)
    return _shape(cell, made.model) if made else model_shape(model)


def _row(cell: "CellSpec", stage: str, memory: "Memory", gpu: "Gpu") -> dict[str, Any]:
    from lima.training.sizing.gpu_needs import GIB

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
            of = "" if "lengths" in s else " of the longest examples"
            click.echo(
                f"{s['arm']}/{s['stage']}: {_range(s['step_s'], '.2f')} s a step{of}, "
                f"{_range(s['tokens_s'], ',.0f')} useful tokens/s, "
                f"MFU {_range([100 * m for m in s['mfu']], '.0f')} %, bound by "
                f"{s['bound_by']}{hours}"
            )
        if "lengths" in s:
            click.echo(f"{s['arm']}/{s['stage']}: {_told_lengths(s['lengths'])}")
        if "saving" in s:
            told = _written(s["saving"], s["step_s"], s["steps"])
            click.echo(f"{s['arm']}/{s['stage']}: {told}")
        if not s["fits"]:
            say(
                f"{s['arm']}/{s['stage']}: does not fit; take more nodes (--nodes), GPUs with more "
                "memory (--gpu), or --set train.compute.offload=optimizer"
            )
        elif "set" in s:
            say(
                f"{s['arm']}/{s['stage']}: submit with --set {s['set']}, or, to move a run that "
                f"has begun, with --set {s['set_to_move']}"
            )


def _told_lengths(lengths: dict[str, Any]) -> str:
    most, count = lengths["largest_micro_batch"], lengths["micro_steps"]
    padding, idle = 100 * lengths["padding"], 100 * lengths["idle"]
    parts = (
        f"{lengths['tokens_a_step']:,} tokens a step in {count:g} micro-step{'s' * (count != 1)}",
        f"{padding:.0f} % of what is computed is padding",
        f"GPUs wait {idle:.0f} % of the time for the one with most tokens",
        f"the largest micro-batch of an epoch has about {most:,} tokens",
        lengths["caveat"],
    )
    return "; ".join(part for part in parts if part)


def _written(saving: dict[str, Any], step_s: list[float], steps: int) -> str:
    between = step_s[0] * steps / max(saving["states"], 1)
    late = "; longer than between two, so that some are put off" * (saving["state_s"] > between)
    return (
        f"GPUs stand still for {saving['hours']:.1f} h: {saving['stall_s']:.1f} s for each of "
        f"{saving['states']} states of {saving['state_gib']:.3g} GiB and {saving['exports']} "
        f"exports of {saving['export_gib']:.3g} GiB, and for the last ones; a state is whole "
        f"after {saving['state_s'] / 60:.0f} min{late}; a stop takes up to "
        f"{saving['stop_s'] / 60:.0f} min (at {saving['mib_s']} MiB/s a node, "
        f"cluster.stop.uploadMiBps); a copy takes {saving['host_gib']:.0f} GiB of the host a GPU"
    )


def _range(values: list[float], form: str) -> str:
    low, high = (format(value, form) for value in values)
    return low if low == high else f"{low} to {high}"
