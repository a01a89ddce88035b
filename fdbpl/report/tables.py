"""Tables of results by protocol.

Conventions. A cell is the mean over runs (seeds) ± their sample standard deviation. H of a row is, as in published
tables, the harmonic mean of its mean base and its mean new accuracy; the mean of the runs' H has a column of its own.
The average over data sets is the mean of the data sets' means. Cross-dataset averages leave out the source; averages
of domain generalization are over the shifted data sets.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from fdbpl.report.experiments import Results
from fdbpl.report.groups import LOG_MARK, Group, make_groups
from fdbpl.report.protocols import PROTOCOL_TITLES, Published, read_published, sort_datasets
from fdbpl.report.remarks import remarks_on
from fdbpl.report.runs import Run, printable
from fdbpl.report.significance import LEVEL, Difference, compare, interval, paired_differences
from fdbpl.runs.metrics import harmonic_mean
from fdbpl.runs.results import counted, shots_text

LOG_NOTE = f"{LOG_MARK} read from a log of Dassl, which prints one decimal for each run."
LOWER_MARK = "↓"
MARK_NOTE = "The best of our runs is bold, the second best underlined (Markdown: italic)."
LOWER_NOTE = (
    f"{LOWER_MARK}: significantly lower than the best value of the column (p < {LEVEL} over runs of equal seed and "
    "over test images, as far as there are several runs and stored predictions); other differences may be chance."
)
DIFFERENCE_NOTE = (
    "Differences are means over pairs of runs of equal data set, seed and split, with "
    f"{1 - LEVEL:.0%} intervals (paired t; H is that of each run)."
)
BASE2NEW = ["base", "new", "H"]
JOINT = ["joint base", "joint new", "joint H"]
MEAN_H = "mean H of runs"
COSTS = {  # column -> aggregation over runs, format
    "parameters": (lambda values: values.max() if values.nunique() == 1 else math.nan, ",.0f"),
    "ms/step": ("mean", ".1f"),
    "training s": ("mean", ".1f"),
    "total s": ("mean", ".1f"),
    "MiB": ("max", ".0f"),
}
MARKS = {1: "best", 2: "second"}


@dataclass(frozen=True)
class TableCell:
    """Text of a table and its number.

    Attributes:
        mark: best, second or empty.
        runs: paths of its run folders.
        difference: from the best row's value; None where they cannot be compared.
    """

    text: str = "-"
    value: float | None = None
    mark: str = ""
    runs: tuple[str, ...] = ()
    difference: Difference | None = None

    @property
    def lower(self) -> str:
        """LOWER_MARK if the value is significantly lower than the best one."""
        return LOWER_MARK if self.difference and self.difference.significant else ""


@dataclass(frozen=True)
class Row:
    """One row of a table. `settings` are configuration files with overrides, and digests of whole configurations."""

    name: str
    cells: list[TableCell]
    settings: str = ""
    published: bool = False


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        columns: titles of the columns after the row's name.
        marked: the columns of accuracies that are compared; the last one ranks methods.
        accuracies: those of the runs, as `Group.accuracies`, with the columns of the table.
    """

    title: str
    columns: list[str]
    rows: list[Row]
    marked: Sequence[str]
    accuracies: pd.DataFrame = field(repr=False)

    @property
    def main(self) -> str:
        return self.marked[-1]

    @property
    def differences(self) -> list[tuple[str, Difference]]:
        """Of the main column: names of rows with the differences from the best one."""
        cells = ((row.name, row.cells[self.columns.index(self.main)]) for row in self.rows)
        return [(name, cell.difference) for name, cell in cells if cell.difference]


@dataclass(frozen=True)
class Section:
    """The tables of a protocol in one setting.

    Attributes:
        setting: student, shots and kind of images. notes: explanations of the tables.
        synthetic: whether the data sets are those of the embedded demo.
        shared: settings that all of its trainings have in common.
    """

    protocol: str
    setting: str
    tables: list[Table]
    notes: list[str]
    synthetic: bool
    shared: dict[str, str]

    @property
    def title(self) -> str:
        return f"{PROTOCOL_TITLES[self.protocol]}: {self.setting}"


Cells = dict[tuple[str, str], TableCell]  # by row and column
PublishedValues = dict[str, Mapping[str, float | None]]  # by name of the row, then by column


