"""`lima-k8s lint`."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from lima.lint import LEVELS, Finding, lint
from lima.lint.facts import Facts
from lima.lint.lengths import Measured, lines, measure
from lima.lint.machine import of_this_machine
from lima.spec import CellSpec
from lima_k8s.commands import completion
from lima_k8s.commands.options import allow_key_option, format_option, study_options
from lima_k8s.study.chosen import chosen_study
from lima_k8s.terminal.output import write_json

COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
NAMED_RUNS = 3
"""More runs than these are counted, not named."""


@click.command("lint")
@click.argument("recipe", metavar="RECIPE-or-FILE", shell_complete=completion.recipes)
@study_options
@allow_key_option
@click.option(
    "--cluster",
    "profile",
    help="Judge for a cluster too: a profile, or a file like those.",
    shell_complete=completion.profiles,
)
@click.option("-v", "--verbose", is_flag=True, help="Show how long the training examples are.")
@format_option("text", "json")
@click.pass_context
def command(
    context: click.Context,
    *,
    recipe: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    extensions: tuple[str, ...],
    allowed_keys: tuple[str, ...],
    profile: str | None,
    verbose: bool,
    output_format: str,
) -> None:
    """Judge a recipe or a file before anything is started.

    Looks at the values that will really be used, and says of each input whether it is there, its
    size and its fingerprint; buckets and hubs are asked for seconds, and no object is read. With
    --cluster also at the profile, and by the rules of KubeRay and Kueue at the manifests that
    `submit` would install, for each KIND that the study has; a file of such manifests is judged by
    itself. Errors make the exit code 2.
    """
    from lima.endpoints.keys import allow_keys
    from lima_k8s.cluster.submit.lint import is_manifests, lint_cluster, lint_manifests
    from lima_k8s.profile.kinds import kinds_of
    from lima_k8s.study.inputs import input_findings, look

    allow_keys(allowed_keys)
    facts = Facts()
    if is_manifests(recipe):
        cells: tuple[CellSpec, ...] = ()
        findings = lint_manifests(recipe)
    else:
        cells = chosen_study(recipe, overrides, arms, seeds, extensions)
        findings = [*lint(cells, facts), *input_findings(look(cells, brief=True))]
        if profile:
            findings = lint_cluster(findings, cells, kinds_of(cells), profile)
        else:
            both = [*findings, *of_this_machine(cells)]
            findings = sorted(both, key=lambda finding: LEVELS.index(finding.level))
    counts = {level: sum(f.level == level for f in findings) for level in LEVELS}
    lengths = _lengths(cells, facts) if verbose else []
    if output_format == "json":
        document = {"findings": [_finding(f) for f in findings], "counts": counts}
        write_json(document | ({"lengths": [_as_json(m) for m in lengths]} if verbose else {}))
    else:
        for finding in findings:
            _write(finding, len(cells))
        for measured in lengths:
            click.echo("\n".join(lines(measured)))
        totals = ", ".join(_count(counts[level], level) for level in LEVELS)
        click.echo(f"{_count(len(cells), 'run') if cells else recipe}: {totals}")
    context.exit(2 if counts["error"] else 0)


def _lengths(cells: Sequence[CellSpec], facts: Facts) -> list[Measured]:
    """Return the lengths of all data sets that are here, each once."""
    found = (measure(cell, stage, facts) for stage in ("base", "train") for cell in cells)
    return list(dict.fromkeys(measured for measured in found if measured))


def _finding(finding: Finding) -> dict[str, Any]:
    """Return the keys of a finding that are an interface."""
    return {name: value for name, value in asdict(finding).items() if name != "here_alone"}


def _as_json(measured: Measured) -> dict[str, Any]:
    return {
        "stage": measured.stage,
        "data": measured.data,
        "examples": measured.examples,
        "measured": len(measured.lengths.tokens),
        "exact": measured.exact,
        "max_length": measured.lengths.most,
        "trimmed": measured.lengths.trimmed,
        "trimmed_share": measured.lengths.lost_share,
        "ends_trimmed": measured.lengths.lost_ends,
        "bars": [{"from": a, "to": b, "examples": n} for a, b, n in measured.bars],
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _write(finding: Finding, runs: int) -> None:
    level = click.style(f"{finding.level:8}", fg=COLORS[finding.level])
    click.echo(f"{level} {finding.path}: {finding.message}{_where(finding, runs)}")
    if finding.fix:
        click.echo(f"{'':8} fix: {finding.fix}")


def _where(finding: Finding, runs: int) -> str:
    if len(finding.runs) in (0, runs):
        return ""
    if len(finding.runs) > NAMED_RUNS:
        return f" ({len(finding.runs)} of {runs} runs)"
    return f" ({', '.join(finding.runs)})"
