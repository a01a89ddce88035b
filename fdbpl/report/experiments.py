"""Experiments: finished trainings with their tests, as the protocols see them."""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fdbpl.report.linking import link_tests
from fdbpl.report.method_names import sort_key
from fdbpl.report.missing import Missing, Planned, find_missing
from fdbpl.report.protocols import sort_datasets, transfer_protocol
from fdbpl.report.repetitions import repetitions
from fdbpl.report.runs import TEST_IMAGE_FACTS, Problem, Run
from fdbpl.report.settings import changed_for_test, differing_keys, digest
from fdbpl.runs.metrics import harmonic_mean


@dataclass(frozen=True)
class Experiment:
    """A finished training with its finished tests in one protocol.

    Attributes:
        tests: runs by column: base and new; or all; or one for each data set, the source first.
        cell: the planned cell, if any.
    """

    protocol: str
    train: Run
    tests: dict[str, Run]
    cell: Planned | None = None

    @property
    def label(self) -> str:
        """Name of the row in the plan; the trainer's where there is no plan."""
        return self.cell.label if self.cell else self.train.trainer

    @property
    def each(self) -> str:
        """Key whose values the plan averages over like seeds; empty = none."""
        return self.cell.each if self.cell else ""

    @cached_property
    def values(self) -> dict[str, float]:
        """Accuracies in percent by column, and H of base and new."""
        values = {name: run.accuracy for name, run in self.tests.items() if run.accuracy is not None}
        return values | ({"H": harmonic_mean(values["base"], values["new"])} if "new" in values else {})

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings that must be equal in a row: those of the training, and changes of a test on new classes."""
        changed = changed_for_test(self.train.settings, self.tests["new"].settings) if "new" in self.tests else {}
        return {key: value for key, value in (self.train.settings | changed).items() if key != self.each}

    @property
    def overrides(self) -> dict[str, Any]:
        """Settings that the command overrides, and those that a test on new classes changes."""
        return {
            key: value for key, value in self.settings.items() if key in self.train.overrides or key.startswith("test ")
        }

    @property
    def facts(self) -> dict[str, object]:
        """Inputs of the accuracies on the training's data set other than the settings; None = not recorded."""
        if self.each:  # the plan averages over e.g. class splits, whose test images differ
            return {}
        new = self.tests["new"].facts if "new" in self.tests else {}
        return self.train.facts | {f"new {key}": new[key] for key in TEST_IMAGE_FACTS if key in new}

    @cached_property
    def digest(self) -> str:
        """Digest of `settings`."""
        return digest(self.settings)

    @property
    def key(self) -> tuple:
        """Key of the planned cell."""
        run = self.train
        return (self.protocol, run.trainer, run.config_name, run.dataset, run.shots, run.seed)

    @property
    def pair(self) -> str:
        """Equal in experiments of different methods with the same seed and the same value of `each`."""
        run = self.train
        return f"{run.seed}, {run.settings.get(self.each)}" if run.seed >= 0 else run.path

    @property
    def planned_row(self) -> tuple:
        """Key of the planned cells of its row on its data set, as `Planned.row`."""
        run = self.train
        return self.cell.row if self.cell else (self.protocol, self.label, run.config_name, run.dataset, run.shots)

    @property
    def paths(self) -> list[str]:
        """Paths of the run folders, the training's first."""
        return list(dict.fromkeys(run.path for run in (self.train, *self.tests.values())))


@dataclass(frozen=True)
class Results:
    """Everything below a folder."""

    experiments: list[Experiment]
    missing: list[Missing]
    problems: list[Problem]
    runs: list[Run]
    planned: list[Planned]

    @property
    def trainings(self) -> list[Run]:
        """Finished trainings of this project."""
        return [run for run in self.runs if run.finished and run.exact and not run.tested]

    def of(self, protocol: str) -> list[Experiment]:
        return [experiment for experiment in self.experiments if experiment.protocol == protocol]

    def of_cells(self, keys: Collection[tuple]) -> "Results":
        """Experiments, missing results and plan of some of the planned cells."""
        experiments = [one for one in self.experiments if one.key in keys]
        missing = [one for one in self.missing if one.key in keys]
        planned = [cell for cell in self.planned if cell.key in keys]
        return Results(experiments, missing, [], [one.train for one in experiments], planned)


def build_results(runs: list[Run], problems: list[Problem], planned: list[Planned]) -> Results:
    """Combine runs into experiments, in the order of the plan, then with the variants of a student side by side."""
    trainings, tests, unusable = link_tests(runs)
    excluded = {problem.path for problem in (*problems, *unusable)}
    trainings = [train for train in trainings if train.path not in excluded]
    cells = {cell.key: cell for cell in planned}
    found = []
    for train in trainings:
        for one in _experiments(train, tests.get(train.path, [])):
            found.append(replace(one, cell=cells.get(one.key) if train.exact else None))
    experiments, repeated = _without_repetitions(found)
    order = {cell.key[:3]: number for number, cell in reversed(list(enumerate(planned)))}
    experiments.sort(key=lambda one: (order.get(one.key[:3], len(planned)), sort_key(one.train.trainer), one.key))
    values = {one.key: one.values for one in experiments if one.train.exact}
    missing = find_missing(planned, values, trainings, tests)
    return Results(experiments, missing, [*problems, *unusable, *repeated], runs, planned)


def _experiments(train: Run, tests: list[Run]) -> list[Experiment]:
    """Experiments of one training; none if it has not finished."""
    if not train.finished:
        return []
    tests = [run for run in tests if run.finished]
    same = {run.classes: run for run in tests if run.dataset == train.dataset}
    others = {run.dataset: run for run in tests if run.classes == "all" and run.dataset != train.dataset}
    halves = (same | {train.classes: train}) if train.classes == "base" else same
    found = []
    if train.classes == "all":
        found.append(Experiment("few_shot", train, {"all": train}))
    if train.classes in ("all", "base") and {"base", "new"} <= halves.keys():
        protocol = "base2new" if train.classes == "base" else "base2new_all"
        found.append(Experiment(protocol, train, {half: halves[half] for half in ("base", "new")}))
    for protocol in ("cross_dataset", "domain_generalization") if train.classes == "all" else ():
        names = [name for name in others if transfer_protocol(train.dataset, name) == protocol]
        if names:
            targets = {name: others[name] for name in sort_datasets(names)}
            found.append(Experiment(protocol, train, {train.dataset: train, **targets}))
    return found


def _without_repetitions(experiments: list[Experiment]) -> tuple[list[Experiment], list[Problem]]:
    """Keep one experiment of those with equal settings and seed; none if their results differ."""
    groups = defaultdict(list)
    for one in experiments:
        run = one.train
        settings = digest(one.settings | {one.each: run.settings.get(one.each)})
        seed = str(run.seed) if run.seed >= 0 else run.path  # runs without a seed are never repetitions
        groups[one.protocol, run.trainer, run.dataset, run.shots, run.exact, run.backbone, seed, settings].append(one)
    kept, problems = [], []
    for group in groups.values():
        if differing_keys((one.facts for one in group), unknown="None"):  # different inputs: in different rows
            kept += group
            continue
        repeated = repetitions([one.train for one in group], [one.values for one in group])
        excluded = {problem.path for problem in repeated}
        kept += [one for one in group if one.train.path not in excluded]
        problems += repeated
    return kept, problems
