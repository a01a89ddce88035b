"""Tables of results by protocol.

Conventions. A cell is the mean over runs (seeds) ± their sample standard deviation. H of a row is, as in published
tables, the harmonic mean of its mean base and its mean new accuracy; the mean of the runs' H has a column of its own.
The average over data sets is the mean of the data sets' means. Cross-dataset averages leave out the source; averages
of domain generalization are over the shifted data sets.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from fdbpl.report.experiments import Results
from fdbpl.report.groups import LOG_MARK, Group, make_groups
from fdbpl.report.protocols import PROTOCOL_TITLES, sort_datasets
from fdbpl.report.published import Published, read_published
from fdbpl.report.remarks import remarks_on
from fdbpl.runs.metrics import harmonic_mean
from fdbpl.runs.results import shots_text

LOG_NOTE = f"{LOG_MARK} read from a log of Dassl, which prints one decimal for each run."
MARK_NOTE = "The best of our runs is bold, the second best underlined (Markdown: italic)."
BASE2NEW = ("base", "new", "H")
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
    """Text of a table and its number. `mark` is best, second or empty."""

    text: str = "-"
    value: float | None = None
    mark: str = ""


@dataclass(frozen=True)
class Row:
    """One row of a table. `runs` are the paths of the run folders that its numbers come from."""

    name: str
    cells: list[TableCell]
    runs: list[str] = field(default_factory=list)
    published: bool = False


@dataclass(frozen=True)
class Table:
    """One table. `columns` are the titles of the columns after the row's name."""

    title: str
    columns: list[str]
    rows: list[Row]


@dataclass(frozen=True)
class Section:
    """The tables of a protocol in one setting.

    Attributes:
        setting: what all of its runs have in common. notes: explanations of the tables.
        synthetic: whether the data sets are those of the embedded demo.
    """

    protocol: str
    setting: str
    tables: list[Table]
    notes: list[str]
    synthetic: bool

    @property
    def title(self) -> str:
        return f"{PROTOCOL_TITLES[self.protocol]}: {self.setting}"


Cells = dict[tuple[str, str], TableCell]  # by row and column


def make_sections(results: Results, protocol: str | None = None) -> list[Section]:
    """All tables, or those of one protocol; tables of photographs come before those of the embedded demo."""
    make = {"base2new": _base2new, "base2new_all": _base2new, "few_shot": _few_shot}
    protocols = [protocol] if protocol else list(PROTOCOL_TITLES)
    return [make.get(name, _transfer)(group) for name in protocols for group in make_groups(results, name)]


# cells -------------------------------------------------------------------------------------------------------------


def number_cell(value: float | None, form: str = ".2f") -> TableCell:
    return TableCell() if value is None or math.isnan(value) else TableCell(format(value, form), value)


def means_over(accuracies: pd.DataFrame, by: str, over: str, required: Collection[str]) -> pd.Series:
    """Means over the values `required` of column `over`, each of which is itself a mean over runs.

    Returns:
        Means by (row, `by`); NaN where a required value is missing.
    """
    means = accuracies.pivot_table(index=["row", by], columns=over, values="accuracy", aggfunc="mean", sort=False)
    return means.reindex(columns=list(required)).mean(axis=1, skipna=False)


def base2new_means(group: Group, datasets: list[str]) -> pd.DataFrame:
    """base, new and H of each row, averaged over data sets; NaN where a data set is missing."""
    means = means_over(group.accuracies, "column", "dataset", datasets).unstack()
    means["H"] = [harmonic_mean(base, new) for base, new in zip(means["base"], means["new"], strict=True)]
    return means


def _spread_cells(accuracies: pd.DataFrame) -> Cells:
    """Mean ± sample standard deviation by row and column."""
    stats = accuracies.groupby(["row", "column"], sort=False)["accuracy"].agg(["mean", "std"])
    cells = {}
    for (row, column), mean, std in stats.itertuples():
        form = _accuracy_format(row)
        text = format(mean, form) + ("" if math.isnan(std) else f" ± {std:{form}}")
        cells[row, column] = TableCell(text, mean)
    return cells


