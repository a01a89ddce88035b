"""Do the tables of a report say what the runs say that they name? Every cell is computed again, from metrics.json."""

import csv
import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean, stdev

from fdbpl.atomic import read_json
from fdbpl.errors import UserError
from fdbpl.findings import NOTE, OK, WRONG, Finding
from fdbpl.report.runs import Run, read_runs
from fdbpl.report.tables import OF_RUNS
from fdbpl.runs.metrics import harmonic_mean

AGAIN = "write the report again: python -m fdbpl.report"
TABLES = Path("report", "table.json")  # below the folder of the runs


def verify_tables(output: Path) -> Iterator[Finding]:
    """What there is to say of table.json and table.csv in `output`/report."""
    runs = {run.path: run for run in read_runs(output)[0]}
    file = output / TABLES
    cells, named, failed = 0, set(), False
    try:
        for table, row, column, text, values in _cells(file):
            cells += 1
            named.update(path for value in values for path in value)
            problem = _problem(column, text, values, runs)
            if problem:
                failed = True
                yield Finding(WRONG, file, f"{table}, {row}, {column}: {problem}; {AGAIN} {output}")
    except UserError as error:
        yield Finding(WRONG, file, str(error))
        return
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        yield Finding(WRONG, file, f"expected the tables of a report, found others ({type(error).__name__}: {error}); "
                                   f"{AGAIN} {output}")  # fmt: skip
        return
    if not failed:
        yield Finding(OK, file, f"{cells} cells of {len(named)} runs are what their runs give")
    yield from _csv(output / TABLES.with_suffix(".csv"), output, runs)


def _cells(file: Path) -> Iterator[tuple[str, str, str, str, list[list[str]]]]:
    """Table, row, column, text and the runs of each value, of every cell of ours that has a number."""
    content = read_json(file, "the tables of a report")
    paths = content["runs"]
    for table in content["tables"]:
        title = f"{table['protocol']}, {table['setting']}, {table['title']}"
        for row in table["rows"]:
            if row["published"]:
                continue
            for column, (text, numbers) in row["cells"].items():
                if text not in ("", "-"):
                    yield title, row["name"], column, text, [[paths[number] for number in value] for value in numbers]


def _problem(column: str, text: str, values: list[list[str]], runs: dict[str, Run]) -> str:
    """Why a cell does not hold; "" where it does."""
    if not values:
        return f"{text} names no run"
    missing = [path for value in values for path in value if path not in runs or not runs[path].finished]
    if missing:
        return f"its run {missing[0]} is not here, or not finished"
    expected = _text(column, text, [[runs[path] for path in value] for value in values])
    return "" if text == expected else f"expected {expected} of the runs that it names, found {text}"


def _text(column: str, text: str, values: list[list[Run]]) -> str:
    """What the cell should say, with as many decimals as it has."""
    digits = len(text.split(" ")[0].partition(".")[2])
    first = [value[0] for value in values]
    if column == "runs":
        planned = text.partition(" of ")[2]
        return f"{len({run.path for run in first})}" + (f" of {planned}" if planned else "")
    if column in COSTS:
        return COSTS[column](first)
    if column == "H":
        return _of_pairs(values, digits)
    if column == OF_RUNS:
        return _spread([harmonic_mean(base.accuracy, new.accuracy) for base, new in values], digits)
    return _of_sets([(run.dataset, run.accuracy) for run in first], digits)


def _of_pairs(values: list[list[Run]], digits: int) -> str:
    """H of the means over runs and data sets."""
    datasets = sorted({base.dataset for base, _ in values})
    means = [
        fmean(fmean(pair[part].accuracy for pair in values if pair[0].dataset == dataset) for dataset in datasets)
        for part in (0, 1)
    ]
    return f"{harmonic_mean(*means):.{digits}f}"


def _of_sets(found: list[tuple[str, float]], digits: int) -> str:
    """Mean and deviation over the runs of a data set; of several data sets the mean of their means."""
    datasets = sorted({dataset for dataset, _ in found})
    parts = [[accuracy for other, accuracy in found if other == dataset] for dataset in datasets]
    return _spread(parts[0], digits) if len(parts) == 1 else f"{fmean(map(fmean, parts)):.{digits}f}"


def _spread(values: list[float], digits: int) -> str:
    return f"{fmean(values):.{digits}f}" + (f" ± {stdev(values):.{digits}f}" if len(values) > 1 else "")


def _numbers(runs: list[Run], number: Callable[[Run], float]) -> list[float]:
    return [value for value in map(number, runs) if not math.isnan(value)]


def _stepping(run: Run) -> bool:
    return run.number("steps") > 0


def _step(runs: list[Run]) -> float:
    return 1000 * fmean(_numbers(list(filter(_stepping, runs)), lambda run: run.seconds("step")))


COSTS: dict[str, Callable[[list[Run]], str]] = {
    "learnt": lambda runs: f"{max(_numbers(runs, lambda run: run.number('parameters'))):,.0f}",
    "ms/step": lambda runs: f"{_step(runs):.1f}",
    "s training": lambda runs: f"{fmean(_numbers(runs, lambda run: run.training_seconds)):.1f}",
    "s in all": lambda runs: f"{fmean(_numbers(runs, lambda run: run.seconds('total'))):.1f}",
    "MiB": lambda runs: f"{max(_numbers(runs, lambda run: run.memory())):.0f}",
}


def _csv(file: Path, output: Path, runs: dict[str, Run]) -> Iterator[Finding]:
    """Every row's accuracy, and H of the row of a test on new classes."""
    if not file.is_file():
        yield Finding(WRONG, file, f"it is missing; {AGAIN} {output}")
        return
    rows = list(csv.DictReader(io.StringIO(file.read_text(encoding="utf-8"))))
    failed = False
    for row in rows:
        run, printed = runs.get(row.get("folder", "")), row.get("accuracy", "")
        found = repr(run.accuracy) if run and run.finished else ""
        if printed != found:
            failed = True
            sentence = f"expected accuracy {found or 'none'} of {row.get('folder')}, found {printed or 'none'}"
            yield Finding(WRONG, file, f"{sentence}; {AGAIN} {output}")
    if not failed:
        yield Finding(OK, file, f"{len(rows)} rows have the accuracies of their runs")
    new = sorted({path for path, run in runs.items() if run.finished} - {row.get("folder") for row in rows})
    if new:
        yield Finding(NOTE, file, f"{len(new)} runs have finished since it was written ({new[0]} ...)")
