"""What is in a cell: means over runs, their spread, costs, and marks of the best."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from statistics import fmean, stdev

from fdbpl.report.experiments import Experiment
from fdbpl.report.table import Cell, Line

NOTHING = "-"


def accuracy(experiments: Sequence[Experiment], column: str) -> Cell:
    """Mean ± standard deviation of a column over runs."""
    values = [one.values[column] for one in experiments if column in one.values]
    if not values:
        return Cell(NOTHING)
    exact = all(one.train.exact for one in experiments)
    return from_runs(Cell(spread(values, 2 if exact else 1), fmean(values)), experiments, column)


def from_runs(cell: Cell, experiments: Iterable[Experiment], *columns: str) -> Cell:
    """The cell with the runs that its number is from: those of some columns of some experiments."""
    if cell.value is None:
        return cell
    runs = [one.runs(column) for column in columns for one in experiments if column in one.values]
    return replace(cell, runs=tuple(runs))


def spread(values: Sequence[float], digits: int = 2) -> str:
    """`87.52 ± 0.31`: mean and sample standard deviation; of one value the mean alone."""
    return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def plain(value: float | None, form: str = ".2f") -> Cell:
    return Cell(NOTHING) if value is None or math.isnan(value) else Cell(format(value, form), value)


def costs(experiments: Sequence[Experiment]) -> list[Cell]:
    """What the trainings of a row cost: learnt, ms/step, s training, s in all, MiB."""
    runs = [one.train for one in experiments]
    steps = [1000 * run.seconds("step") for run in runs if run.number("steps") > 0]
    learnt = {run.number("parameters") for run in runs} - {math.nan}
    cells = [
        plain(max(learnt, default=math.nan) if len(learnt) == 1 else math.nan, ",.0f"),
        plain(mean(steps), ".1f"),
        plain(mean(run.training_seconds for run in runs), ".1f"),
        plain(mean(run.seconds("total") for run in runs), ".1f"),
        plain(max((run.memory() for run in runs if not math.isnan(run.memory())), default=math.nan), ".0f"),
    ]
    paths = tuple((run.path,) for run in runs)
    return [cell if cell.value is None else replace(cell, runs=paths) for cell in cells]


def mean(values: Iterable[float]) -> float:
    """Mean of the numbers among `values`; nan of none."""
    numbers = [value for value in values if not math.isnan(value)]
    return fmean(numbers) if numbers else math.nan


def marked(lines: list[Line], columns: Iterable[int]) -> list[Line]:
    """The lines with the best and second best of our own marked, as they are printed: equal texts share a mark."""
    lines = [replace(line, cells=list(line.cells)) for line in lines]
    for column in columns:
        ours = [line for line in lines if not line.published and line.cells[column].value is not None]
        ranks = sorted({round(line.cells[column].value, 2) for line in ours}, reverse=True)
        for line in ours if len(ours) > 1 else []:
            rank = ranks.index(round(line.cells[column].value, 2))
            if rank < 2:
                line.cells[column] = replace(line.cells[column], mark=("best", "second")[rank])
    return lines
