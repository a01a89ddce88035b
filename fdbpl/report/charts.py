"""Charts of the page."""

import matplotlib
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator

from fdbpl.report.figures import INK, MUTED, SERIES, STYLE, Chart, Look, choose_looks, new_axes, plain_ticks, to_svg
from fdbpl.report.groups import Group
from fdbpl.report.method_names import supervision_of
from fdbpl.report.runs import STAGES, Run
from fdbpl.report.tables import base2new_means, dataset_sets, means_over, set_title
from fdbpl.runs.results import counted, shots_text

MAX_LEARNING_CURVES = 48
STAGE_SERIES = {"generation": 3, "build": 7, "prepare": 4, "train": 2, "test": 0}  # index in SERIES


def few_shot_charts(groups: list[Group]) -> list[Chart]:
    """Accuracy against shots, the mean with a band of one standard deviation.

    A chart of the average over data sets, then one of each data set with at least two numbers of shots.
    """
    charts: list[Chart] = []
    for place, group in enumerate(groups):
        looks = looks_of(group)
        for datasets in dataset_sets(group):
            accuracies = group.accuracies_on(datasets).query("shots > 0")
            if len(datasets) == 1:
                seeds = accuracies.groupby(["row", "shots"], sort=False)["accuracy"]
                points = seeds.agg(["mean", "std"]).fillna(0.0)
            else:
                means = means_over(accuracies, "dataset", datasets, column="shots").dropna()
                points = means.to_frame("mean").assign(std=0.0)
            shots = points.index.unique("shots")
            if len(shots) < 2:
                continue
            axes, values, legend = new_axes(5.2, 3.4, "shots per class", "accuracy in %"), [], []
            for row, part in points.groupby("row", sort=False):
                curve = part.droplevel("row").sort_index()
                low, high = curve["mean"] - curve["std"], curve["mean"] + curve["std"]
                axes.fill_between(curve.index, low, high, color=SERIES[looks[row].colour], alpha=0.16, linewidth=0)
                axes.plot(curve.index, curve["mean"], **looks[row].line_style(6))
                means = ", ".join(f"{shots_text(number)} {mean:.1f}" for number, mean in curve["mean"].items())
                values.append(f"{row}: {means}")
                legend.append((looks[row], row))
            axes.set_xscale("log", base=2)
            plain_ticks(axes, FixedLocator(sorted(shots)))
            axes.yaxis.set_major_locator(MaxNLocator(6))
            svg = to_svg(axes.figure, f"shots-{place}-{len(charts)}")
            title = f"{set_title(datasets)}, {group.backbone}"
            charts.append(Chart(title, svg, f"Accuracy against shots. {'; '.join(values)}", legend))
    return charts


def score_charts(groups: list[Group]) -> list[Chart]:
    """H against seconds of training: the average over data sets, then each data set."""
    charts: list[Chart] = []
    for place, group in enumerate(groups):
        looks = looks_of(group)
        seconds = group.trainings.groupby(["row", "dataset"])["seconds_train"].mean().unstack()
        for datasets in dataset_sets(group):
            points = base2new_means(group, datasets)[["H"]].dropna()
            points["seconds"] = seconds.reindex(columns=datasets).mean(axis=1, skipna=False)
            timed = points[points["seconds"] > 0]
            if timed.empty:
                continue
            axes = new_axes(5.2, 3.4, "seconds of training (log scale)", "H in %")
            for row, score, duration in timed.itertuples():
                axes.plot([duration], [score], **looks[row].line_style(8))
            axes.set_xscale("log")
            axes.set_xlim(timed["seconds"].min() / 1.5, timed["seconds"].max() * 1.5)
            plain_ticks(axes, LogLocator(subs=(1, 2, 5)))
            axes.margins(y=0.12)
            axes.yaxis.set_major_locator(MaxNLocator(6))
            svg = to_svg(axes.figure, f"score-{place}-{len(charts)}")
            title = f"{set_title(datasets)}, {shots_text(group.shots)}, {group.backbone}"
            values = "; ".join(f"{row}: H {h:.2f} after {duration:.1f} s" for row, h, duration in timed.itertuples())
            untimed = ", ".join(f"{row} {h:.2f}" for row, h in points.drop(timed.index)["H"].items())
            note = f"Without training seconds: {untimed}." if untimed else ""
            legend = [(looks[row], row) for row in timed.index]
            charts.append(Chart(title, svg, f"H against seconds of training. {values}", legend, note))
    return charts


