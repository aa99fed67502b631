"""`lima-k8s agreement`."""

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from lima.errors import DataError
from lima_k8s.commands.options import format_option
from lima_k8s.terminal.output import say, write_json, write_table

if TYPE_CHECKING:
    from lima.evaluation.agreement.majority import Majority
    from lima.evaluation.agreement.rater_habits import Rater, Share
    from lima.evaluation.agreement.tie_discounted import Agreement, Estimate


@click.command("agreement")
@click.argument("storage")
@click.option("--experiment", help="Only this experiment.")
@click.option(
    "--by",
    type=click.Choice(["group", "rater"]),
    default="group",
    show_default=True,
    help="Compare groups (crowd, author, model), or every rater with every other.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=100),
    default=10_000,
    show_default=True,
    help="Draws of the bootstrap over items.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Of the bootstrap.")
@format_option("table", "json")
def command(
    *, storage: str, experiment: str | None, by: str, draws: int, seed: int, output_format: str
) -> None:
    """How far people and models agree, and what each rater favours.

    Accuracy is the paper's: a point where two raters agree, half a point where exactly one of
    them labelled a tie. Intervals are 95 % percentiles of a bootstrap over items; of fewer than
    200 items, and those of shares, exact (Clopper-Pearson). A rater counts once an item; failures
    are no labels.
    """
    from lima.evaluation.agreement.majority import majorities
    from lima.evaluation.agreement.rater_habits import raters_of
    from lima.evaluation.agreement.tie_discounted import all_agreements
    from lima.rating.labels import VALUES, answering, read_labels
    from lima.rating.raters import told_of_raters
    from lima.store.scan import Tables
    from lima.store.storage import Storage

    tables = Tables(Storage(storage), experiment)
    labels = read_labels(tables)
    tables.require_readable()
    if not labels:
        raise DataError(
            f"{storage}: no labels there; make some with `lima-k8s annotate`, by a judge with "
            "judge.rubric=preference, or bring them with `lima-k8s import-labels`"
        )
    for told in told_of_raters(labels):
        say(told)
    kinds = [kind for kind in VALUES if answering(labels, kind)]
    found = {
        kind: all_agreements(labels, kind, by_rater=by == "rater", draws=draws, seed=seed)
        for kind in kinds
    }
    majority = {kind: majorities(labels, kind, draws=draws, seed=seed) for kind in kinds}
    raters = {kind: raters_of(answering(labels, kind)) for kind in kinds}
    if output_format == "json":
        bootstrap = {"draws": draws, "seed": seed, "unit": "item", "level": 0.95}
        rows = [{"kind": k, **asdict(a)} for k, listed in found.items() for a in listed]
        habits = [{"kind": k, **asdict(r)} for k, listed in raters.items() for r in listed]
        most = [{"kind": k, **asdict(m)} for k, listed in majority.items() for m in listed]
        write_json({"bootstrap": bootstrap, "agreement": rows, "majority": most, "raters": habits})
        return
    for kind in kinds:
        click.echo(f"{kind}: agreement, % [95 % interval]")
        _write_agreements(found[kind])
        _write_majorities(kind, majority[kind])
        click.echo(f"\n{kind}: raters")
        _write_raters(raters[kind])


def _write_agreements(rows: "list[Agreement]") -> None:
    if not rows:
        say("no item has labels of two raters")
        return
    headers = (
        "between",
        "raters",
        "items",
        "pairs",
        "tie-discounted",
        "with ties",
        "without ties",
        "kappa",
        "alpha",
    )
    write_table(
        headers,
        [
            (
                *("-".join(row.between), row.raters, row.items, row.pairs),
                *(_percent(e) for e in (row.accuracy, row.with_ties, row.without_ties)),
                *(_number(e) for e in (row.kappa, row.alpha)),
            )
            for row in rows
        ],
    )


def _write_majorities(kind: str, rows: "list[Majority]") -> None:
    if rows:
        click.echo(f"\n{kind}: judges and the majority of people; S1: with ties, S2: without")
        write_table(
            ("judge", "setting", "items", "agreement, %", "kappa"),
            [(r.rater, r.setting, r.items, _percent(r.agreement), _number(r.kappa)) for r in rows],
        )


def _write_raters(rows: "list[Rater]") -> None:
    headers = (
        "rater",
        "group",
        "items",
        "labelled",
        "ties %",
        "A of decided %",
        "same both ways %",
        "same again %",
        "changes with the order %",
    )
    write_table(
        headers,
        [
            (
                *(row.rater, row.group, row.items, row.labelled),
                *(
                    _share(s)
                    for s in (row.ties, row.position, row.turned, row.repeated, row.inconsistent)
                ),
            )
            for row in rows
        ],
    )


def _percent(estimate: "Estimate") -> str:
    if estimate.value is None:
        return ""
    return f"{estimate.value * 100:.1f}{_ends(estimate, 100, '.1f')}"


def _number(estimate: "Estimate") -> str:
    return "" if estimate.value is None else f"{estimate.value:.2f}{_ends(estimate, 1, '.2f')}"


def _ends(estimate: "Estimate", scale: float, form: str) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{estimate.low * scale:{form}}, {estimate.high * scale:{form}}]"


def _share(share: "Share") -> str:
    if share.value is None or share.low is None or share.high is None:
        return ""
    return f"{share.value * 100:.0f} [{share.low * 100:.0f}, {share.high * 100:.0f}]"
