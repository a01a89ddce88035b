"""Tables of results: what is in which cell, before any format.

Conventions. A cell is the mean over runs (seeds) ± their sample standard deviation. H of a data set is the mean of the
runs' H, each from full-precision accuracies. The average over data sets is, as in published tables, the mean of the
data sets' base and new accuracies, and the harmonic mean of these two means. Cross-dataset averages leave out the
source; those of domain generalization are over the shifted sets.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, stdev

from fdbpl.report.experiments import PROTOCOLS, Experiment, Results, in_order
from fdbpl.report.published import Published, read_published
from fdbpl.report.runs import Run
from fdbpl.runs.metrics import harmonic_mean

NOTHING = "-"
LOG_MARK = "†"
LOG_NOTE = f"{LOG_MARK} from a log of Dassl, which prints one decimal of each run."
MARK_NOTE = "Best of our runs bold, second best underlined (Markdown: italic)."
BASE2NEW = ("base", "new", "H")
COST = ("learnt", "ms/step", "s training", "s in all", "MiB")
HEADER = ("", "runs", *BASE2NEW, *COST)


@dataclass(frozen=True)
class Cell:
    """Text of a table, the number behind it and the runs behind that.

    Attributes:
        mark: best, second or nothing.
        runs: paths of what the number was computed from, a tuple for each value: one run, or of H base's and new's.
    """

    text: str
    value: float | None = None
    mark: str = ""
    runs: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Line:
    """One row of a table."""

    name: str
    cells: list[Cell]
    published: bool = False


@dataclass(frozen=True)
class Table:
    """One table; the first column, of the lines' names, has no header."""

    title: str
    header: tuple[str, ...]
    lines: list[Line]


@dataclass(frozen=True)
class Section:
    """The tables of a protocol in one setting.

    Attributes:
        setting: what all of its runs share, in words. notes: how to read the tables.
        drawn: of the demo world.
    """

    protocol: str
    setting: str
    tables: list[Table]
    notes: list[str] = field(default_factory=list)
    drawn: bool = False

    @property
    def title(self) -> str:
        return f"{PROTOCOLS[self.protocol]}: {self.setting}"


@dataclass(frozen=True)
class Group:
    """Experiments of a protocol that may stand in one table, by row."""

    protocol: str
    backbone: str
    shots: int
    drawn: bool
    rows: dict[str, list[Experiment]]
    wanted: dict[tuple[str, str], int]  # runs that were planned or begun, by row and data set

    @property
    def experiments(self) -> list[Experiment]:
        return [one for experiments in self.rows.values() for one in experiments]

    @property
    def datasets(self) -> list[str]:
        return in_order(one.train.dataset for one in self.experiments)

    def runs(self, name: str, dataset: str | None = None) -> Cell:
        """`3`, or `2 of 3`: finished of planned."""
        here = [one for one in self.rows[name] if dataset in (None, one.train.dataset)]
        wanted = sum(number for (row, where), number in self.wanted.items() if row == name and dataset in (None, where))
        count = len(here)
        text = str(count) if count >= wanted else f"{count} of {wanted}"
        return Cell(text, count, runs=tuple((one.train.path,) for one in here))


def is_drawn(dataset: str) -> bool:
    """Of the demo world, which says nothing of photographs."""
    return dataset == "demo" or dataset.startswith("demo_")


def sections(results: Results, protocol: str | None = None) -> list[Section]:
    """All tables, photographs before the demo world."""
    make = {"base2new": _base2new, "few_shot": _few_shot}
    wanted = [protocol] if protocol else list(PROTOCOLS)
    return [make.get(name, _transfer)(group) for name in wanted for group in groups(results, name)]


# rows --------------------------------------------------------------------------------------------------------------


def groups(results: Results, protocol: str) -> list[Group]:
    """What may stand in one table: of one world, one student backbone, and one number of shots (few-shot: all)."""
    found: dict[tuple, list[Experiment]] = {}
    for one in results.of(protocol):
        run = one.train
        shots = 0 if protocol == "few_shot" else run.shots
        source = run.dataset if protocol in ("cross_dataset", "domain_generalization") else ""
        found.setdefault((is_drawn(run.dataset), source, run.backbone, shots), []).append(one)
    return [
        _group(protocol, key, experiments, results)
        for key, experiments in sorted(found.items(), key=lambda item: item[0])
    ]


def _group(protocol: str, key: tuple, experiments: list[Experiment], results: Results) -> Group:
    drawn, _, backbone, shots = key
    name = _names(experiments)
    rows: dict[str, list[Experiment]] = {}
    for one in experiments:
        rows.setdefault(name(one), []).append(one)
    wanted: dict[tuple[str, str], int] = {}
    for row, members in rows.items():
        for dataset in in_order(one.train.dataset for one in members):
            here = [one for one in members if one.train.dataset == dataset]
            wanted[row, dataset] = _wanted(protocol, here, results)
    return Group(protocol, backbone, shots, drawn, rows, wanted)