def learning_charts(groups: list[Group]) -> tuple[dict[str, list[Chart]], int]:
    """Loss and learning rate of each row's trainings with the most shots, by data set.

    Returns:
        The charts, and the number of rows that are left out because of MAX_LEARNING_CURVES.
    """
    charts: dict[str, list[Chart]] = {}
    drawn = left_out = 0
    for group in groups:
        looks = looks_of(group)
        trained = group.trainings[group.trainings["trainer"].map(supervision_of) != "none"]
        for dataset in group.datasets:
            here = trained[trained["dataset"] == dataset]
            here = here[here["shots"] == here["shots"].max()]
            for row, part in here.groupby("row", sort=False):
                if drawn >= MAX_LEARNING_CURVES:
                    left_out += 1
                    continue
                runs = [group.experiments[number].train for number in part.index]
                chart = _learning_chart(f"learning-{drawn}", row, runs, looks[row])
                if chart:
                    classes = "base" if group.protocol == "base2new" else "all"
                    title = f"{dataset}, {classes} classes, {shots_text(runs[0].shots)}"
                    charts.setdefault(title, []).append(chart)
                    drawn += 1
    return charts, left_out


def _learning_chart(name: str, row: str, runs: list[Run], look: Look) -> Chart | None:
    """Mean loss of each epoch, one line for each run, above the learning rate; None without losses."""
    curves, rates = learning_curves(runs)
    if not curves:
        return None
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(3.1, 2.2))
        above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [3.2, 1], "hspace": 0.18})
        for curve in curves:
            above.plot(curve.index, curve, color=SERIES[look.colour], linewidth=1.3, alpha=0.85)
        below.plot(rates.index, rates, color=MUTED, linewidth=1.2, drawstyle="steps-mid")
        above.set_ylabel("loss")
        below.set_ylabel("lr")
        below.set_xlabel("epoch")
    above.yaxis.set_major_locator(MaxNLocator(4))
    below.yaxis.set_major_locator(FixedLocator([0, rates.max() if len(rates) else 1.0]))
    below.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.2g}"))
    below.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    first, last = (sum(curve.iloc[place] for curve in curves) / len(curves) for place in (0, -1))
    alternative = f"Loss of {counted(len(curves), 'run')} of {row}, from {first:.3g} to {last:.3g}"
    return Chart(row, to_svg(figure, name), alternative)


def learning_curves(runs: list[Run]) -> tuple[list[pd.Series], pd.Series]:
    """Losses by epoch of each run that has some, and the learning rates; later attempts replace repeated epochs."""
    curves, rates = [], {}
    for run in runs:
        curve: dict[int, float] = {}
        for log in run.logs():
            curve |= log.losses
            rates |= log.rates
        if curve:
            curves.append(pd.Series(curve).sort_index())
    return curves, pd.Series(rates, dtype=float).sort_index()


def stage_charts(groups: list[Group], banks: pd.DataFrame) -> list[Chart]:
    """Mean seconds of the stages of each row's trainings as stacked bars, one chart for each data set.

    The generation of the region bank, if there is one, is a bar of its own.
    """
    charts: list[Chart] = []
    for group in groups:
        for dataset in group.datasets:
            columns = {f"seconds_{stage}": stage for stage in STAGES}
            rows = group.trainings_on([dataset]).groupby("row", sort=False)[list(columns)]
            seconds = rows.mean().rename(columns=columns).dropna(how="all")
            if seconds.empty:
                continue
            values = "; ".join(f"{row}: {total:.1f} s" for row, total in seconds.sum(axis=1).items())
            generation = banks.loc[banks["dataset"] == dataset, "seconds"].sum()
            if generation:
                bank = pd.DataFrame({"generation": generation}, index=["region bank, once"])
                seconds = pd.concat([bank, seconds])
            axes = new_axes(7.4, 0.6 + 0.27 * len(seconds), "seconds, mean of the runs")
            for place, (_, stages) in enumerate(seconds.iterrows()):
                left = 0.0
                for stage, value in stages.dropna().items():
                    axes.barh([place], [value], left=left, color=SERIES[STAGE_SERIES[stage]], height=0.62)
                    left += value
                axes.annotate(
                    f"{left:.1f} s", (left, place), xytext=(4, 0), textcoords="offset points", va="center", size=9,
                    color=INK,
                )  # fmt: skip
            axes.set_yticks(range(len(seconds)), [_shorten(row) for row in seconds.index], color=INK)
            axes.invert_yaxis()
            axes.grid(axis="y", visible=False)
            axes.spines["left"].set_visible(False)
            axes.set_xlim(0, axes.get_xlim()[1] * 1.06)
            svg = to_svg(axes.figure, f"stages-{len(charts)}")
            charts.append(Chart(f"{dataset}, {group.backbone}", svg, f"Seconds of the stages. {values}"))
    return charts


def looks_of(group: Group) -> dict[str, Look]:
    """The look of each row."""
    rows = group.trainings.drop_duplicates("row")
    return choose_looks(zip(rows["row"], rows["trainer"], strict=True))


def _shorten(name: str, limit: int = 34) -> str:
    return name if len(name) <= limit else name[: limit - 1] + "…"
