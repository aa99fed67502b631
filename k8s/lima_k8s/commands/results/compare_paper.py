"""`lima-k8s compare-paper`."""

from collections import Counter
from typing import TYPE_CHECKING

import click

from lima_k8s.commands.options import as_option, format_option
from lima_k8s.terminal.output import say, write_json, write_table

if TYPE_CHECKING:
    from lima.evaluation.paper.numbers import Compared


@click.command("compare-paper")
@click.argument("storage")
@click.option("--experiment", help="Only this experiment.")
@as_option
@click.option(
    "--tokenizer",
    metavar="NAME",
    help="File, folder or hub name that counts the tokens of table 1.  [default: what curation "
    "counted with, if it is on this machine]",
)
@click.option("--section", help="Only facts of sections that begin so, as 4.2.")
@click.option("--with-data", is_flag=True, help="Leave out what there is no data for.")
@click.option("--skip-unreadable", is_flag=True, help="Leave out files that cannot be read.")
@format_option("table", "json")
def command(
    *,
    storage: str,
    experiment: str | None,
    named: dict[str, str],
    tokenizer: str | None,
    section: str | None,
    with_data: bool,
    skip_unreadable: bool,
    output_format: str,
) -> None:
    """Every number of the paper beside ours, with exact intervals.

    within: our 95 % interval holds the paper's value, and is about as narrow as the paper's own
    would be. underpowered: it holds the value, but would hold others too; the rows that would
    settle it are told. outside: it does not hold it. Shares have Clopper-Pearson intervals. What
    an arm is called is no evidence: it is one of the paper's by its spec, or by --as.
    """
    from lima.evaluation.paper.compare import as_row, compare_paper
    from lima.evaluation.paper.numbers import MARKS
    from lima.store.storage import Storage

    found = compare_paper(
        Storage(storage),
        experiment=experiment,
        named=named,
        tokenizer=tokenizer,
        skip_unreadable=skip_unreadable,
        note=say,
    )
    found = [c for c in found if c.fact.section.startswith(section or "")]
    found = [c for c in found if c.ours or not with_data]
    counts = Counter(c.status for c in found)
    if output_format == "json":
        rows = [as_row(c) for c in found]
        write_json({"sources": MARKS, "counts": dict(counts), "facts": rows})
        return
    headers = (
        "section",
        "fact",
        "paper",
        "from",
        "ours [95 %]",
        "n",
        "missing",
        "by",
        "status",
        "rows needed",
        "why not",
    )
    write_table(headers, [_row(c) for c in found])
    say(", ".join(f"{n} {status}" for status, n in counts.most_common()))


def _row(compared: "Compared") -> tuple[object, ...]:
    fact, ours = compared.fact, compared.ours
    share = fact.n is not None
    paper = _value(fact.value, share) + ("" if fact.to is None else f" to {_value(fact.to, share)}")
    said = ""
    if ours:
        said = _value(ours.value, share)
        if ours.low is not None and ours.high is not None and ours.method != "exact":
            said += f" [{_value(ours.low, share)}, {_value(ours.high, share)}]"
    return (
        *(fact.section, fact.name, paper, fact.mark, said),
        *((ours.n, ours.missing or None, ours.method) if ours else (None, None, None)),
        *(compared.status, compared.rows_needed, compared.why),
    )


def _value(value: float, share: bool) -> str:
    from lima.evaluation.paper.numbers import written

    return f"{value * 100:.4g} %" if share else written(value)
