"""`lima-k8s lint`."""

from dataclasses import asdict

import click

from lima.lint import LEVELS, Finding, lint
from lima.recipes import load_study
from lima.spec import CellSpec
from lima_k8s.options import allow_key_option, format_option, study_options
from lima_k8s.output import write_json

COLORS = {"error": "red", "warning": "yellow", "note": "cyan"}
NAMED_RUNS = 3
"""More runs than these are counted, not named."""


@click.command("lint")
@click.argument("recipe", metavar="RECIPE-or-FILE")
@study_options
@allow_key_option
@click.option(
    "--cluster", "profile", help="Judge for a cluster too: a profile, or a file like those."
)
@format_option("text", "json")
@click.pass_context
def command(
    context: click.Context,
    *,
    recipe: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    seeds: tuple[int, ...],
    allowed_keys: tuple[str, ...],
    profile: str | None,
    output_format: str,
) -> None:
    """Judge a recipe or a file before anything is started.

    Looks at the values that will really be used, offline. With --cluster also at the profile, and
    by the rules of KubeRay and Kueue at the manifests that `submit` would install, for each KIND
    that the study has; a file of such manifests is judged by itself. Errors make the exit code 2.
    """
    from lima.judging.key import allow_keys
    from lima_k8s.cluster.linting import is_manifests, lint_cluster, lint_manifests
    from lima_k8s.commands.submit import kinds_of
    from lima_k8s.inputs import input_findings, look

    allow_keys(allowed_keys)
    if is_manifests(recipe):
        cells: tuple[CellSpec, ...] = ()
        findings = lint_manifests(recipe)
    else:
        cells = load_study(recipe, overrides, arms, seeds)
        findings = [*lint(cells), *input_findings(look(cells, offline=True))]
        if profile:
            findings = lint_cluster(findings, cells, kinds_of(cells), profile)
    counts = {level: sum(f.level == level for f in findings) for level in LEVELS}
    if output_format == "json":
        write_json({"findings": [asdict(f) for f in findings], "counts": counts})
    else:
        for finding in findings:
            _write(finding, len(cells))
        totals = ", ".join(_count(counts[level], level) for level in LEVELS)
        click.echo(f"{_count(len(cells), 'run') if cells else recipe}: {totals}")
    context.exit(2 if counts["error"] else 0)


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
