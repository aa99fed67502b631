"""A figure that is drawn for a page, as inline SVG, or as a file of its own, SVG or PNG.

On a page colours are stand-ins that become CSS variables, so that they follow the page, light or
dark; in files they are the page's light ones. Text stays text in SVG, so that it can be read
aloud, searched and set in the reader's font.
"""

import hashlib
import io
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SVG, XLINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}"
ElementTree.register_namespace("", SVG.strip("{}"))
ElementTree.register_namespace("xlink", XLINK.strip("{}"))
WIDTH = 4.4
"""Inches of 72 units, less than a phone's pixels: its text must not shrink there."""
PNG_DPI = 300


@dataclass(frozen=True)
class Palette:
    """Colours by what they are for: texts, lines, arms, and the parts of bars."""

    ink: str
    muted: str
    line: str
    surface: str
    hues: tuple[str, ...]
    parts: tuple[str, ...]


PAGE = Palette(
    *("#010101", "#020202", "#030303", "#040404"),
    hues=tuple(f"#0a000{i}" for i in range(8)),
    parts=tuple(f"#0b000{i}" for i in range(5)),
)
"""Stand-ins of the page's colours."""
VARIABLES = {
    **{getattr(PAGE, name): name for name in ("ink", "muted", "line", "surface")},
    **{hue: f"hue-{i}" for i, hue in enumerate(PAGE.hues)},
    **{part: f"part-{i}" for i, part in enumerate(PAGE.parts)},
}
"""The variables of the page that they become."""

Paint: TypeAlias = "Callable[[Figure, Axes, Palette], None]"
"""Draws into an empty figure."""


@dataclass(frozen=True)
class Drawing:
    """A figure, `height` inches high, that is drawn when it is asked for."""

    height: float
    paint: Paint

    def inline(self) -> str:
        """Return an <svg> element for a page: without ids of others, a size or colours.

        The page gives it its role and its text alternative.
        """
        with self._drawn(PAGE) as figure:
            root = ElementTree.fromstring(_saved(figure, "svg", transparent=True))
        for name in ("width", "height"):
            root.attrib.pop(name, None)
        _remove(root, "metadata", "style")
        for element in root.iter():
            if element.tag == f"{SVG}g":
                element.attrib.pop("id", None)
            if "style" in element.attrib:
                element.set("style", _themed(element.attrib["style"]))
        _make_ids_unique(root)
        return ElementTree.tostring(root, encoding="unicode")

    def svg(self, words: str) -> bytes:
        """Return a file of its own; `words` are read to those who do not see it."""
        with self._drawn(_light()) as figure:
            root = ElementTree.fromstring(_saved(figure, "svg"))
        _remove(root, "metadata")
        root.set("role", "img")
        title = ElementTree.Element(f"{SVG}title")
        title.text = words
        root.insert(0, title)
        data: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
        return data

    def png(self, words: str) -> bytes:
        """Return a file of its own; `words` are kept in it as its description."""
        with self._drawn(_light()) as figure:
            return _saved(figure, "png", dpi=PNG_DPI, metadata={"Description": words})

    @contextmanager
    def _drawn(self, palette: Palette) -> "Iterator[Figure]":
        """Yield the figure in the house style. Its own, not pyplot's: nothing is left behind."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        with mpl.rc_context(_style(palette)), warnings.catch_warnings():
            # The reader's browser has the glyphs that the measuring font lacks.
            warnings.filterwarnings("ignore", "Glyph .* missing")
            figure = Figure(figsize=(WIDTH, self.height), layout="constrained")
            self.paint(figure, figure.add_subplot(), palette)
            yield figure


@cache
def _light() -> Palette:
    """Return the colours that the page has by day."""
    css = (resources.files("lima.evaluation.report") / "templates" / "report.css").read_text(
        "utf-8"
    )
    found = dict(re.findall(r"(?<![\w-])--([\w-]+): (#\w{6});", css.partition("}")[0]))
    plain = [found[name] for name in ("ink", "muted", "line", "surface")]
    several = ([found[f"{kind}-{i}"] for i in range(n)] for kind, n in (("hue", 8), ("part", 5)))
    return Palette(*plain, *map(tuple, several))


def _style(palette: Palette) -> dict[str, Any]:
    return {
        "svg.fonttype": "none",
        "svg.hashsalt": "lima",
        "font.size": 8.5,
        "font.family": "sans-serif",
        "text.parse_math": False,
        "text.color": palette.ink,
        "axes.labelcolor": palette.muted,
        "axes.edgecolor": palette.line,
        "axes.facecolor": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "figure.facecolor": palette.surface,
        "grid.color": palette.line,
        "grid.linewidth": 0.6,
        "xtick.color": palette.line,
        "ytick.color": palette.line,
        "xtick.labelcolor": palette.muted,
        "ytick.labelcolor": palette.muted,
        "legend.frameon": False,
        "legend.handlelength": 2.2,
        "lines.linewidth": 1.6,
        "lines.markersize": 5,
    }


def _saved(figure: "Figure", form: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    figure.savefig(stream, format=form, **options)
    return stream.getvalue()


def _remove(root: ElementTree.Element, *names: str) -> None:
    for parent in root.iter():
        for child in [c for c in parent if c.tag in [SVG + name for name in names]]:
            parent.remove(child)


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
    return re.sub("|".join(VARIABLES), lambda match: f"var(--{VARIABLES[match.group()]})", style)