def make_sections(results: Results, reference: str = "") -> list[Section]:
    """All tables; of each protocol those of photographs come before those of the embedded demo.

    Args:
        reference: name of a row; a further table has the differences of the other rows from it.
    """
    return [_make_section(group, reference) for protocol in PROTOCOL_TITLES for group in make_groups(results, protocol)]


def _make_section(group: Group, reference: str) -> Section:
    make = {"base2new": _base2new, "base2new_all": _base2new, "few_shot": _few_shot}.get(group.protocol, _transfer)
    source = group.datasets[0] if make is _transfer else ""
    published = [] if group.synthetic else read_published(group.protocol, group.backbone, group.shots, source)
    tables, notes = make(group, published)
    if reference:
        tables = [*tables, *filter(None, (_differences(table, reference) for table in tables))]
        notes.append(DIFFERENCE_NOTE)
    if any(cell.lower for table in tables for row in table.rows for cell in row.cells):
        notes.append(LOWER_NOTE)
    if any(not one.train.exact for one in group.experiments):
        notes.append(LOG_NOTE)
    shown = {row.name for table in tables for row in table.rows if row.published}
    rows = [row for row in published if row.name in shown]
    if rows:
        names: dict[str, list[str]] = defaultdict(list)
        for row in rows:
            names[row.source].append(row.trainer + (f" ({row.note})" if row.note else ""))
        sources = "; ".join(f"{', '.join(trainers)}: {source}" for source, trainers in names.items())
        notes.append(f"Published numbers in the same setting, not run here. {sources}.")
    notes += remarks_on(group.experiments)
    images = "synthetic demo images" if group.synthetic else "photographs"
    shots = "" if group.protocol == "few_shot" else f", {shots_text(group.shots)}"
    setting = f"{images}{shots}, student {group.backbone}"
    return Section(group.protocol, setting, tables, notes, group.synthetic, _shared_settings(group))


def _shared_settings(group: Group) -> dict[str, str]:
    """Settings that all trainings have in common."""
    first, *others = (one.train.settings for one in group.experiments)
    shared = (key for key in sorted(first) if all(other.get(key) == first[key] for other in others))
    return {printable(key): printable(str(first[key])) for key in shared}


# protocols ---------------------------------------------------------------------------------------------------------


def _base2new(group: Group, published: list[Published]) -> tuple[list[Table], list[str]]:
    tables = []
    for datasets in dataset_sets(group):
        cells = _cost_cells(group, datasets) | _accuracy_cells(base2new_means(group, datasets).stack())
        accuracies = group.accuracies_on(datasets)
        if len(datasets) == 1:
            spread = _spread_cells(accuracies)
            cells |= {(row, MEAN_H if column == "H" else column): cell for (row, column), cell in spread.items()}
        rows: PublishedValues = {}
        for one in published:
            if values := one.values.get(datasets[0]) if len(datasets) == 1 else one.average_of(datasets):
                rows[one.name] = dict(zip(BASE2NEW, values, strict=True))
        joint = JOINT if JOINT[0] in set(accuracies["column"]) else []
        tables.append(_table(group, datasets, accuracies, [*BASE2NEW, MEAN_H, *joint, *COSTS], cells, BASE2NEW, rows))
    notes = [
        "Mean ± standard deviation over runs. H is the harmonic mean of the row's base and new, as in published "
        f"tables; {MEAN_H} is the mean of each run's H, which is never larger. {MARK_NOTE}"
    ]
    if any(JOINT[0] in table.columns for table in tables):
        notes.append("Joint: images of base and of new classes, each classified among all classes (evaluate --joint).")
    if len(tables) > 1:
        notes.append(
            "Average over data sets: the mean of the data sets' means for base and new, for rows that have every data "
            "set. Costs are means over all runs."
        )
    notes.append(
        "Costs are those of the training run: total s is its training and test without start-up, MiB the largest. The "
        "features of test images of a frozen image encoder are cached: the first run that tests on them computes them."
    )
    return tables, notes


