"""The page's charts: matplotlib's SVG, with its colours replaced by those of the page, so that it is light and dark.

The same numbers give the same bytes. No text of others is interpreted: names stand in the page's legend.
"""

import io
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from fdbpl.report.method_names import STUDENTS, student_of, supervision_of

matplotlib.use("svg")

# drawn in these, shown in the variables of page.css
INK, MUTED, GRID, PAPER = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04"
SERIES = [f"#0b0b{number:02x}" for number in range(8)]
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--paper"} | {
    colour: f"--series-{number}" for number, colour in enumerate(SERIES)
}
SUPERVISION = {"none": 7, "labels": 0, "online": 1, "bank": 2}  # places in SERIES
LINES = {"none": ":", "labels": ":", "online": "--", "bank": "-"}
MARKERS = "hpovPX*<>s^Dd"  # by the places in STUDENTS
STAGE_SERIES = {"build": 7, "prepare": 4, "train": 2, "test": 0}

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
    """How a row is drawn: colour is a place in SERIES, marker and line matplotlib's."""

    colour: int
    marker: str
    line: str = "-"
    hollow: bool = False

    @property
    def symbol(self) -> str:
        """Id of its <symbol> on the page."""
        return f"look-{self.colour}-{MARKERS.index(self.marker)}{'-hollow' * self.hollow}"

    def drawn(self, size: float) -> dict:
        """Arguments of matplotlib's plot."""
        colour = SERIES[self.colour]
        face, edge, width = (PAPER, colour, 1.6) if self.hollow else (colour, PAPER, 0.8)
        return {
            "color": colour, "marker": self.marker, "markersize": size, "markerfacecolor": face,
            "markeredgecolor": edge, "markeredgewidth": width, "linestyle": self.line,
        }  # fmt: skip