def _mean_cells(means: pd.Series) -> Cells:
    return {(row, column): number_cell(mean, _accuracy_format(row)) for (row, column), mean in means.items()}


def _accuracy_format(row: str) -> str:
    return ".1f" if row.endswith(LOG_MARK) else ".2f"


def _run_cells(group: Group, datasets: list[str]) -> Cells:
    """`3`, or `2 of 3` where runs are missing."""
    trainings = group.trainings_on(datasets)
    cells = {}
    for row, count in trainings["row"].value_counts(sort=False).items():
        expected = sum(number for (name, where), number in group.expected.items() if name == row and where in datasets)
        cells[row, "runs"] = TableCell(str(count) if count >= expected else f"{count} of {expected}", count)
    return cells


def _cost_cells(group: Group, datasets: list[str]) -> Cells:
    runs = group.trainings_on(datasets)
    runs = runs.assign(
        **{
            "ms/step": 1000 * runs["seconds_step"].where(runs["steps"] > 0),
            "training s": runs["seconds_train"].mask(runs["parameters"] == 0, 0.0),
            "total s": runs["seconds_total"],
            "MiB": runs["mib_host"],
        }
    )
    rows = runs.groupby("row", sort=False)
    return {
        (row, column): number_cell(value, form)
        for column, (how, form) in COSTS.items()
        for row, value in rows[column].agg(how).items()
    }


# tables ------------------------------------------------------------------------------------------------------------


def _base2new(group: Group) -> Section:
    published = [] if group.synthetic else read_published(group.protocol, group.backbone, group.shots)
    tables = [_base2new_table(group, datasets, published) for datasets in dataset_sets(group)]
    notes = [
        "Mean ± standard deviation over runs. H is the harmonic mean of the row's base and new, as in published "
        f"tables; {MEAN_H} is the mean of each run's H, which is never larger. {MARK_NOTE}"
    ]
    if len(tables) > 1:
        notes.append(
            "Average over data sets: the mean of the data sets' means for base and new, for rows that have every data "
            "set. Costs are means over all runs."
        )
    notes.append(
        "Costs are those of the training run: total s is its training and test without start-up, MiB the largest. The "
        "features of test images of a frozen image encoder are cached: the first run that tests on them computes them."
    )
    return _section(group, tables, published, notes)


def _base2new_table(group: Group, datasets: list[str], published: list[Published]) -> Table:
    means = base2new_means(group, datasets)
    cells = _run_cells(group, datasets) | _cost_cells(group, datasets)
    if len(datasets) == 1:
        spread = _spread_cells(group.accuracies_on(datasets))
        cells |= spread | {(row, MEAN_H): cell for (row, column), cell in spread.items() if column == "H"}
        cells |= _mean_cells(means[["H"]].stack())
    else:
        cells |= _mean_cells(means.stack())
    rows = []
    for one in published:
        values = one.values.get(datasets[0]) if len(datasets) == 1 else one.average_of(datasets)
        if values:
            rows.append(_published_row(one, dict(zip(BASE2NEW, values, strict=True))))
    return _table(group, datasets, ["runs", *BASE2NEW, MEAN_H, *COSTS], cells, BASE2NEW, rows)


def _few_shot(group: Group) -> Section:
    tables = []
    for datasets in dataset_sets(group):
        accuracies = group.accuracies_on(datasets)
        shots = group.trainings_on(datasets)["shots"]
        columns = [shots_text(count) for count in sorted(set(shots))]
        if len(datasets) == 1:
            cells = _spread_cells(accuracies)
        else:
            cells = _mean_cells(means_over(accuracies, "column", "dataset", datasets))
        tables.append(_table(group, datasets, ["runs", *columns], _run_cells(group, datasets) | cells, columns))
    notes = ["All classes; mean ± standard deviation over runs. " + MARK_NOTE]
    if len(tables) > 1:
        notes.append("The average is the mean of the data sets' means, for rows that have every data set.")
    return _section(group, tables, [], notes)


