"""Charts of docs/PERFORMANCE.md: SVG files in the report's style, for light and dark screens."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fdbpl.report import figures
from tools.benchmark.targets import all_of_kind, median

COLOURS = Path(figures.__file__).with_name("template") / "page.css"
PANELS = (("classes", "classes"), ("context", "context tokens"), ("batch", "regions per step"),
          ("processes", "processes on this machine"))  # fmt: skip


def charts(record: dict) -> dict[str, str]:
    """Return the SVG files of a record by name."""
    drawn = {"performance-runs": _runs(record), "performance-scale": _scale(record)}
    return {f"{name}.svg": _to_file(figure, name) for name, figure in drawn.items() if figure}


def _to_file(figure: Figure, name: str) -> str:
    """Convert a figure to an SVG file with the colours of the report's page."""
    svg, variables = str(figures.to_svg(figure, name)), COLOURS.read_text().partition("\n* {")[0]
    head, _, body = svg.partition(">")
    attributes = 'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif"'
    return f"{head} {attributes}><style>{variables}\nsvg {{ background: var(--paper); }}</style>{body}\n"


def _runs(record: dict) -> Figure | None:
    """Accuracy against seconds, one column for each data set."""
    points = all_of_kind(record, "Comparison")
    if not points:
        return None
    datasets = list(dict.fromkeys(point["point"]["dataset"] for point in points))
    methods = dict.fromkeys(point["point"]["method"] for point in points)
    looks = figures.choose_looks((method, method) for method in methods)
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(4.2 * len(datasets), 6.6), layout="constrained")
        axes = figure.subplots(2, len(datasets), sharex=True, squeeze=False)
    for column, dataset in enumerate(datasets):
        axes[0, column].set_title(dataset)
        axes[1, column].set_xlabel("seconds from the command to the result")
        for row, classes in enumerate(("base", "new")):
            axes[row, column].set_ylabel(f"accuracy on {classes} classes in %")
            for point in points:
                runs = [run for run in point["runs"] if run[classes] is not None]
                if point["point"]["dataset"] == dataset and runs:
                    _curve(axes[row, column], point, runs, classes, looks[point["point"]["method"]])
    lines = {line.get_label(): line for panel in axes[0] for line in panel.get_lines()}
    figure.legend(
        lines.values(), lines.keys(), loc="outside lower center", ncols=3, frameon=False, labelcolor=figures.INK
    )
    return figure


def _curve(axes, point: dict, runs: list[dict], classes: str, look: figures.Look) -> None:
    """Draw the runs of a method; fainter to the right of them the same runs with the seconds of the bank."""
    name, style = point["point"]["method"], look.line_style(6)
    for label, later, alpha in ((name, 0.0, 1.0), (f"{name}, bank included", point["generation"], 0.45)):
        if alpha == 1 or later:
            seconds = [run["seconds"] + later for run in runs]
            axes.plot(seconds, [run[classes] for run in runs], **style, alpha=alpha, label=label)


def _scale(record: dict) -> Figure | None:
    """Seconds of a step, and the memory of a process, against each setting that varies."""
    points = all_of_kind(record, "ScaledStep")
    if not points:
        return None
    banks = sorted(all_of_kind(record, "ImageNetBank"), key=lambda bank: bank["point"]["per_image"])
    with matplotlib.rc_context(figures.STYLE):
        figure = Figure(figsize=(10, 5.6), layout="constrained")
        panels = figure.subplots(2, 3).ravel()
    for axes, (key, label) in zip(panels[:4], PANELS, strict=True):
        found = curve(points, key)
        _line(axes, label, "seconds of a step", [(point["point"][key], median(point)) for point in found])
    peaks = [(point["point"]["classes"], point["peak_mib"]) for point in curve(points, "classes")]
    _line(panels[4], "classes", "memory of a step in GiB", [(classes, mib / 1024) for classes, mib in peaks if mib])
    opened = [(bank["point"]["per_image"], bank["open_seconds"]) for bank in banks]
    _line(panels[5], "regions per image in the bank", "seconds to open the bank", opened)
    return figure


def curve(points: list[dict], key: str) -> list[dict]:
    """Return the most points that differ in one setting only, in its order."""
    groups: dict[tuple, list[dict]] = {}
    for point in points:
        others = tuple((name, value) for name, value in point["point"].items() if name not in (key, "name"))
        groups.setdefault(others, []).append(point)
    longest: list[dict] = max(groups.values(), key=len)
    return sorted(longest, key=lambda point: point["point"][key])


def _line(axes, x: str, y: str, values: list[tuple[float, float]]) -> None:
    axes.plot([value for value, _ in values], [value for _, value in values], **figures.Look(0, "o").line_style(6))
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
