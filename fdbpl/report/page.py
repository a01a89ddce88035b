"""`report.html`: one file that opens offline. Everything that varies is text to the template and is escaped by it."""

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import jinja2
from markupsafe import Markup

from fdbpl.report import cost, figures
from fdbpl.report.experiments import PROTOCOLS, Results, in_order
from fdbpl.report.families import supervision_of
from fdbpl.report.gallery import Gallery, galleries
from fdbpl.report.runs import Run
from fdbpl.report.tables import Group, Section, groups, is_drawn, mean

MOST_LEARNING_CURVES = 48  # panels; what is left out is named


@dataclass(frozen=True)
class Chart:
    """A drawing with its text: what it shows, for whom it is not seen, and its legend as (look, name)."""

    title: str
    svg: Markup
    alternative: str
    legend: list[tuple[figures.Look, str]]
    note: str = ""


def page(output: Path, results: Results, sections: list[Section], gallery: bool = True) -> str:
    """The whole page of the runs below `output`."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("fdbpl.report", "template"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    grouped = {name: groups(results, name) for name in PROTOCOLS}
    draw = _Charts(results, grouped)
    banks = cost.bank_costs(output, results)
    few_shot, scores, learning, stages = draw.few_shot(), draw.scores(), draw.learning(), draw.stages(banks)
    shown: list[Gallery] = galleries(output, results) if gallery else []
    return environment.get_template("report.html").render(
        summary=_summary(results),
        sections=sections,
        few_shot=few_shot,
        scores=scores,
        learning=learning,
        learning_left_out=draw.left_out,
        stages=stages,
        banks=[bank for costs in banks.values() for bank in costs],
        break_evens=cost.break_evens(results, banks),
        missing=results.missing,
        protocols=PROTOCOLS,
        problems=results.problems,
        galleries=shown,
        gallery_asked=gallery,
        symbols=[(look, Markup(figures.symbol(look))) for look in draw.used],
        stage_names=cost.STAGES,
        stage_series=figures.STAGE_SERIES,
        is_nan=math.isnan,
    )


# what was run ------------------------------------------------------------------------------------------------------


def _summary(results: Results) -> dict:
    """What stands on top of the page."""
    finished = [run for run in results.runs if run.finished]
    sets = in_order(run.dataset for run in finished)
    dates = sorted(str(run.record["started"])[:10] for run in finished if run.record.get("started"))
    return {
        "runs": len(finished),
        "foreign": sum(not run.exact for run in finished),
        "unfinished": len(results.runs) - len(finished),
        "planned": len(results.planned),
        "missing": len(results.missing),
        "problems": len(results.problems),
        "datasets": [(name, is_drawn(name)) for name in sets],
        "drawn": [name for name in sets if is_drawn(name)],
        "only_drawn": bool(sets) and all(map(is_drawn, sets)),
        "trainers": sorted({run.trainer for run in finished}),
        "experiments": Counter(one.protocol for one in results.experiments),
        "dates": (dates[0], dates[-1]) if dates else None,
        "machines": _different(finished, _machine),
        "versions": _different(finished, _versions),
        "code": _different(finished, _code),
    }


def _different(runs: list[Run], describe: Callable[[dict], str]) -> list[tuple[str, int]]:
    """Different descriptions with how many runs have each, the most frequent first."""
    found = Counter(text for run in runs if (text := describe(run.record)))
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


def _part(record: dict, name: str) -> dict:
    value = record.get(name)
    return value if isinstance(value, dict) else {}


def _machine(record: dict) -> str:
    machine = _part(record, "machine")
    if not machine:
        return ""
    return f"{machine.get('processor')}, {machine.get('gpu') or 'no GPU'}; {machine.get('system')}"


def _versions(record: dict) -> str:
    packages = {"Python": record.get("python"), **_part(record, "packages")}
    return ", ".join(f"{name} {version}" for name, version in packages.items() if version)


def _code(record: dict) -> str:
    code = _part(record, "code")
    if not code.get("commit"):
        return ""
    return f"{str(code['commit'])[:12]}{', with local changes' if code.get('modified') else ''}"


# charts ------------------------------------------------------------------------------------------------------------


class _Charts:
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
            for dataset in [None, *group.datasets] if len(group.datasets) > 1 else group.datasets:
                curves = self._curves(group, dataset)
                shots = {count for points in curves.values() for count in points}
                if len(shots) < 2:
                    continue
                title = dataset or f"Average over {len(group.datasets)} data sets"
                said = "; ".join(f"{row}: {_said(points)}" for row, points in curves.items())
                svg = figures.few_shot(f"shots-{place}-{len(charts)}", curves, look)
                charts.append(self._chart(title, svg, f"Accuracy against shots. {said}", curves, look, group))
        return charts

    def _curves(self, group: Group, dataset: str | None) -> dict[str, dict[int, list[float]]]:
        curves: dict[str, dict[int, list[float]]] = {}
        for row, members in group.rows.items():
            points: dict[int, dict[str, list[float]]] = {}
            for one in members:
                if dataset in (None, one.train.dataset) and one.train.shots > 0:
                    points.setdefault(one.train.shots, {}).setdefault(one.train.dataset, []).append(one.values["all"])
            if dataset is None:  # of the averages only the mean is drawn, and only where every data set is there
                whole = {count: sets for count, sets in points.items() if len(sets) == len(group.datasets)}
                found = {count: [fmean(map(fmean, sets.values()))] for count, sets in whole.items()}
            else:
                found = {count: sets[dataset] for count, sets in points.items()}
            if found:
                curves[row] = found
        return curves

    def scores(self) -> list[Chart]:
        """H against training seconds, for each data set."""
        charts = []
        for place, group in enumerate(self.grouped["base2new"]):
            look = self._looks(group)
            for dataset in group.datasets:
                points = {}
                for row, members in group.rows.items():
                    here = [one for one in members if one.train.dataset == dataset]
                    seconds = mean(one.train.seconds("train") for one in here)
                    if here and seconds > 0:
                        points[row] = (seconds, fmean(one.values["H"] for one in here))
                if not points:
                    continue
                untrained = [
                    f"{row} {fmean(one.values['H'] for one in members if one.train.dataset == dataset):.2f}"
                    for row, members in group.rows.items()
                    if row not in points and any(one.train.dataset == dataset for one in members)
                ]
                note = f"Without training seconds: {', '.join(untrained)}." if untrained else ""
                said = "; ".join(f"{row}: H {h:.2f} after {seconds:.1f} s" for row, (seconds, h) in points.items())
                svg = figures.score_against_seconds(f"score-{place}-{len(charts)}", points, look)
                title = f"{dataset}, {group.shots} shots, {group.backbone}"
                said = f"H against seconds of training. {said}"
                charts.append(self._chart(title, svg, said, points, look, None, note))
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

    def _chart(self, title, svg, said, rows, look, group=None, note="") -> Chart:
        if group is not None:
            title = f"{title}, {group.backbone}"
        legend = [(look[row], row) for row in rows]
        self.used += dict.fromkeys(one for one, _ in legend if one not in self.used)
        return Chart(title, Markup(svg), said, legend, note)


def _said(points: dict[int, list[float]]) -> str:
    return ", ".join(f"{count} shots {fmean(values):.1f}" for count, values in sorted(points.items()))