def _transfer(group: Group) -> Section:
    """Cross-dataset transfer or domain generalization."""
    source = group.datasets[0]
    targets = sort_datasets(set(group.accuracies["column"]) - {source})
    kind = "target" if group.protocol == "cross_dataset" else "shift"
    average = f"average of {len(targets)} {kind}{'s' * (len(targets) != 1)}"
    columns = [f"{source} (source)", *targets, average]
    means = means_over(group.accuracies.assign(average=average), "average", "column", targets)
    cells = _run_cells(group, [source]) | _spread_cells(group.accuracies) | _mean_cells(means)
    cells |= {(row, columns[0]): cell for (row, column), cell in list(cells.items()) if column == source}
    published, rows = read_published(group.protocol, group.backbone, group.shots, source), []
    for one in published:
        if any(name in one.values for name in targets):
            printed = {name: values[0] for name, values in one.values.items()}
            (mean,) = one.average_of(targets) or (None,)
            rows.append(_published_row(one, printed | {columns[0]: printed.get(source), average: mean}))
    table = _table(group, [source], ["runs", *columns], cells, columns, rows)
    notes = [
        f"Trained on all classes of {source} and tested on the other data sets without further training; the average "
        f"leaves the source out. {MARK_NOTE}"
    ]
    return _section(group, [replace(table, title=f"From {source}")], published, notes)


def dataset_sets(group: Group) -> list[list[str]]:
    """The data sets of each table: all together where there are several, then each alone."""
    each = [[dataset] for dataset in group.datasets]
    return [group.datasets, *each] if len(each) > 1 else each


def set_title(datasets: list[str]) -> str:
    return datasets[0] if len(datasets) == 1 else f"Average over {len(datasets)} data sets"


def _table(
    group: Group,
    datasets: list[str],
    columns: list[str],
    cells: Cells,
    marked: Collection[str],
    published: Sequence = (),
) -> Table:
    trainings = group.trainings_on(datasets)
    rows = []
    for name, paths in trainings.groupby("row", sort=False)["paths"]:
        runs = list(dict.fromkeys(path for group in paths for path in group))
        rows.append(Row(name, [cells.get((name, column), TableCell()) for column in columns], runs))
    for column in marked:
        _mark_best(rows, columns.index(column))
    for name, values in published:
        rows.append(Row(name, [number_cell(values.get(column)) for column in columns], published=True))
    return Table(set_title(datasets), columns, rows)


def _mark_best(rows: list[Row], column: int) -> None:
    """Mark the best and the second best value, as printed with two decimals: equal values share a mark."""
    values = pd.Series([row.cells[column].value for row in rows], dtype=float).round(2)
    if values.count() > 1:
        for row, rank in zip(rows, values.rank(method="dense", ascending=False), strict=True):
            row.cells[column] = replace(row.cells[column], mark=MARKS.get(rank, ""))


def _published_row(row: Published, values: dict[str, float | None]) -> tuple[str, dict[str, float | None]]:
    return f"{row.trainer} (published)", values


def _section(group: Group, tables: list[Table], published: list[Published], notes: list[str]) -> Section:
    """The section with notes on published numbers, logs and the runs themselves."""
    shown = {row.name for table in tables for row in table.rows if row.published}
    rows = [row for row in published if f"{row.trainer} (published)" in shown]
    if any(not one.train.exact for one in group.experiments):
        notes.append(LOG_NOTE)
    if rows:
        sources = "; ".join(dict.fromkeys(row.source for row in rows))
        remarks = "".join(f" {row.trainer}: {row.note}." for row in rows if row.note)
        notes.append(f"Published numbers in the same setting, not run here: {sources}.{remarks}")
    notes += remarks_on(group.experiments)
    images = "synthetic demo images" if group.synthetic else "photographs"
    shots = "" if group.protocol == "few_shot" else f", {shots_text(group.shots)}"
    return Section(group.protocol, f"{images}{shots}, student {group.backbone}", tables, notes, group.synthetic)