def _names(experiments: list[Experiment]) -> Callable[[Experiment], str]:
    """Names of rows: the label; with its configuration where a data set has several; marked where of a log."""
    configs: dict[tuple, set[str]] = {}
    for one in experiments:
        configs.setdefault((one.label, one.train.exact, one.train.dataset, one.train.shots), set()).add(one.config)
    several = {(label, exact) for (label, exact, *_), names in configs.items() if len(names) > 1}

    def name(one: Experiment) -> str:
        config = f" ({one.config})" if (one.label, one.train.exact) in several else ""
        return one_line(one.label + config) + ("" if one.train.exact else f" {LOG_MARK}")

    return name


def one_line(text: str) -> str:
    return " ".join(text.split())


def _wanted(protocol: str, members: list[Experiment], results: Results) -> int:
    """Runs of a row and data set that were planned, else begun."""
    cells = {(one.label, one.config, one.train.dataset, one.train.shots) for one in members}
    planned = [
        cell for cell in results.planned
        if cell.protocol == protocol and (cell.label, cell.row_config, cell.dataset, cell.shots) in cells
    ]  # fmt: skip
    if planned and members[0].train.exact:
        return len(planned)
    like = {_setting(one.train) for one in members}
    return sum(not run.tested and _setting(run) in like for run in results.runs)


def _setting(run: Run) -> tuple:
    """What the runs of a cell share."""
    return (run.trainer, run.config, run.dataset, run.shots, run.classes, run.exact)


# cells -------------------------------------------------------------------------------------------------------------


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
        plain(mean(run.seconds("train") if run.number("steps") > 0 else 0.0 for run in runs if run.metrics), ".1f"),
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


# base-to-new -------------------------------------------------------------------------------------------------------


def _base2new(group: Group) -> Section:
    published = read_published("base2new", group.backbone, group.shots) if not group.drawn else []
    tables = [_base2new_table(group, dataset, published) for dataset in group.datasets]
    if len(tables) > 1:
        tables.insert(0, _base2new_average(group, published))
    notes = ["Mean ± standard deviation over runs; H of each run from full precision, then averaged. " + MARK_NOTE]
    if len(tables) > 1:
        notes.append(
            "Average over data sets as in published tables: the mean of the data sets' means for base and new, and the "
            "harmonic mean of these two for H; only for rows that have every data set. Costs are means over all runs."
        )
    notes.append(
        "Costs are of the training run: s in all is its training and test without start-up; MiB the largest. Test "
        "images go through a frozen image tower once: the first run to test on them pays, the others look them up."
    )
    return _section(group, tables, published, notes)


def _base2new_table(group: Group, dataset: str, published: list[Published]) -> Table:
    lines = []
    for name, members in group.rows.items():
        here = [one for one in members if one.train.dataset == dataset]
        if here:
            cells = [group.runs(name, dataset), *(accuracy(here, column) for column in BASE2NEW), *costs(here)]
            lines.append(Line(name, cells))
    lines = marked(lines, (1, 2, 3))
    for row in published:
        if dataset in row.values:
            lines.append(_published_line(row, [Cell(NOTHING), *map(plain, row.values[dataset])]))
    return Table(dataset, HEADER, [_padded(line, HEADER) for line in lines])


def _base2new_average(group: Group, published: list[Published]) -> Table:
    lines = []
    for name, members in group.rows.items():
        form = ".2f" if all(one.train.exact for one in members) else ".1f"
        averages = base2new_averages(members, group.datasets) or {}
        cells = [from_runs(plain(averages.get(column), form), members, column) for column in BASE2NEW]
        lines.append(Line(name, [group.runs(name), *cells, *costs(members)]))
    lines = marked(lines, (1, 2, 3))
    for row in published:
        printed = row.average_of(group.datasets)
        if printed:
            lines.append(_published_line(row, [Cell(NOTHING), *map(plain, printed)]))
    title = f"Average over {len(group.datasets)} data sets"
    return Table(title, HEADER, [_padded(line, HEADER) for line in lines])


def base2new_averages(members: list[Experiment], datasets: list[str]) -> dict[str, float] | None:
    """base, new and H over data sets, H as published tables have it; of one data set the mean of the runs' H. None
    where a data set is missing."""
    of = [[one for one in members if one.train.dataset == dataset] for dataset in datasets]
    if not all(of):
        return None
    means = {column: fmean(fmean(one.values[column] for one in part) for part in of) for column in BASE2NEW}
    return means if len(datasets) == 1 else means | {"H": harmonic_mean(means["base"], means["new"])}