def looks(rows: Sequence[tuple[str, str]]) -> dict[str, Look]:
    """Looks of (name, trainer) rows: colour, line and filling say the supervision and the marker the student where that
    tells all of them apart, else each row has its own pair of colour and marker."""
    of_family = {}
    for name, trainer in rows:
        supervision = supervision_of(trainer)
        marker = MARKERS[_student(trainer) % len(MARKERS)]
        of_family[name] = Look(SUPERVISION[supervision], marker, LINES[supervision], supervision in ("labels", "none"))
    if len(set(of_family.values())) == len(of_family):
        return of_family
    return {
        name: Look(number % 7, MARKERS[(number // 7 + number) % len(MARKERS)]) for number, (name, _) in enumerate(rows)
    }


def _student(trainer: str) -> int:
    student = student_of(trainer)
    return STUDENTS.index(student) if student in STUDENTS else len(STUDENTS)


# charts ------------------------------------------------------------------------------------------------------------


def few_shot(name: str, curves: dict[str, dict[int, list[float]]], look: dict[str, Look]) -> str:
    """Accuracy against shots (log2): a line through the means, a band of one standard deviation.

    Args:
        curves: accuracies of the runs, by row and shots.
    """
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(5.2, 3.4)
        for row, points in curves.items():
            shots = sorted(points)
            means = [fmean(points[count]) for count in shots]
            spreads = [stdev(points[count]) if len(points[count]) > 1 else 0.0 for count in shots]
            colour = SERIES[look[row].colour]
            low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(shots, low, high, color=colour, alpha=0.16, linewidth=0)
            axes.plot(shots, means, **look[row].drawn(6))
        ticks = sorted({count for points in curves.values() for count in points})
        axes.set_xscale("log", base=2)
        _plain_ticks(axes, ticks)
        axes.set_xlabel("shots a class")
        axes.set_ylabel("accuracy in %")
        axes.yaxis.set_major_locator(MaxNLocator(6))
        return _svg(figure, name)


def score_against_seconds(name: str, points: dict[str, tuple[float, float]], look: dict[str, Look]) -> str:
    """H (y, percent) against seconds of training (x, log), a point a row."""
    with matplotlib.rc_context(STYLE):
        figure, axes = _axes(5.2, 3.4)
        for row, (seconds, score) in points.items():
            axes.plot([seconds], [score], **look[row].drawn(8))
        axes.set_xscale("log")
        low, high = min(x for x, _ in points.values()), max(x for x, _ in points.values())
        axes.set_xlim(low / 1.5, high * 1.5)
        _round_log_ticks(axes)
        axes.margins(y=0.12)
        axes.yaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel("seconds of training, logarithmic")
        axes.set_ylabel("H in %")
        return _svg(figure, name)


def learning(name: str, losses: list[dict[int, float]], rates: dict[int, float], colour: int) -> str:
    """Mean loss of each epoch, a line a run, above the learning rate."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1, 2.2))
        above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1], "hspace": 0.18})
        for curve in losses:
            epochs = thinned(sorted(curve))
            above.plot(epochs, [curve[epoch] for epoch in epochs], color=SERIES[colour], linewidth=1.3, alpha=0.85)
        epochs = thinned(sorted(rates))
        below.plot(epochs, [rates[epoch] for epoch in epochs], color=MUTED, linewidth=1.2, drawstyle="steps-mid")
        above.set_ylabel("loss")
        below.set_ylabel("lr")
        below.set_xlabel("epoch")
        above.yaxis.set_major_locator(MaxNLocator(4))
        below.yaxis.set_major_locator(FixedLocator([0, max(rates.values(), default=1.0)]))
        below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
        below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return _svg(figure, name)


def thinned(epochs: list[int], most: int = 60) -> list[int]:
    """At most about `most` of the epochs, the first and the last among them."""
    step = max(len(epochs) // most, 1)
    return sorted({*epochs[::step], *epochs[-1:]})


def stacked(name: str, bars: dict[str, dict[str, float]], bank: tuple[str, float] | None) -> str:
    """Seconds of the stages of each row, stacked, a bar a row; the bank's generation apart, above them."""
    with matplotlib.rc_context(STYLE | {"axes.grid.axis": "x"}):
        names = ([bank[0]] if bank else []) + list(bars)
        figure, axes = _axes(7.4, 0.6 + 0.27 * len(names))
        for place, row in enumerate(names):
            left = 0.0
            if bank and place == 0:
                axes.barh([place], [bank[1]], color=SERIES[3], height=0.62)
                left = bank[1]
            for stage, seconds in bars.get(row, {}).items() if not (bank and place == 0) else []:
                axes.barh([place], [seconds], left=left, color=SERIES[STAGE_SERIES[stage]], height=0.62)
                left += seconds
            axes.annotate(
                f"{left:.1f} s", (left, place), xytext=(4, 0), textcoords="offset points", va="center", size=9
            )
        axes.set_yticks(range(len(names)), [_short(row) for row in names], color=INK)
        axes.invert_yaxis()
        axes.spines["left"].set_visible(False)
        axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
        axes.set_xlabel("seconds, mean of the runs")
        return _svg(figure, name)


def _short(name: str, most: int = 34) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


# drawing -----------------------------------------------------------------------------------------------------------


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height))
    return figure, figure.subplots()


def _plain_ticks(axes: Axes, ticks: list[int]) -> None:
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _round_log_ticks(axes: Axes) -> None:
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _svg(figure: Figure, name: str) -> str:
    """The drawing as an element of an HTML page, its ids beginning with `name`."""
    text = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # the browser has other fonts
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
    """A row's marker for legends, which use it by its id."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(0.2, 0.2))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        axes.plot([0], [0], **look.drawn(9))
        svg = _svg(figure, look.symbol)
    svg = re.sub(r"<svg (viewBox=\"[^\"]*\")[^>]*>", rf'<symbol id="{look.symbol}" \1>', svg)
    return svg.replace("</svg>", "</symbol>")
