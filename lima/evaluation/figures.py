"""Drawing: plain data to inline SVG whose colours follow the page, light or dark.

Text stays text, so that it can be read aloud, searched and set in the reader's font. Colours
are stand-ins that become CSS variables. Arms differ by marker and dash too, not by colour alone.
"""

import hashlib
import io
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
ElementTree.register_namespace("", SVG.strip("{}"))
ElementTree.register_namespace("xlink", XLINK.strip("{}"))
WIDTH = 4.4
"""Inches of 72 units, less than a phone's pixels: its text must not shrink there."""
INK, MUTED, LINE, SURFACE = "#010101", "#020202", "#030303", "#040404"
HUES = tuple(f"#0a000{i}" for i in range(8))
PARTS = tuple(f"#0b000{i}" for i in range(5))
CSS = {
    **{INK: "ink", MUTED: "muted", LINE: "line", SURFACE: "surface"},
    **{hue: f"hue-{i}" for i, hue in enumerate(HUES)},
    **{part: f"part-{i}" for i, part in enumerate(PARTS)},
}
"""Stand-ins of the colours, and the variables of the page that they become."""
MARKERS = ("o", "s", "^", "D", "v", "h", "<", "p")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1.5, 2)))
STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "lima",
    "font.size": 8.5,
    "font.family": "sans-serif",
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "legend.frameon": False,
    "legend.handlelength": 2.2,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
}

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A line with its interval, over thin lines of the runs it stands for."""

    label: str
    colour: int
    points: Points
    runs: Sequence[Points] = ()
    intervals: Sequence[tuple[float, float] | None] = ()
    notes: Sequence[str] = ()
    joined: bool = True


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
    lines: Sequence[Curve], x_label: str, y_label: str, *, log_x: bool = False, marked: bool = False
) -> str:
    """Draw lines over a common x; `marked` shows every point."""
    columns = _legend_columns([line.label for line in lines])
    rows = -(-len(lines) // columns) if len(lines) > 1 else 0
    with _figure(2.5 + 0.18 * rows) as (figure, axes):
        for line in lines:
            _draw_curve(axes, line, marked)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if log_x:
            _log_axis(axes, sorted({x for line in lines for x, _ in line.points}))
        if rows:
            figure.legend(loc="outside lower left", ncols=columns, fontsize=8)
        return _svg(figure)


def ranges(rows: Sequence[Range], x_label: str) -> str:
    """Draw one value a row, with its ranges."""
    with _rows([row.label for row in rows], x_label) as (figure, axes):
        for y, row in enumerate(rows):
            hue = HUES[row.colour % len(HUES)]
            if row.outer:
                axes.plot(row.outer, (y, y), color=hue, alpha=0.3, linewidth=6,
                          solid_capstyle="butt")  # fmt: skip
            if row.inner:
                axes.plot(row.inner, (y, y), color=hue, linewidth=2.2)
            axes.plot(row.singles, [y] * len(row.singles), "o", color=hue, markersize=4, zorder=3,
                      markerfacecolor=SURFACE, markeredgewidth=0.9)  # fmt: skip
            marker = MARKERS[row.colour % len(MARKERS)]
            axes.plot([row.value], [y], marker, color=hue, markersize=7, zorder=4,
                      markeredgecolor=SURFACE, markeredgewidth=1)  # fmt: skip
        return _svg(figure)


def bars(rows: Sequence[Bar], parts: Sequence[str], x_label: str, *, share: bool = False) -> str:
    """Draw one stacked bar a row; `share`: parts are of one, shown as per cent."""
    with _rows([row.label for row in rows], x_label, legend_rows=1) as (figure, axes):
        scale = 100 if share else 1
        starts = [0.0] * len(rows)
        for number, part in enumerate(parts):
            values = [row.parts[number] * scale for row in rows]
            drawn = axes.barh(range(len(rows)), values, left=starts, height=0.62, label=part,
                              color=PARTS[number], edgecolor=SURFACE, linewidth=1)  # fmt: skip
            axes.bar_label(drawn, label_type="center", color=SURFACE, fontsize=7.5,
                           labels=[_in_bar(v, scale, rows, share) for v in values])  # fmt: skip
            starts = [start + value for start, value in zip(starts, values, strict=True)]
        if share:
            axes.set_xlim(0, 100)
        elif all(value == int(value) for row in rows for value in row.parts):
            axes.locator_params(axis="x", integer=True)
        axes.grid(visible=False, axis="y")
        figure.legend(loc="outside lower left", ncols=len(parts), fontsize=8, handlelength=1.2)
        return _svg(figure)


def _in_bar(value: float, scale: float, rows: Sequence[Bar], share: bool) -> str:
    longest = scale if share else max(sum(row.parts) for row in rows)
    if value < 0.09 * longest:
        return ""
    return f"{value:.0f} %" if share else f"{value:.3g}"


def _draw_curve(axes: "Axes", line: Curve, marked: bool) -> None:
    hue = HUES[line.colour % len(HUES)]
    marker = MARKERS[line.colour % len(MARKERS)]
    dash = DASHES[line.colour // len(HUES) % len(DASHES)]
    for run in line.runs:
        axes.plot(*zip(*run, strict=True), color=hue, alpha=0.35, linewidth=0.8, linestyle=dash)
    for (x, _), interval in zip(line.points, line.intervals, strict=False):
        if interval:
            axes.plot((x, x), interval, color=hue, linewidth=1.6)
    axes.plot(
        *zip(*line.points, strict=True),
        color=hue,
        label=line.label,
        linestyle=dash if line.joined else "none",
        marker=marker if marked or len(line.points) == 1 else "",
        markeredgecolor=SURFACE,
        markeredgewidth=0.6,
    )
    for (x, y), note in zip(line.points, line.notes, strict=False):
        axes.annotate(note, (x, y), (5, 4), textcoords="offset points", fontsize=7.5, color=MUTED)


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


@contextmanager
def _figure(height: float) -> Iterator[tuple["Figure", "Axes"]]:
    """Yield an empty figure in the house style. Its own, not pyplot's: nothing is left behind."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE), warnings.catch_warnings():
        # The reader's browser has the glyphs that the measuring font lacks.
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        yield figure, figure.add_subplot()