def _mean_of_means(members: list[Experiment], datasets: list[str], column: str) -> Cell:
    """Mean over data sets of their means over runs, where every data set is there."""
    of = [[one for one in members if one.train.dataset == dataset and column in one.values] for dataset in datasets]
    if not all(of):
        return Cell(NOTHING)
    cell = _averaged([fmean(one.values[column] for one in part) for part in of], members)
    return from_runs(cell, members, column)


def _averaged(means: list[float], members: list[Experiment]) -> Cell:
    return plain(fmean(means), ".2f" if all(one.train.exact for one in members) else ".1f")


def _published_line(row: Published, cells: list[Cell]) -> Line:
    return Line(f"{row.trainer} (published)", cells, published=True)


def _padded(line: Line, header: Sequence[str]) -> Line:
    return replace(line, cells=line.cells + [Cell("")] * (len(header) - 1 - len(line.cells)))


# few-shot ----------------------------------------------------------------------------------------------------------


def _few_shot(group: Group) -> Section:
    tables = [_few_shot_table(group, [dataset], dataset) for dataset in group.datasets]
    if len(tables) > 1:
        tables.insert(0, _few_shot_table(group, group.datasets, f"Average over {len(tables)} data sets"))
    notes = ["All classes; mean ± standard deviation over runs. " + MARK_NOTE]
    if len(tables) > 1:
        notes.append("The average is the mean of the data sets' means, for rows that have every data set.")
    return _section(group, tables, [], notes)


def _few_shot_table(group: Group, datasets: list[str], title: str) -> Table:
    shots = sorted({one.train.shots for one in group.experiments if one.train.dataset in datasets})
    lines = []
    for name, members in group.rows.items():
        here = [one for one in members if one.train.dataset in datasets]
        if not here:
            continue
        runs = group.runs(name, datasets[0] if len(datasets) == 1 else None)
        of = [[one for one in here if one.train.shots == count] for count in shots]
        one_set = len(datasets) == 1
        cells = [accuracy(part, "all") if one_set else _mean_of_means(part, datasets, "all") for part in of]
        lines.append(Line(name, [runs, *cells]))
    header = ("", "runs", *(f"{count} shot{'s' * (count > 1)}" if count > 0 else "all images" for count in shots))
    return Table(title, header, marked(lines, range(1, 1 + len(shots))))


# cross-dataset and domain generalization ---------------------------------------------------------------------------


def _transfer(group: Group) -> Section:
    source = group.datasets[0]
    targets = in_order(name for one in group.experiments for name in one.targets)
    published = read_published(group.protocol, group.backbone, group.shots, source)
    lines = []
    for name, members in group.rows.items():
        cells = [accuracy(members, column) for column in (source, *targets)]
        complete = all(cell.value is not None for cell in cells[1:])
        average = _averaged([cell.value for cell in cells[1:]], members) if complete else Cell(NOTHING)
        average = from_runs(average, members, *targets)
        lines.append(Line(name, [group.runs(name), *cells, average]))
    lines = marked(lines, range(1, 3 + len(targets)))
    for row in published:
        values = [row.values[name][0] if name in row.values else None for name in (source, *targets)]
        printed = row.average_of(targets)
        if any(value is not None for value in values[1:]):
            cells = [Cell(NOTHING), *map(plain, values), plain(printed[0] if printed else None)]
            lines.append(_published_line(row, cells))
    kind = "target" if group.protocol == "cross_dataset" else "shift"
    kind += "s" * (len(targets) != 1)
    header = ("", "runs", f"{source} (source)", *targets, f"average of {len(targets)} {kind}")
    first = f"Trained on all classes of {source}, tested on the others as they are; the average leaves the source out."
    notes = [f"{first} {MARK_NOTE}"]
    return _section(group, [Table(f"From {source}", header, lines)], published, notes)


def _section(group: Group, tables: list[Table], published: list[Published], notes: list[str]) -> Section:
    """With notes on what stands in the tables besides our own exact numbers."""
    shown = {line.name for table in tables for line in table.lines if line.published}
    rows = [row for row in published if _published_line(row, []).name in shown]
    if any(not one.train.exact for one in group.experiments):
        notes.append(LOG_NOTE)
    if rows:
        sources = "; ".join(dict.fromkeys(row.source for row in rows))
        remarks = "".join(f" {row.trainer}: {row.note}." for row in rows if row.note)
        notes.append(f"Published, in the same setting, not run here: {sources}.{remarks}")
    of_shots = "" if group.protocol == "few_shot" else f", {group.shots} shots"
    world = "the demo world" if group.drawn else "photographs"
    return Section(group.protocol, f"{world}{of_shots}, student {group.backbone}", tables, notes, group.drawn)