def _few_shot(group: Group, published: list[Published]) -> tuple[list[Table], list[str]]:
    tables = []
    for datasets in dataset_sets(group):
        accuracies = group.accuracies_on(datasets)
        columns = [shots_text(count) for count in sorted(set(accuracies["shots"]))]
        one = len(datasets) == 1
        cells = _spread_cells(accuracies) if one else _accuracy_cells(means_over(accuracies, "dataset", datasets))
        rows: PublishedValues = {
            row.name: {shots_text(shots): value for shots, value in zip(row.by_shots, row.average, strict=True)}
            for row in published if set(row.datasets) == set(datasets)
        }  # fmt: skip
        tables.append(_table(group, datasets, accuracies, columns, cells, columns, rows))
    notes = [f"All classes; mean ± standard deviation over runs. {MARK_NOTE}"]
    if len(tables) > 1:
        notes.append("The average is the mean of the data sets' means, for rows that have every data set.")
    return tables, notes


def _transfer(group: Group, published: list[Published]) -> tuple[list[Table], list[str]]:
    """Cross-dataset transfer or domain generalization."""
    (source,) = group.datasets
    trained, accuracies = f"{source} (source)", group.accuracies
    accuracies = accuracies.assign(column=accuracies["column"].replace(source, trained))
    targets = sort_datasets(set(accuracies["column"]) - {trained})
    average = f"average of {counted(len(targets), 'target' if group.protocol == 'cross_dataset' else 'shift')}"
    averaged = accuracies[accuracies["column"].isin(targets)]
    averaged = averaged.assign(dataset=averaged["column"], column=average)
    means = means_over(averaged, "dataset", targets)
    rows: PublishedValues = {}
    for one in published:
        if any(name in one.values for name in targets):
            (mean,) = one.average_of(targets) or (None,)
            values = {name: values[0] for name, values in one.values.items()}
            rows[one.name] = values | {trained: values.get(source), average: mean}
    columns = [trained, *targets, average]
    cells = _spread_cells(accuracies) | _accuracy_cells(means)
    table = _table(group, [source], pd.concat([accuracies, averaged]), columns, cells, columns, rows)
    note = (
        f"Trained on all classes of {source} and tested on the other data sets without further training; the average "
        f"leaves the source out. {MARK_NOTE}"
    )
    return [replace(table, title=f"From {source}")], [note]


def dataset_sets(group: Group) -> list[list[str]]:
    """The data sets of each table: all together where there are several, then each alone."""
    each = [[dataset] for dataset in group.datasets]
    return [group.datasets, *each] if len(each) > 1 else each


def set_title(datasets: list[str]) -> str:
    return datasets[0] if len(datasets) == 1 else f"Average over {len(datasets)} data sets"


# numbers -----------------------------------------------------------------------------------------------------------


def means_over(accuracies: pd.DataFrame, over: str, required: Collection[str], column: str = "column") -> pd.Series:
    """Means over the values `required` of the column `over`, each of which is itself a mean over runs.

    Returns:
        Means by (row, `column`); NaN where a required value is missing.
    """
    means = accuracies.pivot_table(index=["row", column], columns=over, values="accuracy", aggfunc="mean", sort=False)
    return means.reindex(columns=list(required)).mean(axis=1, skipna=False)


def base2new_means(group: Group, datasets: list[str]) -> pd.DataFrame:
    """base, new and H of each row, also joint, averaged over data sets; NaN where a data set is missing."""
    means = means_over(group.accuracies, "dataset", datasets).unstack()
    for base, new, score in (BASE2NEW, JOINT) if JOINT[0] in means else (BASE2NEW,):
        means[score] = [harmonic_mean(*pair) for pair in zip(means[base], means[new], strict=True)]
    return means


def _number_cell(value: float | None, form: str = ".2f", spread: str = "") -> TableCell:
    return TableCell() if value is None or math.isnan(value) else TableCell(format(value, form) + spread, value)


def _spread_cells(accuracies: pd.DataFrame) -> Cells:
    """Mean ± sample standard deviation by row and column."""
    groups = accuracies.groupby(["row", "column"], sort=False)["accuracy"]
    return _accuracy_cells(groups.mean(), groups.std())


def _accuracy_cells(means: pd.Series, deviations: Mapping | pd.Series | None = None) -> Cells:
    """Cells of means, by row and column, and of standard deviations where they are known."""
    cells = {}
    for (row, column), mean in means.items():
        form = ".1f" if row.endswith(LOG_MARK) else ".2f"
        deviation = math.nan if deviations is None else deviations[row, column]
        spread = "" if math.isnan(deviation) else f" ± {deviation:{form}}"
        cells[row, column] = _number_cell(mean, form, spread)
    return cells