@contextmanager
def _rows(
    labels: Sequence[str], x_label: str, legend_rows: int = 0
) -> Iterator[tuple["Figure", "Axes"]]:
    """Yield a figure with one row a label, the first on top."""
    wrapped = ["\n".join(textwrap.wrap(label, 24)) for label in labels]
    lines = sum(max(1.0, 0.62 * (1 + label.count("\n"))) for label in wrapped)
    with _figure(0.5 + 0.28 * lines + 0.22 * legend_rows) as (figure, axes):
        axes.set_yticks(range(len(labels)), wrapped)
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(x_label)
        yield figure, axes


def _svg(figure: "Figure") -> str:
    """Return a figure as an <svg> element for a page: without ids of its own, a size or colours."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", transparent=True)
    root = ElementTree.fromstring(stream.getvalue())
    for name in ("width", "height"):
        root.attrib.pop(name, None)
    for parent in root.iter():
        for child in [c for c in parent if c.tag in (f"{SVG}metadata", f"{SVG}style")]:
            parent.remove(child)
        if parent.tag == f"{SVG}g":
            parent.attrib.pop("id", None)
        if "style" in parent.attrib:
            parent.set("style", _themed(parent.attrib["style"]))
    _make_ids_unique(root)
    # The page gives the element its role and its text alternative.
    return ElementTree.tostring(root, encoding="unicode")


def _make_ids_unique(root: ElementTree.Element) -> None:
    """Mark all ids as this figure's: they are hashes of shapes that other figures have too."""
    mark = hashlib.sha256(ElementTree.tostring(root)).hexdigest()[:8]
    for element in root.iter():
        for name, value in element.items():
            if name == "id":
                element.set(name, f"{mark}-{value}")
            elif name in (f"{XLINK}href", "clip-path"):
                element.set(name, value.replace("#", f"#{mark}-"))


def _themed(style: str) -> str:
    style = re.sub(r"font-family: [^;]*", "font-family: var(--font)", style)
    return re.sub("|".join(CSS), lambda match: f"var(--{CSS[match.group()]})", style)
