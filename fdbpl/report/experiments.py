"""Experiments: finished trainings with their tests, as the protocols see them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from fdbpl.report.linking import conflicting_repetitions, link_tests
from fdbpl.report.method_names import sort_key
from fdbpl.report.missing import Missing, find_missing
from fdbpl.report.plan import Planned
from fdbpl.report.protocols import sort_datasets, transfer_protocol
from fdbpl.report.runs import TEST_IMAGE_FACTS, Problem, Run
from fdbpl.report.settings import changed_for_test, conflicting_keys, digest
from fdbpl.runs.metrics import harmonic_mean


@dataclass(frozen=True)
class Experiment:
    """A finished training with its finished tests in one protocol.

    Attributes:
        label: name of the row in the plan; the trainer's where there is no plan.
        config: name of the configuration without what the plan averages over.
        values: accuracies in percent: base, new and H; or all; or one for each data set, the source first.
        tests: runs by the names in `values`; the training may be one of them.
        each: key whose values the plan averages over like seeds; empty = none.
    """

    protocol: str
    label: str
    config: str
    values: dict[str, float]
    train: Run
    tests: dict[str, Run]
    each: str = ""

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
        """Inputs of the accuracies on the training's data set besides the settings; None = not recorded."""
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
        return (self.protocol, run.trainer, run.config, run.dataset, run.shots, run.seed)

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
    problems = [*problems, *unusable]
    excluded = {problem.path for problem in problems}
    trainings = [train for train in trainings if train.path not in excluded]
    cells = {cell.key: cell for cell in planned}
    experiments = []
    for train in trainings:
        for one in _experiments(train, tests.get(train.path, [])):
            cell = cells.get(one.key) if train.exact else None
            named = replace(one, label=cell.label, config=cell.row_config, each=cell.each) if cell else one
            experiments.append(named)
    experiments, repeated = _without_repetitions(experiments)
    problems += repeated
    repeated_paths = {problem.path for problem in repeated}
    order = {cell.key[:3]: number for number, cell in reversed(list(enumerate(planned)))}
    experiments.sort(key=lambda one: (order.get(one.key[:3], len(planned)), sort_key(one.train.trainer), one.key))
    accuracies = {one.key: one.values for one in experiments if one.train.exact}
    complete = {one.train.path for one in experiments} | repeated_paths
    missing = find_missing(planned, accuracies, complete, trainings, tests)
    return Results(experiments, missing, problems, runs, planned)


def _experiments(train: Run, tests: Iterable[Run]) -> list[Experiment]:
    """Experiments of one training; none if it has not finished."""
    if not train.finished:
        return []
    tests = [test for test in tests if test.finished]
    same = {test.classes: test for test in tests if test.dataset == train.dataset}
    if train.classes == "base":
        same["base"] = train
    halves: dict[str, Run] = {half: same[half] for half in ("base", "new") if half in same}
    found = []
    if train.classes == "all":
        found.append(_experiment("few_shot", train, {"all": train}))
    if train.classes in ("all", "base") and len(halves) == 2:
        one = _experiment("base2new" if train.classes == "base" else "base2new_all", train, halves)
        found.append(replace(one, values=one.values | {"H": harmonic_mean(one.values["base"], one.values["new"])}))
    others = {test.dataset: test for test in tests if test.classes == "all" and test.dataset != train.dataset}
    for protocol in ("cross_dataset", "domain_generalization") if train.classes == "all" else ():
        names = [name for name in others if transfer_protocol(train.dataset, name) == protocol]
        if names:
            targets = {name: others[name] for name in sort_datasets(names)}
            found.append(_experiment(protocol, train, {train.dataset: train, **targets}))
    return found


def _experiment(protocol: str, train: Run, tests: dict[str, Run]) -> Experiment:
    values = {name: run.accuracy for name, run in tests.items() if run.accuracy is not None}
    return Experiment(protocol, train.trainer, train.config, values, train, tests)


def _without_repetitions(experiments: list[Experiment]) -> tuple[list[Experiment], list[Problem]]:
    """Keep one experiment of those with equal settings and seed; none if their results differ."""
    groups: dict[tuple, list[Experiment]] = {}
    for one in experiments:
        settings = digest(one.settings | {one.each: one.train.settings.get(one.each)})
        run = one.train
        cell = (one.protocol, run.trainer, run.dataset, run.shots, run.exact, run.backbone)
        seed = str(run.seed) if run.seed >= 0 else run.path  # runs without a seed are never repetitions
        groups.setdefault((*cell, seed, settings), []).append(one)
    kept, problems = [], []
    for group in groups.values():
        if conflicting_keys(one.facts for one in group):  # different inputs: they are in different rows
            kept += group
        elif all(one.values == group[0].values for one in group):
            kept.append(group[0])
            problems += [
                Problem(one.train.path, f"repeats {group[0].train.path}, which is in the tables") for one in group[1:]
            ]
        else:
            problems += conflicting_repetitions([one.train for one in group])
    return kept, problems
