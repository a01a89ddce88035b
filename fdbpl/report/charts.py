"""Charts of the page: selection of their data, titles and text alternatives."""

import math
from dataclasses import dataclass, field

import pandas as pd
from markupsafe import Markup

from fdbpl.report import figures
from fdbpl.report.cost import BankCost
from fdbpl.report.groups import Group
from fdbpl.report.method_names import supervision_of
from fdbpl.report.runs import STAGES, Run
from fdbpl.report.tables import base2new_means, dataset_sets, means_over, set_title
from fdbpl.runs.results import counted, shots_text

MAX_LEARNING_CURVES = 48


@dataclass(frozen=True)
class Chart:
    """A drawing with its text alternative; `legend` holds (look, name of the row)."""

    title: str
    svg: Markup
    alternative: str
    legend: list[tuple[figures.Look, str]] = field(default_factory=list)
    note: str = ""


def few_shot_charts(groups: list[Group]) -> list[Chart]:
    """Accuracy against shots: the average over data sets, then each data set with at least two numbers of shots."""
    charts: list[Chart] = []
    for place, group in enumerate(groups):
        looks = figures.looks(group.trainers)
        for datasets in dataset_sets(group):
            points = _few_shot_points(group, datasets)
            if points.index.get_level_values("shots").nunique() < 2:
                continue
            curves = {row: part.droplevel("row").sort_index() for row, part in points.groupby("row", sort=False)}
            values = "; ".join(
                f"{row}: " + ", ".join(f"{shots_text(shots)} {mean:.1f}" for shots, mean in part["mean"].items())
                for row, part in curves.items()
            )
            svg = figures.few_shot(f"shots-{place}-{len(charts)}", curves, looks)
            title = f"{set_title(datasets)}, {group.backbone}"
            legend = [(looks[row], row) for row in curves]
            charts.append(Chart(title, Markup(svg), f"Accuracy against shots. {values}", legend))
    return charts


def _few_shot_points(group: Group, datasets: list[str]) -> pd.DataFrame:
    """mean and std by (row, shots); std is 0 for averages over data sets and for single runs."""
    accuracies = group.accuracies_on(datasets).query("shots > 0")
    if len(datasets) == 1:
        return accuracies.groupby(["row", "shots"], sort=False)["accuracy"].agg(["mean", "std"]).fillna(0.0)
    return means_over(accuracies, "shots", "dataset", datasets).dropna().to_frame("mean").assign(std=0.0)


def score_charts(groups: list[Group]) -> list[Chart]:
    """H against seconds of training: the average over data sets, then each data set."""
    charts: list[Chart] = []
    for place, group in enumerate(groups):
        looks = figures.looks(group.trainers)
        for datasets in dataset_sets(group):
            points = base2new_means(group, datasets)[["H"]].dropna()
            seconds = (
                group.trainings.groupby(["row", "dataset"])["seconds_train"].mean().unstack().reindex(columns=datasets)
            )
            points["seconds"] = seconds.mean(axis=1, skipna=False)
            timed = points[points["seconds"] > 0]
            if timed.empty:
                continue
            values = "; ".join(f"{row}: H {h:.2f} after {seconds:.1f} s" for row, h, seconds in timed.itertuples())
            svg = figures.score_against_seconds(f"score-{place}-{len(charts)}", timed, looks)
            title = f"{set_title(datasets)}, {shots_text(group.shots)}, {group.backbone}"
            untimed = ", ".join(f"{row} {h:.2f}" for row, h in points.drop(timed.index)["H"].items())
            note = f"Without training seconds: {untimed}." if untimed else ""
            legend = [(looks[row], row) for row in timed.index]
            charts.append(Chart(title, Markup(svg), f"H against seconds of training. {values}", legend, note))
    return charts


def learning_charts(groups: list[Group]) -> tuple[dict[str, list[Chart]], int]:
    """Loss and learning rate of each row's trainings with the most shots, by data set.

    Returns:
        The charts, and the number of rows that are left out because of MAX_LEARNING_CURVES.
    """
    found: dict[str, list[Chart]] = {}
    drawn = left_out = 0
    for group in groups:
        looks = figures.looks(group.trainers)
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
                    found.setdefault(title, []).append(chart)
                    drawn += 1
    return found, left_out


def _learning_chart(name: str, row: str, runs: list[Run], look: figures.Look) -> Chart | None:
    losses, rates = [], {}
    for run in runs:
        curve: dict[int, float] = {}
        for log in run.logs():  # later attempts replace the epochs that they repeat
            curve |= log.losses
            rates |= log.rates
        if curve:
            losses.append(curve)
    if not losses:
        return None
    first, last = (sum(curve[pick(curve)] for curve in losses) / len(losses) for pick in (min, max))
    alternative = f"Loss of {counted(len(losses), 'run')} of {row}, from {first:.3g} to {last:.3g}"
    return Chart(row, Markup(figures.learning(name, losses, rates, look.colour)), alternative)


def stage_charts(groups: list[Group], banks: list[BankCost]) -> list[Chart]:
    """Mean seconds of the stages of each row's trainings, one chart per data set."""
    charts: list[Chart] = []
    for group in groups:
        for dataset in group.datasets:
            here = group.trainings_on([dataset])
            columns = {f"seconds_{stage}": stage for stage in STAGES}
            seconds = here.groupby("row", sort=False)[list(columns)].mean().rename(columns=columns).dropna(how="all")
            if seconds.empty:
                continue
            generation = sum(one.seconds for one in banks if one.dataset == dataset and not math.isnan(one.seconds))
            values = "; ".join(f"{row}: {total:.1f} s" for row, total in seconds.sum(axis=1).items())
            svg = figures.stacked(f"stages-{len(charts)}", seconds, generation)
            title = f"{dataset}, {group.backbone}"
            charts.append(Chart(title, Markup(svg), f"Seconds of the stages. {values}"))
    return charts
