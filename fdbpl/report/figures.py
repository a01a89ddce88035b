"""Style of the page's charts, and their conversion to SVG.

matplotlib draws with placeholder colours, which are replaced by CSS variables: the page's colour scheme, light or dark,
sets them. The same numbers give the same bytes. Names are never interpreted as markup; legends are part of the page.
"""

import io
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import matplotlib
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, Locator, NullLocator

from fdbpl.report.method_names import student_number, supervision_of

matplotlib.use("svg")

# placeholder colours and the variables of page.css that replace them
INK, MUTED, GRID, PAPER = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"
SERIES = [f"#0b0b{number:02x}" for number in range(8)]
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}
SUPERVISION = {"none": 7, "labels": 0, "online": 1, "bank": 2}  # index in SERIES
LINES = {"none": ":", "labels": ":", "online": "--", "bank": "-"}
MARKERS = "hpovPX*<>s^Dd"  # by student_number

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "axes.unicode_minus": False,
}
UNUSED = (  # parts of matplotlib's SVG that a page does not need or sets itself
    r"<metadata>.*?</metadata>", r"<!--.*?-->", r"<defs>\s*<style.*?</style>\s*</defs>", r'<g id="[^"]*"/>',
    r' xmlns(?::\w+)?="[^"]*"', r'font-family: [^;"]*;',
)  # fmt: skip


@dataclass(frozen=True)
class Look:
    """Style of a row: index of its colour in SERIES, marker and line style of matplotlib."""

    colour: int
    marker: str
    line: str = "-"
    hollow: bool = False

    @property
    def symbol(self) -> str:
        """Id of the <symbol> element on the page."""
        return f"look-{self.colour}-{MARKERS.index(self.marker)}{'-hollow' * self.hollow}"

    def line_style(self, size: float) -> dict:
        """Keyword arguments of matplotlib's plot."""
        colour = SERIES[self.colour]
        face, edge, width = (PAPER, colour, 1.6) if self.hollow else (colour, PAPER, 0.8)
        return {
            "color": colour, "marker": self.marker, "markersize": size, "markerfacecolor": face,
            "markeredgecolor": edge, "markeredgewidth": width, "linestyle": self.line, "linewidth": 1.8,
        }  # fmt: skip


@dataclass(frozen=True)
class Chart:
    """A drawing with its text alternative; `legend` holds (look, name of the row)."""

    title: str
    svg: Markup
    alternative: str
    legend: list[tuple[Look, str]] = field(default_factory=list)
    note: str = ""


def choose_looks(rows: Iterable[tuple[str, str]]) -> dict[str, Look]:
    """Choose the look of each row of a table.

    Colour, line and filling show the supervision, the marker shows the student. Where two rows would look the same,
    each row has its own pair of colour and marker instead.

    Args:
        rows: name of each row, and its trainer.
    """
    looks = {}
    for row, trainer in rows:
        supervision = supervision_of(trainer)
        marker = MARKERS[student_number(trainer) % len(MARKERS)]
        looks[row] = Look(SUPERVISION[supervision], marker, LINES[supervision], supervision in ("labels", "none"))
    if len(set(looks.values())) == len(looks):
        return looks
    return {row: Look(number % 7, MARKERS[(number // 7 + number) % len(MARKERS)]) for number, row in enumerate(looks)}


def new_axes(width: float, height: float, x: str, y: str = "") -> Axes:
    """The axes of a new figure with labels of its axes."""
    with matplotlib.rc_context(STYLE):
        axes = Figure(figsize=(width, height)).subplots()
        axes.set_xlabel(x)
        axes.set_ylabel(y)
    return axes


def plain_ticks(axes: Axes, locator: Locator) -> None:
    """Label the ticks of a logarithmic axis with plain numbers."""
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def to_svg(figure: Any, name: str) -> Markup:
    """Convert a figure to an <svg> element; all ids begin with `name`, which makes them unique on the page."""
    text = io.StringIO()
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # browsers have other fonts
        figure.savefig(
            text, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.04, metadata={"Date": None}
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub("|".join(UNUSED), "", svg, flags=re.DOTALL).replace("xlink:href", "href")
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"(?<=[ \n\"(,-])\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), svg)
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0])
    head = rf'<svg viewBox="\1" style="max-width: {1.2 * width:.0f}pt">'
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', head, svg, count=1)
    return Markup(re.sub(r"\n\s*", "\n", svg).strip())


def to_symbol(look: Look) -> Markup:
    """The <symbol> element of a look, which legends refer to by its id."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.2, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0], [0], **look.line_style(9))
    svg = str(to_svg(figure, look.symbol))
    svg = re.sub(r"<svg (viewBox=\"[^\"]*\")[^>]*>", rf'<symbol id="{look.symbol}" \1>', svg)
    return Markup(svg.replace("</svg>", "</symbol>"))
