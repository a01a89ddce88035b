"""Tables of results by protocol.

Conventions. A cell is the mean over runs (seeds) ± their sample standard deviation. H of a row is, as in published
tables, the harmonic mean of its mean base and mean new accuracy; the mean of the runs' H has a column of its own. The
average over data sets is the mean of the data sets' means. Cross-dataset averages leave out the source; those of domain
generalization are over the shifted sets.
"""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from fdbpl.report.cells import NOTHING, accuracy, costs, from_runs, marked, plain
from fdbpl.report.experiments import PROTOCOLS, Experiment, Results, in_order
from fdbpl.report.groups import LOG_MARK, Group, groups
from fdbpl.report.published import Published, read_published
from fdbpl.report.remarks import remarks_on
from fdbpl.report.table import Cell, Line, Section, Table
from fdbpl.runs.metrics import harmonic_mean

LOG_NOTE = f"{LOG_MARK} from a log of Dassl, which prints one decimal of each run."
MARK_NOTE = "Best of our runs bold, second best underlined (Markdown: italic)."
BASE2NEW = ("base", "new", "H")
COST = ("learnt", "ms/step", "s training", "s in all", "MiB")
OF_RUNS = "mean H of runs"
HEADER = ("", "runs", *BASE2NEW, OF_RUNS, *COST)


def sections(results: Results, protocol: str | None = None) -> list[Section]:
    """All tables, photographs before the demo world."""
    make = {"base2new": _base2new, "base2new_all": _base2new, "few_shot": _few_shot}
    wanted = [protocol] if protocol else list(PROTOCOLS)
    return [make.get(name, _transfer)(group) for name in wanted for group in groups(results, name)]


# base-to-new -------------------------------------------------------------------------------------------------------


def _base2new(group: Group) -> Section:
    published = read_published(group.protocol, group.backbone, group.shots) if not group.drawn else []
    tables = [_base2new_table(group, dataset, published) for dataset in group.datasets]
    if len(tables) > 1:
        tables.insert(0, _base2new_average(group, published))
    notes = [
        "Mean ± standard deviation over runs. H is the harmonic mean of the row's base and new, as in published "
        f"tables; {OF_RUNS} is the mean of each run's H, which is never above it. {MARK_NOTE}"
    ]
    if len(tables) > 1:
        notes.append(
            "Average over data sets: the mean of the data sets' means for base and new; only for rows that have every "
            "data set. Costs are means over all runs."
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
            scores = [accuracy(here, "base"), accuracy(here, "new"), *_averages(here, [dataset], ("H",))]
            cells = [group.runs(name, dataset), *scores, accuracy(here, "H"), *costs(here)]
            lines.append(Line(name, cells))
    lines = marked(lines, (1, 2, 3))
    for row in published:
        if dataset in row.values:
            lines.append(_published_line(row, [Cell(NOTHING), *map(plain, row.values[dataset])]))
    return Table(dataset, HEADER, [_padded(line, HEADER) for line in lines])


def _base2new_average(group: Group, published: list[Published]) -> Table:
    lines = []
    for name, members in group.rows.items():
        cells = [*_averages(members, group.datasets, BASE2NEW), Cell(NOTHING)]
        lines.append(Line(name, [group.runs(name), *cells, *costs(members)]))
    lines = marked(lines, (1, 2, 3))
    for row in published:
        printed = row.average_of(group.datasets)
        if printed:
            lines.append(_published_line(row, [Cell(NOTHING), *map(plain, printed)]))
    title = f"Average over {len(group.datasets)} data sets"
    return Table(title, HEADER, [_padded(line, HEADER) for line in lines])


def _averages(members: list[Experiment], datasets: list[str], columns: Sequence[str]) -> list[Cell]:
    form = ".2f" if all(one.train.exact for one in members) else ".1f"
    averages = base2new_averages(members, datasets) or {}
    return [from_runs(plain(averages.get(column), form), members, column) for column in columns]


def base2new_averages(members: list[Experiment], datasets: list[str]) -> dict[str, float] | None:
    """base and new over data sets, and the harmonic mean of the two as H; None where a data set is missing."""
    of = [[one for one in members if one.train.dataset == dataset] for dataset in datasets]
    if not all(of):
        return None
    means = {column: fmean(fmean(one.values[column] for one in part) for part in of) for column in ("base", "new")}
    return means | {"H": harmonic_mean(means["base"], means["new"])}


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
    notes += remarks_on(group.experiments)
    of_shots = "" if group.protocol == "few_shot" else f", {group.shots} shots"
    world = "the demo world" if group.drawn else "photographs"
    return Section(group.protocol, f"{world}{of_shots}, student {group.backbone}", tables, notes, group.drawn)
