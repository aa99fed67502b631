"""The kinds of figures: lines, ranges and bars. Arms differ by marker and dash, and by colour."""

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lima.evaluation.cells.study_data import Points
from lima.evaluation.report.drawing import Drawing, Palette

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS = ("o", "s", "^", "D", "v", "h", "<", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
NOTE_ROOM = (0.17, 0.09)
"""Width and height of a note, as shares of the axes."""
ROW_CHARACTERS = 24
"""Longer labels of rows are broken."""


@dataclass(frozen=True)
class Curve:
    """A line with its interval, over thin lines of the runs it stands for.

    Lines of one colour are told apart by dash and marker.
    """

    label: str
    colour: int
    points: Points
    runs: Sequence[Points] = ()
    intervals: Sequence[tuple[float, float] | None] = ()
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Range:
    """A value on a row of its own, with an inner and an outer range and single observations."""

    label: str
    colour: int
    value: float
    inner: tuple[float, float] | None = None
    outer: tuple[float, float] | None = None
    singles: Sequence[float] = ()


@dataclass(frozen=True)
class Bar:
    """A row of parts, in the order of the figure's part names."""

    label: str
    parts: Sequence[float] = field(default_factory=tuple)


def curves(
    lines: Sequence[Curve],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
    whole_x: bool = False,
    marked: bool = False,
) -> Drawing:
    """Draw lines over a common x; `whole_x`: of whole numbers; `marked` shows every point."""
    columns = _legend_columns([line.label for line in lines])
    rows = -(-len(lines) // columns) if len(lines) > 1 else 0

    def paint(figure: "Figure", axes: "Axes", palette: Palette) -> None:
        for number, line in enumerate(lines):
            variant = sum(other.colour == line.colour for other in lines[:number])
            _draw_curve(axes, line, palette, variant, marked=marked)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log_x:
            _log_axis(axes, sorted({x for line in lines for x, _ in line.points}))
        elif whole_x:
            axes.locator_params(axis="x", integer=True)
        _write_notes(axes, lines, palette)
        if rows:
            figure.legend(loc="outside lower left", ncols=columns, fontsize=8)

    return Drawing(2.5 + 0.18 * rows, paint)


def ranges(rows: Sequence[Range], x_label: str) -> Drawing:
    """Draw one value a row, with its ranges."""

    def paint(_: "Figure", axes: "Axes", palette: Palette) -> None:
        _label_rows(axes, [row.label for row in rows], x_label, palette)
        for y, row in enumerate(rows):
            hue = palette.hues[row.colour % len(palette.hues)]
            if row.outer:
                axes.plot(
                    row.outer, (y, y), color=hue, alpha=0.3, linewidth=6, solid_capstyle="butt"
                )
            if row.inner:
                axes.plot(row.inner, (y, y), color=hue, linewidth=2.2)
            axes.plot(
                row.singles,
                [y] * len(row.singles),
                "o",
                color=hue,
                markersize=4,
                zorder=3,
                markerfacecolor=palette.surface,
                markeredgewidth=0.9,
            )
            marker = MARKERS[row.colour % len(MARKERS)]
            axes.plot(
                [row.value],
                [y],
                marker,
                color=hue,
                markersize=7,
                zorder=4,
                markeredgecolor=palette.surface,
                markeredgewidth=1,
            )

    return Drawing(_rows_height([row.label for row in rows]), paint)


def bars(
    rows: Sequence[Bar], parts: Sequence[str], x_label: str, *, share: bool = False
) -> Drawing:
    """Draw one stacked bar a row; `share`: parts are of one, shown as per cent."""

    def paint(figure: "Figure", axes: "Axes", palette: Palette) -> None:
        _label_rows(axes, [row.label for row in rows], x_label, palette)
        scale = 100 if share else 1
        starts = [0.0] * len(rows)
        for number, part in enumerate(parts):
            values = [row.parts[number] * scale for row in rows]
            drawn = axes.barh(
                range(len(rows)),
                values,
                left=starts,
                height=0.62,
                label=part,
                color=palette.parts[number],
                edgecolor=palette.surface,
                linewidth=1,
            )
            axes.bar_label(
                drawn,
                label_type="center",
                color=palette.surface,
                fontsize=7.5,
                labels=[_in_bar(v, scale, rows, share) for v in values],
            )
            starts = [start + value for start, value in zip(starts, values, strict=True)]
        if share:
            axes.set_xlim(0, 100)
        elif all(value == int(value) for row in rows for value in row.parts):
            axes.locator_params(axis="x", integer=True)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower left", ncols=len(parts), fontsize=8, handlelength=1.2)

    return Drawing(_rows_height([row.label for row in rows]) + 0.22, paint)


def _in_bar(value: float, scale: float, rows: Sequence[Bar], share: bool) -> str:
    longest = scale if share else max(sum(row.parts) for row in rows)
    if value < 0.09 * longest:
        return ""
    return f"{value:.0f} %" if share else f"{value:.3g}"


def _draw_curve(axes: "Axes", line: Curve, palette: Palette, variant: int, *, marked: bool) -> None:
    hue = palette.hues[line.colour % len(palette.hues)]
    marker = MARKERS[(line.colour + 3 * variant) % len(MARKERS)]
    dash = DASHES[(line.colour // len(palette.hues) + variant) % len(DASHES)]
    for run in line.runs:
        axes.plot(*zip(*run, strict=True), color=hue, alpha=0.35, linewidth=0.8, linestyle=dash)
    for (x, _), interval in zip(line.points, line.intervals, strict=False):
        if interval:
            axes.plot((x, x), interval, color=hue, linewidth=1.6)
    axes.plot(
        *zip(*line.points, strict=True),
        color=hue,
        label=line.label,
        linestyle=dash,
        marker=marker if marked or len(line.points) == 1 else "",
        markeredgecolor=palette.surface,
        markeredgewidth=0.6,
    )


def _write_notes(axes: "Axes", lines: Sequence[Curve], palette: Palette) -> None:
    """Write a note beside each point, but none over another."""
    axes.autoscale_view()  # else points are still where they are in empty axes
    to_axes = axes.transData + axes.transAxes.inverted()
    taken: list[tuple[float, float]] = []
    for line in lines:
        for point, note in zip(line.points, line.notes, strict=False):
            x, y = to_axes.transform(point)
            if all(abs(x - a) > NOTE_ROOM[0] or abs(y - b) > NOTE_ROOM[1] for a, b in taken):
                taken.append((x, y))
                axes.annotate(
                    note,
                    point,
                    (5, 4),
                    textcoords="offset points",
                    fontsize=7.5,
                    color=palette.muted,
                )


def _log_axis(axes: "Axes", values: Sequence[float]) -> None:
    from matplotlib.ticker import NullLocator

    axes.set_xscale("log")
    # Neighbours that would be written over each other share a label.
    shown = [v for i, v in enumerate(values) if i == 0 or v >= 1.25 * values[i - 1]]
    axes.set_xticks(shown, [f"{value:,.0f}" for value in shown])
    axes.xaxis.set_minor_locator(NullLocator())


def _legend_columns(labels: Sequence[str]) -> int:
    longest = max(map(len, labels), default=0)
    return 3 if longest <= 14 else 2 if longest <= 26 else 1


def _wrapped(labels: Sequence[str]) -> list[str]:
    return ["\n".join(textwrap.wrap(_held_together(label), ROW_CHARACTERS)) for label in labels]


def _held_together(label: str) -> str:
    """Return a label that is not broken within its parentheses, if they fit on a line."""
    return re.sub(rf"\([^()]{{1,{ROW_CHARACTERS - 2}}}\)", _unbroken, label)


def _unbroken(found: re.Match[str]) -> str:
    return found[0].replace(" ", "\u00a0")


def _rows_height(labels: Sequence[str]) -> float:
    """Return the height of equal rows in which the longest label has room."""
    lines = max((1 + label.count("\n") for label in _wrapped(labels)), default=1)
    return 0.5 + 0.28 * len(labels) * max(1.0, 0.62 * lines)


def _label_rows(axes: "Axes", labels: Sequence[str], x_label: str, palette: Palette) -> None:
    """Have one row a label, the first on top."""
    axes.set_yticks(range(len(labels)), _wrapped(labels))
    axes.tick_params(axis="y", length=0, labelcolor=palette.ink)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(x_label)
