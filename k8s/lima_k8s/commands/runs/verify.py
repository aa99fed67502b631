"""`lima-k8s verify`."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from lima_k8s.commands.options import format_option
from lima_k8s.terminal.output import write_json

if TYPE_CHECKING:
    from lima.training.certificate import Certificate


@click.command("verify")
@click.argument("run", metavar="RUN")
@click.option("--storage", required=True, help="Where its results are.")
@format_option("text", "json")
@click.pass_context
def command(context: click.Context, *, run: str, storage: str, output_format: str) -> None:
    """Certify that a training went as if undisturbed.

    RUN is the id of a run, or how it begins, or ARM/SEED. Every step must have one row, with the
    data, the draws and the learning rate that its spec says, linked by a hash to the row before;
    and what killed attempts had found of a step must be what its row says. Steps that were computed
    more than once are named. Exit code 1: it is not.
    """
    from lima.store.storage import Storage
    from lima.training.certificate import certify
    from lima_k8s.web.trained_models import one_trained

    opened = Storage(storage)
    found = certify(opened, one_trained(opened, run).run if "/" in run else run)
    if output_format == "json":
        write_json(_document(found))
    else:
        for line in _lines(found):
            click.echo(line)
    context.exit(1 if found.problems else 0)


def _document(found: "Certificate") -> dict[str, Any]:
    workers = [{"from_step": step, "workers": count} for step, count in found.workers]
    return {
        **asdict(found),
        "workers": workers,
        "certified": not found.problems,
        "complete": found.is_complete,
    }


def _lines(found: "Certificate") -> list[str]:
    from lima.training.certificate import DIFFERENT, EXACT, ROUNDED, ranges

    workers = ", ".join(f"{count} from step {step}" for step, count in found.workers)
    lines = [
        f"run {found.run} ({found.stage}): {found.steps} of {found.total} steps, "
        f"{found.starts} starts, workers: {workers or 'not told'}"
    ]
    for agree in (EXACT, ROUNDED, DIFFERENT):
        steps = [r.step for r in found.repeated if r.agree == agree]
        told = f"computed more than once: {ranges(steps)}; they agree {agree}"
        lines += [told] if steps else []
    if found.problems:
        return [*lines, *(f"NO: {problem}" for problem in found.problems)]
    moved = len(found.workers) > 1 or any(r.agree == ROUNDED for r in found.repeated)
    how = "but for rounding, since it moved" if moved else "to the bit"
    so_far = "" if found.is_complete else f", up to step {found.steps}"
    return [
        *lines,
        f"yes{so_far}: what an undisturbed run would have found, {how}; chain {found.end}",
    ]
