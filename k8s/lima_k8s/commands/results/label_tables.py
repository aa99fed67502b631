"""What people and judges said, as tables of plain text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from lima_k8s.terminal.output import visible, write_table

if TYPE_CHECKING:
    from lima.evaluation.labels.contests import Matrix

Row = Mapping[str, Any]


def write_labels(pairs: Sequence[Row], labels: Sequence[Row], chats: Sequence[Row]) -> None:
    """Write pairs of arms with a matrix where there are more than two, grades, conversations."""
    if pairs:
        _write_pairs(pairs)
        from lima.evaluation.labels.contests import matrices

        for matrix in matrices(pairs):
            _write_matrix(matrix)
    single = [row for row in labels if "win" not in row["shares"]]
    if single:
        click.echo("\nlabels")
        write_table(
            ("what", "by", "n", "missing", "shares, % [95 % interval]"),
            [
                (
                    row["what"],
                    row["raters"],
                    row["n"],
                    row["missing"] or None,
                    _shares(row["shares"]),
                )
                for row in single
            ],
        )
    if chats:
        click.echo("\nconversations")
        headers = ("arm", "model", "conversations", "answers", "labelled", "run")
        write_table(headers, [[row[name] for name in headers] for row in chats])


def _write_pairs(pairs: Sequence[Row]) -> None:
    click.echo("\npairs of arms, % [95 % interval]")
    several = len({row["experiment"] for row in pairs}) > 1
    headers = (
        "arm",
        "against",
        "by",
        "pairs",
        "missing",
        "wins",
        "ties",
        "losses",
        "win rate, ties half",
        "at equal length",
    )
    rows = [
        (
            *(row["arm"], _other(row), row["raters"], row["pairs"], row["missing"] or None),
            _with_ends(row, "win"),
            *(_percent(row["tie"]), _percent(row["lose"])),
            _with_ends(row, "win_rate"),
            _percent(row["lc_win_rate"]),
        )
        for row in pairs
    ]
    names = [(row["experiment"],) if several else () for row in pairs]
    write_table(
        (*(("experiment",) if several else ()), *headers),
        [(*name, *row) for name, row in zip(names, rows, strict=True)],
    )


def _write_matrix(found: "Matrix") -> None:
    title = f"{found.experiment}: win rates of rows against columns by {found.raters}, %"
    click.echo(f"\n{visible(title)}")
    arms = list(found.rates)
    rows = [(arm, *(_percent(of.get(other)) for other in arms)) for arm, of in found.rates.items()]
    write_table(("", *arms), rows)


def _other(row: Row) -> str:
    return f"{row['against']}{', whole dialogues' if row['asked'] == 'dialogues' else ''}"


def _shares(shares: Mapping[str, Row]) -> str:
    return ", ".join(
        f"{label} {_percent(of['share'])} [{_percent(of['low'])}, {_percent(of['high'])}]"
        for label, of in shares.items()
    )


def _with_ends(row: Row, name: str) -> str:
    if row[name] is None:
        return ""
    low, high = (_percent(row[f"{name}_{end}"]) for end in ("low", "high"))
    return f"{_percent(row[name])} [{low}, {high}]"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share * 100:.0f}"
