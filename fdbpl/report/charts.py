"""Which charts the page has, and what they say to whom they are not shown."""

import math
from dataclasses import dataclass
from statistics import fmean

from markupsafe import Markup

from fdbpl.report import cost, figures
from fdbpl.report.cells import mean
from fdbpl.report.experiments import Results
from fdbpl.report.groups import Group
from fdbpl.report.method_names import supervision_of
from fdbpl.report.runs import Run
from fdbpl.report.tables import base2new_averages

MOST_LEARNING_CURVES = 48  # panels; what is left out is named


@dataclass(frozen=True)
class Chart:
    """A drawing with its text: what it shows, for whom it is not seen, and its legend as (look, name)."""

    title: str
    svg: Markup
    alternative: str
    legend: list[tuple[figures.Look, str]]
    note: str = ""


class Charts:
    """Draws from the groups; keeps which looks were used, for one set of symbols on the page."""

    def __init__(self, results: Results, grouped: dict[str, list[Group]]):
        self.results, self.grouped = results, grouped
        self.used: list[figures.Look] = []
        self.left_out = 0

    def few_shot(self) -> list[Chart]:
        """Curves of groups with more than one number of shots: the average over data sets, then each data set."""
        charts = []
        for place, group in enumerate(self.grouped["few_shot"]):
            look = self._looks(group)
            for datasets in self._sets(group):
                curves = self._curves(group, datasets)
                shots = {count for points in curves.values() for count in points}
                if len(shots) < 2:
                    continue
                title = f"{_name(datasets)}, {group.backbone}"
                said = "; ".join(f"{row}: {_said(points)}" for row, points in curves.items())
                svg = figures.few_shot(f"shots-{place}-{len(charts)}", curves, look)
                charts.append(self._chart(title, svg, f"Accuracy against shots. {said}", curves, look))
        return charts

    def _sets(self, group: Group) -> list[list[str]]:
        """What there is a chart of: all data sets together where there are several, then each."""
        each = [[dataset] for dataset in group.datasets]
        return [group.datasets, *each] if len(each) > 1 else each

    def _curves(self, group: Group, datasets: list[str]) -> dict[str, dict[int, list[float]]]:
        """Accuracies by row and shots: the runs'; of several data sets the mean of their means where all are there."""
        curves: dict[str, dict[int, list[float]]] = {}
        for row, members in group.rows.items():
            points: dict[int, dict[str, list[float]]] = {}
            for one in members:
                if one.train.dataset in datasets and one.train.shots > 0:
                    points.setdefault(one.train.shots, {}).setdefault(one.train.dataset, []).append(one.values["all"])
            found = {
                count: next(iter(sets.values())) if len(datasets) == 1 else [fmean(map(fmean, sets.values()))]
                for count, sets in points.items()
                if len(sets) == len(datasets)
            }
            if found:
                curves[row] = found
        return curves

    def scores(self) -> list[Chart]:
        """H against training seconds: the average over data sets, then each data set."""
        charts = []
        for place, group in enumerate(self.grouped["base2new"]):
            look = self._looks(group)
            for datasets in self._sets(group):
                points, untimed = {}, []
                for row, members in group.rows.items():
                    averages = base2new_averages(members, datasets)
                    if averages is None:
                        continue
                    seconds = fmean(
                        mean(one.train.seconds("train") for one in members if one.train.dataset == dataset)
                        for dataset in datasets
                    )
                    if seconds > 0:
                        points[row] = (seconds, averages["H"])
                    else:
                        untimed.append(f"{row} {averages['H']:.2f}")
                if not points:
                    continue
                said = "; ".join(f"{row}: H {h:.2f} after {seconds:.1f} s" for row, (seconds, h) in points.items())
                said = f"H against seconds of training. {said}"
                svg = figures.score_against_seconds(f"score-{place}-{len(charts)}", points, look)
                title = f"{_name(datasets)}, {group.shots} shots, {group.backbone}"
                note = f"Without training seconds: {', '.join(untimed)}." if untimed else ""
                charts.append(self._chart(title, svg, said, points, look, note))
        return charts

    def learning(self) -> dict[str, list[Chart]]:
        """Loss and learning rate of the trainings of each row, by data set and classes."""
        found: dict[str, list[Chart]] = {}
        drawn = 0
        for protocol in ("base2new", "few_shot"):
            for group in self.grouped[protocol]:
                look = self._looks(group)
                for dataset in group.datasets:
                    shots = max(one.train.shots for one in group.experiments if one.train.dataset == dataset)
                    title = f"{dataset}, {'base' if protocol == 'base2new' else 'all'} classes, {shots} shots"
                    for row, members in group.rows.items():
                        runs = [
                            one.train for one in members
                            if one.train.dataset == dataset and one.train.shots == shots
                            and supervision_of(one.train.trainer) != "none"
                        ]  # fmt: skip
                        if not runs:
                            continue
                        if drawn >= MOST_LEARNING_CURVES:
                            self.left_out += 1
                            continue
                        chart = self._learning(f"learning-{drawn}", row, runs, look)
                        if chart:
                            found.setdefault(title, []).append(chart)
                            drawn += 1
        return found

    def _learning(self, name: str, row: str, runs: list[Run], look: dict[str, figures.Look]) -> Chart | None:
        losses, rates = [], {}
        for run in runs:
            curve: dict[int, float] = {}
            for log in run.logs():  # a later attempt goes on, or begins again, where an earlier one stopped
                curve |= log.losses
                rates |= log.rates
            if curve:
                losses.append(curve)
        if not losses:
            return None
        first, last = (fmean(curve[pick(curve)] for curve in losses) for pick in (min, max))
        said = f"Loss of {len(losses)} run{'s' * (len(losses) > 1)} of {row}, from {first:.3g} to {last:.3g}"
        svg = figures.learning(name, losses, rates, look[row].colour)
        return Chart(row, Markup(svg), said, [])

    def stages(self, banks: dict[str, list[cost.BankCost]]) -> list[Chart]:
        """Seconds of the stages of base-to-new trainings (without these, of trainings on all classes)."""
        charts = []
        for group in self.grouped["base2new"] or self.grouped["few_shot"]:
            for dataset in group.datasets:
                rows = cost.stages(group.rows, dataset)
                timed = sum(bank.seconds for bank in banks.get(dataset, []) if not math.isnan(bank.seconds))
                bank = ("region bank, once", timed) if timed else None
                if not rows:
                    continue
                bars = {row.name: row.seconds for row in rows}
                said = "; ".join(f"{row.name}: {sum(row.seconds.values()):.1f} s" for row in rows)
                svg = figures.stacked(f"stages-{len(charts)}", bars, bank)
                title = f"{dataset}, {group.backbone}"
                charts.append(Chart(title, Markup(svg), f"Seconds of the stages. {said}", []))
        return charts

    def _looks(self, group: Group) -> dict[str, figures.Look]:
        rows = [(name, members[0].train.trainer) for name, members in group.rows.items()]
        return figures.looks(rows)

    def _chart(self, title, svg, said, rows, look, note="") -> Chart:
        legend = [(look[row], row) for row in rows]
        self.used += dict.fromkeys(one for one, _ in legend if one not in self.used)
        return Chart(title, Markup(svg), said, legend, note)


def _name(datasets: list[str]) -> str:
    return datasets[0] if len(datasets) == 1 else f"Average over {len(datasets)} data sets"


def _said(points: dict[int, list[float]]) -> str:
    return ", ".join(f"{count} shots {fmean(values):.1f}" for count, values in sorted(points.items()))
