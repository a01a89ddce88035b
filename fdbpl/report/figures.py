"""SVG drawings of the page's charts.

matplotlib draws with placeholder colours, which are replaced by CSS variables: the page's colour scheme, light or dark,
sets them. The same numbers give the same bytes. Names are never interpreted as markup; legends are part of the page.
"""

import io
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, LogLocator, MaxNLocator, NullLocator

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
STAGE_SERIES = {"generation": 3, "build": 7, "prepare": 4, "train": 2, "test": 0}

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
    "xtick.minor.size": 0,
    "ytick.minor.size": 0,
    "text.color": INK,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "axes.unicode_minus": False,
}


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
            "markeredgecolor": edge, "markeredgewidth": width, "linestyle": self.line,
        }  # fmt: skip


def looks(trainers: Mapping[str, str]) -> dict[str, Look]:
    """Choose the look of each row.

    Colour, line and filling show the supervision, the marker shows the student. Where two rows would look the same,
    each row has its own pair of colour and marker instead.

    Args:
        trainers: trainer by row.
    """
    by_method = {}
    for row, trainer in trainers.items():
        supervision = supervision_of(trainer)
        marker = MARKERS[student_number(trainer) % len(MARKERS)]
        by_method[row] = Look(SUPERVISION[supervision], marker, LINES[supervision], supervision in ("labels", "none"))
    if len(set(by_method.values())) == len(by_method):
        return by_method
    return {
        row: Look(number % 7, MARKERS[(number // 7 + number) % len(MARKERS)]) for number, row in enumerate(trainers)
    }


# charts ------------------------------------------------------------------------------------------------------------


def few_shot(name: str, curves: Mapping[str, pd.DataFrame], look: Mapping[str, Look]) -> str:
    """Accuracy in percent against shots (log2): a line through the means with a band of one standard deviation.

    Args:
        curves: mean and std by shots, for each row.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(5.2, 3.4)
        for row, points in curves.items():
            low, high = points["mean"] - points["std"], points["mean"] + points["std"]
            axes.fill_between(points.index, low, high, color=SERIES[look[row].colour], alpha=0.16, linewidth=0)
            axes.plot(points.index, points["mean"], **look[row].line_style(6))
        axes.set_xscale("log", base=2)
        _plain_ticks(axes, FixedLocator(sorted({count for points in curves.values() for count in points.index})))
        axes.set_xlabel("shots per class")
        axes.set_ylabel("accuracy in %")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        return _svg(figure, name)


def score_against_seconds(name: str, points: pd.DataFrame, look: Mapping[str, Look]) -> str:
    """H in percent against seconds of training (log): one point for each row, from the columns H and seconds."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(5.2, 3.4)
        for row, score, seconds in points.itertuples():
            axes.plot([seconds], [score], **look[row].line_style(8))
        axes.set_xscale("log")
        axes.set_xlim(points["seconds"].min() / 1.5, points["seconds"].max() * 1.5)
        _plain_ticks(axes, LogLocator(subs=(1, 2, 5)))
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("seconds of training (log scale)")
        axes.set_ylabel("H in %")
        return _svg(figure, name)


def learning(name: str, losses: list[dict[int, float]], rates: dict[int, float], colour: int) -> str:
    """Mean loss of each epoch, one line for each run, above the learning rate."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1, 2.2))
        above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1], "hspace": 0.18})
        for curve in losses:
            epochs = thin_out(sorted(curve))
            above.plot(epochs, [curve[epoch] for epoch in epochs], color=SERIES[colour], linewidth=1.3, alpha=0.85)
        epochs = thin_out(sorted(rates))
        below.plot(epochs, [rates[epoch] for epoch in epochs], color=MUTED, linewidth=1.2, drawstyle="steps-mid")
        above.set_ylabel("loss")
        below.set_ylabel("lr")
        below.set_xlabel("epoch")
        above.yaxis.set_major_locator(MaxNLocator(4))
        below.yaxis.set_major_locator(FixedLocator([0, max(rates.values(), default=1.0)]))
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return _svg(figure, name)


def thin_out(epochs: list[int], limit: int = 60) -> list[int]:
    """Select about `limit` of the epochs, including the first and the last."""
    step = max(len(epochs) // limit, 1)
    return sorted({*epochs[::step], *epochs[-1:]})


def stacked(name: str, seconds: pd.DataFrame, generation: float) -> str:
    """Seconds of the stages as stacked bars, one for each row; the bank's generation, if any, as a bar above them.

    Args:
        seconds: stages as columns, by row.
        generation: seconds of the region bank's generation; 0 = no bank.
    """
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        rows = [("region bank, once", {"generation": generation})] if generation else []
        rows += [(row, values.dropna().to_dict()) for row, values in seconds.iterrows()]
        figure, axes = _axes(7.4, 0.6 + 0.27 * len(rows))
        for place, (_, stages) in enumerate(rows):
            left = 0.0
            for stage, value in stages.items():
                axes.barh([place], [value], left=left, color=SERIES[STAGE_SERIES[stage]], height=0.62)
                left += value
            axes.annotate(
                f"{left:.1f} s", (left, place), xytext=(4, 0), textcoords="offset points", va="center", size=9
            )
        axes.set_yticks(range(len(rows)), [_shorten(row) for row, _ in rows], color=INK)
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
        axes.set_xlabel("seconds, mean of the runs")
        return _svg(figure, name)


def _shorten(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"


# drawing -----------------------------------------------------------------------------------------------------------


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _plain_ticks(axes: Axes, locator: Locator) -> None:
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _svg(figure: Figure, name: str) -> str:
    """Convert a figure to an <svg> element; all ids begin with `name`, which makes them unique on the page."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # browsers have other fonts
        figure.savefig(
            text, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.04, metadata={"Date": None}
        )
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<!--.*?-->|<style.*?</style>|<g id=\"[^\"]*\"/>|<defs>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(?::\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    svg = re.sub(r"(?<=[ \n\"(,-])\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), svg)
    for colour, variable in VARIABLES.items():
        svg = svg.replace(colour, f"var({variable})")
    svg = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font-size: \1px", svg)
    svg = re.sub(r"font-family: [^;\"]*;?", "", svg)
    width = float(re.findall(r'viewBox="0 0 ([\d.]+)', svg)[0])
    head = rf'<svg viewBox="\1" style="max-width: {1.2 * width:.0f}pt">'
    svg = re.sub(r'<svg [^>]*viewBox="([^"]*)"[^>]*>', head, svg, count=1)
    return re.sub(r"\n\s*", "\n", svg).strip()


def symbol(look: Look) -> str:
    """The <symbol> element of a look, which legends refer to by its id."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.2, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0], [0], **look.line_style(9))
        svg = _svg(figure, look.symbol)
    svg = re.sub(r"<svg (viewBox=\"[^\"]*\")[^>]*>", rf'<symbol id="{look.symbol}" \1>', svg)
    return svg.replace("</svg>", "</symbol>")
