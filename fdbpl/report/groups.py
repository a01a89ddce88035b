"""Data frames of the experiments that may stand in one table."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fdbpl.report.experiments import Experiment, Results
from fdbpl.report.protocols import sort_datasets
from fdbpl.report.runs import Run
from fdbpl.report.settings import conflicting_keys, describe, differing_keys
from fdbpl.runs.results import shots_text

LOG_MARK = "†"


@dataclass(frozen=True)
class Group:
    """Experiments of one protocol with one student backbone and one number of shots (few-shot: any number).

    Attributes:
        synthetic: whether the data sets are those of the embedded demo.
        experiments: in the order of `trainings`.
        trainings: one line for each experiment: row (its name in tables), paths (of its run folders) and
            `Run.as_row` of its training.
        accuracies: one line for each accuracy: row, dataset (of the training), shots, column and accuracy in percent.
        expected: number of runs that were planned or started, by (row, dataset).
    """

    protocol: str
    backbone: str
    shots: int
    synthetic: bool
    experiments: list[Experiment]
    trainings: pd.DataFrame
    accuracies: pd.DataFrame
    expected: dict[tuple[str, str], int]

    @property
    def datasets(self) -> list[str]:
        return sort_datasets(self.trainings["dataset"])

    def trainings_on(self, datasets: Collection[str]) -> pd.DataFrame:
        return self.trainings[self.trainings["dataset"].isin(datasets)]

    def accuracies_on(self, datasets: Collection[str]) -> pd.DataFrame:
        return self.accuracies[self.accuracies["dataset"].isin(datasets)]

    @property
    def trainers(self) -> dict[str, str]:
        """The trainer of each row, in the order of the rows."""
        return self.trainings.drop_duplicates("row").set_index("row")["trainer"].to_dict()


def is_synthetic(dataset: str) -> bool:
    """Whether a data set is one of the embedded demo."""
    return dataset == "demo" or dataset.startswith("demo_")


def make_groups(results: Results, protocol: str) -> list[Group]:
    """Groups of the experiments of a protocol."""
    found: dict[tuple, list[Experiment]] = {}
    for one in results.of(protocol):
        run = one.train
        shots = 0 if protocol == "few_shot" else run.shots
        source = run.dataset if protocol in ("cross_dataset", "domain_generalization") else ""
        found.setdefault((is_synthetic(run.dataset), source, run.backbone, shots), []).append(one)
    return [_make_group(protocol, key, found[key], results) for key in sorted(found)]


def _make_group(protocol: str, key: tuple, experiments: list[Experiment], results: Results) -> Group:
    synthetic, _, backbone, shots = key
    name = _row_names(experiments)
    rows: dict[str, list[Experiment]] = {}
    for one in experiments:
        rows.setdefault(name(one), []).append(one)
    trainings, accuracies, expected = [], [], {}
    for row, members in rows.items():
        for dataset in sort_datasets(one.train.dataset for one in members):
            expected[row, dataset] = _expected(
                protocol, [one for one in members if one.train.dataset == dataset], results
            )
        for one in members:
            trainings.append({"row": row, "paths": one.paths, **one.train.as_row()})
            for column, value in one.values.items():
                column = shots_text(one.train.shots) if protocol == "few_shot" else column
                accuracies.append((row, one.train.dataset, one.train.shots, column, value))
    ordered = [one for members in rows.values() for one in members]
    frame = pd.DataFrame(accuracies, columns=["row", "dataset", "shots", "column", "accuracy"])
    return Group(protocol, backbone, shots, synthetic, ordered, pd.DataFrame(trainings), frame, expected)


# names of rows -----------------------------------------------------------------------------------------------------


def _row_names(experiments: list[Experiment]) -> Callable[[Experiment], str]:
    """Return a function that names an experiment's row.

    A name is the label with the settings that the command overrides, then those in which experiments on the same data
    set with the same shots differ nevertheless; a mark follows where the accuracy comes from a log. Two experiments on
    the same data set with the same shots share a row if and only if their settings are equal.
    """
    shortest: dict[tuple, dict[str, Any]] = {}  # a configuration file may set what another command overrides
    for one in sorted(experiments, key=lambda one: -len(one.overrides)):
        shortest[_cell(one), one.digest] = one.overrides
    rows: dict[tuple, dict[tuple, list[Experiment]]] = {}
    for one in experiments:
        row = (one.label, one.train.exact, describe(shortest[_cell(one), one.digest]))
        rows.setdefault(row, {}).setdefault(_cell(one), []).append(one)
    apart: dict[tuple, set[str]] = {row: set() for row in rows}
    for row, cells in rows.items():
        for members in cells.values():
            apart[row].update(differing_keys(one.settings for one in members))
            apart[row].update(conflicting_keys(one.facts for one in members))

    def name(one: Experiment) -> str:
        overrides = shortest[_cell(one), one.digest]
        keys = sorted(apart[one.label, one.train.exact, describe(overrides)])
        settings = describe(overrides | {key: (one.settings | one.facts).get(key) for key in keys})
        text = one.label + (f" ({settings})" if settings else "") + ("" if one.train.exact else f" {LOG_MARK}")
        return " ".join(text.split())

    return name


def _cell(one: Experiment) -> tuple:
    return (one.label, one.train.exact, one.train.dataset, one.train.shots)


# numbers of runs ---------------------------------------------------------------------------------------------------


def _expected(protocol: str, members: list[Experiment], results: Results) -> int:
    """Number of runs that were planned, or started where there is no plan, for experiments of one row and data set."""
    cells = {(one.label, one.config, one.train.dataset, one.train.shots) for one in members}
    planned = [
        cell for cell in results.planned
        if cell.protocol == protocol and (cell.label, cell.row_config, cell.dataset, cell.shots) in cells
    ]  # fmt: skip
    if planned and members[0].train.exact:
        return len(planned)
    like = {_setting(one.train) for one in members}
    known = {one.train.path for one in results.of(protocol)} | {problem.path for problem in results.problems}
    started = [run for run in results.runs if not run.tested and _setting(run) in like and run.path not in known]
    return len(members) + len(started)


def _setting(run: Run) -> tuple:
    return (run.trainer, run.digest, run.dataset, run.shots, run.classes, run.backbone, run.exact)
