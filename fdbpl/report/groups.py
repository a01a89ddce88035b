"""Data frames of the experiments that may stand in one table."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from fdbpl.report.experiments import Experiment, Results
from fdbpl.report.protocols import is_synthetic, sort_datasets
from fdbpl.report.runs import Run
from fdbpl.report.settings import describe, differing_keys
from fdbpl.runs.results import shots_text

LOG_MARK = "†"


@dataclass(frozen=True)
class Group:
    """Experiments of one protocol with one student backbone and one number of shots (few-shot: any number).

    Attributes:
        synthetic: whether the data sets are those of the embedded demo.
        experiments: in the order of `trainings`.
        trainings: one line for each experiment: row (its name in tables), planned (number of runs of the row on the
            data set that were planned or started) and `Run.as_row` of its training.
        accuracies: one line for each accuracy: row, dataset (of the training), shots, column, accuracy in percent,
            paths (of its run folder; none for H) and pair (equal in runs of different rows that belong together).
    """

    protocol: str
    backbone: str
    shots: int
    synthetic: bool
    experiments: list[Experiment]
    trainings: pd.DataFrame
    accuracies: pd.DataFrame

    @cached_property
    def runs(self) -> dict[str, Run]:
        """All runs by path."""
        return {run.path: run for one in self.experiments for run in (one.train, *one.tests.values())}

    @property
    def datasets(self) -> list[str]:
        return sort_datasets(self.trainings["dataset"])

    def trainings_on(self, datasets: Collection[str]) -> pd.DataFrame:
        return self.trainings[self.trainings["dataset"].isin(datasets)]

    def accuracies_on(self, datasets: Collection[str]) -> pd.DataFrame:
        return self.accuracies[self.accuracies["dataset"].isin(datasets)]


def make_groups(results: Results, protocol: str) -> list[Group]:
    """Groups of the experiments of a protocol."""
    found = defaultdict(list)
    for one in results.of(protocol):
        run = one.train
        shots = 0 if protocol == "few_shot" else run.shots
        source = run.dataset if protocol in ("cross_dataset", "domain_generalization") else ""
        found[is_synthetic(run.dataset), source, run.backbone, shots].append(one)
    return [_make_group(protocol, key, found[key], results) for key in sorted(found)]


def _make_group(protocol: str, key: tuple, experiments: list[Experiment], results: Results) -> Group:
    synthetic, _, backbone, shots = key
    names = _row_names(experiments)
    rows = list(dict.fromkeys(names))
    order = sorted(range(len(names)), key=lambda number: rows.index(names[number]))
    experiments, names = [experiments[number] for number in order], [names[number] for number in order]
    cells = defaultdict(list)
    for row, one in zip(names, experiments, strict=True):
        cells[row, one.train.dataset].append(one)
    planned = {cell: _count_planned(members, results) for cell, members in cells.items()}
    trainings, accuracies = [], []
    for row, one in zip(names, experiments, strict=True):
        dataset = one.train.dataset
        trainings.append({"row": row, "planned": planned[row, dataset], **one.train.as_row()})
        for column, value in (one.values | (one.train.joint if protocol.startswith("base2new") else {})).items():
            paths = (one.tests[column].path,) if column in one.tests else ()
            column = shots_text(one.train.shots) if protocol == "few_shot" else column
            accuracies.append((row, dataset, one.train.shots, column, value, paths, one.pair))
    columns = ["row", "dataset", "shots", "column", "accuracy", "paths", "pair"]
    frame = pd.DataFrame(accuracies, columns=columns)
    return Group(protocol, backbone, shots, synthetic, experiments, pd.DataFrame(trainings), frame)


def _row_names(experiments: list[Experiment]) -> list[str]:
    """Name of each experiment's row.

    A name is the label with the settings that the command overrides, then those in which experiments on the same data
    set with the same shots differ nevertheless; a mark follows where the accuracy comes from a log. Two experiments on
    the same data set with the same shots share a row if and only if their settings are equal.
    """

    def cell(one: Experiment) -> tuple:
        return (one.label, one.train.exact, one.train.dataset, one.train.shots)

    overrides = {}  # the fewest: a configuration file may set what another command overrides
    for one in sorted(experiments, key=lambda one: -len(one.overrides)):
        overrides[cell(one), one.digest] = one.overrides
    same_name = defaultdict(lambda: defaultdict(list))
    for one in experiments:
        name = (one.label, one.train.exact, describe(overrides[cell(one), one.digest]))
        same_name[name][cell(one)].append(one)
    names = {}
    for (label, exact, _), cells in same_name.items():
        keys = set()
        for members in cells.values():
            keys.update(differing_keys(one.settings for one in members))
            keys.update(differing_keys((one.facts for one in members), unknown="None"))
        for one in [one for members in cells.values() for one in members]:
            apart = {key: (one.settings | one.facts).get(key) for key in sorted(keys)}
            settings = describe(overrides[cell(one), one.digest] | apart)
            text = label + (f" ({settings})" if settings else "") + ("" if exact else f" {LOG_MARK}")
            names[id(one)] = " ".join(text.split())
    return [names[id(one)] for one in experiments]


def _count_planned(members: list[Experiment], results: Results) -> int:
    """Number of runs that were planned, or started where there is no plan, for experiments of one row and data set."""
    rows = {one.planned_row for one in members}
    planned = sum(cell.row in rows for cell in results.planned)
    if planned and members[0].train.exact:
        return planned

    def setting(run: Run) -> tuple:
        return (run.trainer, run.digest, run.dataset, run.shots, run.classes, run.backbone, run.exact)

    like = {setting(one.train) for one in members}
    known = {one.train.path for one in results.of(members[0].protocol)} | {one.path for one in results.problems}
    started = [run for run in results.runs if not run.tested and setting(run) in like and run.path not in known]
    return len(members) + len(started)