def _cost_cells(group: Group, datasets: list[str]) -> Cells:
    runs = group.trainings_on(datasets)
    costs = {
        "ms/step": 1000 * runs["seconds_step"].where(runs["steps"] > 0),
        "training s": runs["seconds_train"].mask(runs["parameters"] == 0, 0.0),
        "total s": runs["seconds_total"],
        "MiB": runs["mib_host"],
    }
    rows = runs.assign(**costs).groupby("row", sort=False)
    return {
        (row, column): _number_cell(value, form)
        for column, (how, form) in COSTS.items()
        for row, value in rows[column].agg(how).items()
    }


def _table(
    group: Group,
    datasets: list[str],
    accuracies: pd.DataFrame,
    columns: list[str],
    cells: Cells,
    marked: Sequence[str],
    published: PublishedValues | None = None,
) -> Table:
    """A table with a first column of the number of runs: `3`, or `2 of 3` where runs are missing.

    Args:
        accuracies: as `Group.accuracies`, with the columns of the table.
        marked: columns whose values are compared, the main one last.
    """
    paths = accuracies.groupby(["row", "column"])["paths"].agg(lambda parts: tuple(dict.fromkeys(sum(parts, ()))))
    rows = []
    for name, runs in group.trainings_on(datasets).groupby("row", sort=False):
        planned, count = runs.drop_duplicates("dataset")["planned"].sum(), len(runs)
        number = TableCell(str(count) if count >= planned else f"{count} of {planned}", count)
        row = [
            replace(cells.get((name, column), TableCell()), runs=paths.get((name, column), ())) for column in columns
        ]
        configurations = (runs["config"] + ", digest of settings " + runs["settings"]).unique()
        rows.append(Row(name, [number, *row], "; ".join(configurations)))
    for place, column in enumerate(columns, start=1):
        if column in marked:
            _mark_best(rows, place)
            _compare_with_best(rows, place, column, accuracies, group.runs)
    for name, values in (published or {}).items():
        rows.append(Row(name, [TableCell(), *(_number_cell(values.get(column)) for column in columns)], published=True))
    return Table(set_title(datasets), ["runs", *columns], rows, marked, accuracies)


def _differences(table: Table, reference: str) -> Table | None:
    """Differences of a table's rows from the row `reference`, over the runs that both have; None without that row.

    Args:
        reference: name of a row, with or without its settings in parentheses.
    """
    names = [row.name for row in table.rows if row.name == reference or row.name.startswith(f"{reference} (")]
    rows = []
    for row in table.rows if names else ():
        found = {column: paired_differences(table.accuracies, column, row.name, names[0]) for column in table.marked}
        if any(found.values()):
            count = sum(map(len, found[table.main].values()))
            rows.append(Row(row.name, [TableCell(str(count), count), *map(_difference_cell, found.values())]))
    title = f"{table.title}: differences from {reference}"
    rows = [row for row in rows if row.name != names[0]]
    return Table(title, ["pairs", *table.marked], rows, table.marked, table.accuracies) if names else None


def _difference_cell(differences: Mapping[str, np.ndarray]) -> TableCell:
    """Mean difference with its interval, e.g. `+0.52 [+0.11, +0.93]`."""
    if not differences:
        return TableCell()
    mean, limits = float(np.mean([part.mean() for part in differences.values()])), interval(differences)
    return TableCell(f"{mean:+.2f}" + (f" [{limits[0]:+.2f}, {limits[1]:+.2f}]" if limits else ""), mean)


def _mark_best(rows: list[Row], column: int) -> None:
    """Mark the best and the second best value, as printed with two decimals: equal values share a mark."""
    values = pd.Series([row.cells[column].value for row in rows], dtype=float).round(2)
    if values.count() > 1:
        for row, rank in zip(rows, values.rank(method="dense", ascending=False), strict=True):
            row.cells[column] = replace(row.cells[column], mark=MARKS.get(rank, ""))


def _compare_with_best(
    rows: list[Row], place: int, column: str, accuracies: pd.DataFrame, runs: Mapping[str, Run]
) -> None:
    """Add to each cell of a column its difference from the first of the best ones."""
    known = [row for row in rows if row.cells[place].value is not None]
    best = next((row.name for row in known if row.cells[place].mark == "best"), None)
    if best:
        others = [row.name for row in known if row.name != best]
        found = compare(accuracies, runs, column, best, others)
        for row in known:
            row.cells[place] = replace(row.cells[place], difference=found.get(row.name))
