"""Runs put together: a training and its tests are one experiment; what a plan names and no run gives is missing."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fdbpl.report.method_names import sort_key
from fdbpl.report.plan import Planned
from fdbpl.report.runs import TEST_IMAGE_FACTS, Problem, Run
from fdbpl.report.settings import changed_for_test, conflicting_keys, describe, differing_keys, digest
from fdbpl.runs.metrics import harmonic_mean
from fdbpl.runs.results import counted
from fdbpl.runs.targets import default_targets
from fdbpl.runs.validity import mismatch, tested_on_validation

PROTOCOL_TITLES = {
    "base2new": "Base-to-new",
    "base2new_all": "Base-to-new, trained on all classes",
    "few_shot": "Few-shot",
    "cross_dataset": "Cross-dataset",
    "domain_generalization": "Domain generalization",
}
OTHERS = default_targets("cross_dataset")
SHIFTS = default_targets("domain_generalization")  # the same classes in other pictures; any other test is cross-dataset
DATASETS = (  # in the order of the field's tables
    *("imagenet", *OTHERS["imagenet"], *SHIFTS["imagenet"]), *("demo", *SHIFTS["demo"], *OTHERS["demo"]), "folder",
)  # fmt: skip


def sort_datasets(datasets: Iterable[str]) -> list[str]:
    return sorted(set(datasets), key=lambda name: (DATASETS.index(name) if name in DATASETS else 99, name))


@dataclass(frozen=True)
class Experiment:
    """A finished training with its finished tests, as one protocol sees them.

    Attributes:
        label: the plan's name of the row; the trainer's where no plan has one.
        config: name of the configuration, less what the plan averages over.
        values: accuracies in percent: base, new and H; or all; or one a data set, the source first.
        train: the training. tests: by the names in `values`.
        each: the setting that the plan averages over, as over seeds; "" = none.
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
        """What has to be equal in the runs of a row: the training's settings, and how a test on new classes differs."""
        changed = changed_for_test(self.train.settings, self.tests["new"].settings) if "new" in self.tests else {}
        settings = self.train.settings | changed
        return {key: value for key, value in settings.items() if key != self.each}

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that differ from the configuration files, and those that differ in a test on new classes."""
        typed = self.train.overrides
        return {key: value for key, value in self.settings.items() if key in typed or key.startswith("test ")}

    @property
    def facts(self) -> dict[str, object]:
        """What the accuracies on the training's data set depend on besides the settings; None where not recorded."""
        if self.each:  # the plan averages over e.g. class splits, whose test images differ
            return {}
        new = self.tests["new"].facts if "new" in self.tests else {}
        return self.train.facts | {f"new {key}": new[key] for key in TEST_IMAGE_FACTS if key in new}

    @cached_property
    def digest(self) -> str:
        """Of `settings`."""
        return digest(self.settings)

    @property
    def key(self) -> tuple:
        run = self.train
        return (self.protocol, run.trainer, run.config, run.dataset, run.shots, run.seed)

    @property
    def targets(self) -> list[str]:
        return [name for name in self.values if name != self.train.dataset]

    @property
    def paths(self) -> list[str]:
        """Paths of its run folders, the training's first."""
        return list(dict.fromkeys(run.path for run in (self.train, *self.tests.values())))


@dataclass(frozen=True)
class Missing:
    """Something that a table lacks: state is planned, failed or unfinished; key is the planned cell's."""

    protocol: str
    what: str
    state: str
    reason: str
    key: tuple | None = None


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
        """What there is of some of the planned cells, and what is missing of them."""
        experiments = [one for one in self.experiments if one.key in keys]
        missing = [one for one in self.missing if one.key in keys]
        planned = [cell for cell in self.planned if cell.key in keys]
        return Results(experiments, missing, [], [one.train for one in experiments], planned)


def build_results(runs: list[Run], problems: list[Problem], planned: list[Planned]) -> Results:
    """Experiments in the order of the plan, then with twins beside each other."""
    trainings, tests, problems = _linked(runs, list(problems))
    excluded = {problem.path for problem in problems}
    cells = {cell.key: cell for cell in planned}
    experiments = []
    for train in trainings:
        if train.finished and train.path not in excluded:
            for one in _experiments(train, tests.get(train.path, [])):
                cell = cells.get(one.key) if train.exact else None
                named = replace(one, label=cell.label, config=cell.row_config, each=cell.each) if cell else one
                experiments.append(named)
    experiments, problems = _without_doubles(experiments, problems)
    order = {cell.key[:3]: number for number, cell in reversed(list(enumerate(planned)))}
    experiments.sort(key=lambda one: (order.get(one.key[:3], len(planned)), sort_key(one.train.trainer), one.key))
    trainings = [train for train in trainings if train.path not in excluded]
    return Results(experiments, _missing(experiments, trainings, tests, planned), problems, runs, planned)


def _linked(runs: list[Run], problems: list[Problem]) -> tuple[list[Run], dict[str, list[Run]], list[Problem]]:
    """Trainings, and by the path of each its tests, one for each data set and half of the classes."""
    trainings, copies = _without_copies([run for run in runs if not run.tested or _untrained(run)])
    problems += copies
    problems += [
        Problem(run.path, reason) for run in trainings if run.finished and (reason := tested_on_validation(run.outcome))
    ]
    by_key, tests = defaultdict(list), defaultdict(list)
    for train in trainings:
        by_key[train.exact, train.key].append(train)
    for run in runs:
        if not run.tested or _untrained(run):
            continue
        found = by_key.get((run.exact, run.tested), [])
        train = _the_tested(run, found) if run.exact else [*found, _its_training(run, trainings)][0]
        if train is None:
            reason = "tests a run that is not below this folder; put that one here as well"
            if found:
                reason = f"tests one of {len(found)} runs without a seed, which their records do not tell apart"
            problems.append(Problem(run.path, reason))
        elif run.epoch not in (None, train.epochs):
            problems.append(
                Problem(run.path, f"tests epoch {run.epoch} of {train.epochs}; the tables are of the final weights")
            )
        elif reason := _no_result(train, run):
            problems.append(Problem(run.path, reason))
        else:
            tests[train.path].append(run)
    for path, found in tests.items():
        tests[path], doubles = _without_rivals(found)
        problems += doubles
    return trainings, tests, problems


def _no_result(train: Run, test: Run) -> str:
    """Why a test is in no table; "" where it may be."""
    reason = mismatch(train.outcome, test.outcome)
    return f"{reason}; no table has it" if reason else tested_on_validation(test.outcome)


def _the_tested(test: Run, candidates: list[Run]) -> Run | None:
    """The training that a test is of. Without a seed several have one fingerprint; the command names the folder."""
    if len(candidates) > 1:
        named = Path(test.model_dir).parts
        candidates = [run for run in candidates if named and run.folder.resolve().parts[-len(named) :] == named]
    return candidates[0] if len(candidates) == 1 else None


def _without_copies(runs: list[Run]) -> tuple[list[Run], list[Problem]]:
    """Different trainings. Of copies of one run, or repetitions with one result, the first counts; of repetitions with
    different results none does. Runs without a seed are different runs unless one is a copy of the other."""
    kept, problems = [], []
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        started = run.record.get("started", run.path) if run.seed < 0 else ""
        groups.setdefault((run.exact, run.key, started) if run.key else (run.path,), []).append(run)
    for group in groups.values():
        group.sort(key=lambda run: not run.finished)
        first, *others = group
        kept.append(first)  # its tests are of it, whether it counts or not
        if len({run.accuracy for run in group if run.finished}) > 1:
            problems += [Problem(run.path, _rivals(run, group)) for run in group]
        else:
            reason = f"the same run as {first.path}, which is the one that counts"
            problems += [Problem(run.path, reason) for run in others]
    return kept, problems


def _without_rivals(tests: list[Run]) -> tuple[list[Run], list[Problem]]:
    """One finished test of a training for each data set and half; none where several have different results."""
    kept, problems = [test for test in tests if not test.finished], []
    groups: dict[tuple, list[Run]] = {}
    for test in tests:
        if test.finished:
            groups.setdefault((test.dataset, test.classes), []).append(test)
    for group in groups.values():
        if len({test.accuracy for test in group}) > 1:
            problems += [Problem(test.path, _rivals(test, group)) for test in group]
        else:
            kept.append(group[0])
            reason = f"has the same result as {group[0].path}, which is the one that counts"
            problems += [Problem(test.path, reason) for test in group[1:]]
    return kept, problems


def _rivals(run: Run, group: list[Run]) -> str:
    """Why none of several runs counts: their results, and what tells them apart."""
    keys = differing_keys(one.settings for one in group)

    def told(one: Run) -> str:
        result = f"{one.accuracy:.2f}" if one.finished else one.state
        apart = describe({key: one.settings.get(key) for key in keys})
        return f"{result} with {apart}" if apart else result

    others = ", ".join(f"{one.path} ({told(one)})" for one in group if one is not run)
    return f"{told(run)}: another result than that of {others}, so none of them counts; keep the one that is meant"


def _untrained(run: Run) -> bool:
    """A test of nothing but CLIP itself, as official scripts for zero-shot CLIP have it: as good as its training."""
    return run.tested == "nothing" and run.classes != "new"


def _its_training(test: Run, trainings: list[Run]) -> Run | None:
    """The training of another code base that a test's log fits, where the folder that it names is not here."""
    for train in trainings:
        same = (train.trainer, train.config, train.seed, train.dataset) == (
            test.trainer, test.config, test.seed, test.dataset
        )  # fmt: skip
        if not train.exact and same and train.classes == "base" and test.shots in (-1, train.shots):
            return train
    return None


def _experiments(train: Run, tests: list[Run]) -> list[Experiment]:
    """What a finished training is part of."""
    tests = [test for test in tests if test.finished]
    name = (train.trainer, train.config)
    if train.classes == "base":
        new = [test for test in tests if test.classes == "new" and test.dataset == train.dataset]
        if not new:
            return []
        values = {"base": train.accuracy, "new": new[0].accuracy}
        values["H"] = harmonic_mean(*values.values())
        return [Experiment("base2new", *name, values, train, {"base": train, "new": new[0]})]
    if train.classes != "all":
        return []
    found = [Experiment("few_shot", *name, {"all": train.accuracy}, train, {"all": train})]
    halves = {test.classes: test for test in tests if test.dataset == train.dataset and test.classes in ("base", "new")}
    if len(halves) == 2:
        values = {half: halves[half].accuracy for half in ("base", "new")}
        values["H"] = harmonic_mean(*values.values())
        found.append(Experiment("base2new_all", *name, values, train, halves))
    others = [test for test in tests if test.classes == "all" and test.dataset != train.dataset]
    for protocol in ("cross_dataset", "domain_generalization"):
        part = {test.dataset: test for test in others if _transfer(train, test) == protocol}
        if part:
            part = {train.dataset: train, **{name: part[name] for name in sort_datasets(part)}}
            values = {name: run.accuracy for name, run in part.items()}
            found.append(Experiment(protocol, *name, values, train, part))
    return found


def _transfer(train: Run, test: Run) -> str:
    """The protocol of a test on another data set."""
    return "domain_generalization" if test.dataset in SHIFTS.get(train.dataset, ()) else "cross_dataset"


def _without_doubles(experiments: list[Experiment], problems: list[Problem]) -> tuple[list, list[Problem]]:
    """One experiment for each seed of a cell; where several have different results none counts."""
    groups: dict[tuple, list[Experiment]] = {}
    for one in experiments:
        settings = digest(one.settings | {one.each: one.train.settings.get(one.each)})
        run = one.train
        cell = (one.protocol, run.trainer, run.dataset, run.shots, run.exact, run.backbone)
        seed = str(run.seed) if run.seed >= 0 else run.path  # without a seed every run is another one
        groups.setdefault((*cell, seed, settings), []).append(one)
    kept = []
    for first, *others in groups.values():
        if conflicting_keys(one.facts for one in (first, *others)):  # they stand in different rows
            kept += [first, *others]
        elif all(one.values == first.values for one in others):
            kept.append(first)
            reason = f"has the result of {first.train.path}, which is the one that counts"
            problems += [Problem(one.train.path, reason) for one in others]
        else:
            reason = "one of several runs with the same settings and seed and different results: none of them counts"
            problems += [Problem(one.train.path, reason) for one in (first, *others)]
    return kept, problems


# what is missing ---------------------------------------------------------------------------------------------------


def _missing(
    experiments: list[Experiment], trainings: list[Run], tests: dict[str, list[Run]], planned: list[Planned]
) -> list[Missing]:
    """Planned cells without a result, in the plan's order; then what was begun without a plan."""
    done = {one.key: one for one in experiments if one.train.exact}
    begun = {_cell(run): run for run in trainings if run.exact}
    missing, explained = [], set()
    for cell in planned:
        experiment, run = done.get(cell.key), begun.get((_classes(cell.protocol), *cell.key[1:]))
        lacking = [target for target in cell.targets if not experiment or target not in experiment.values]
        if run:
            explained.add(run.path)
        if experiment and not lacking:
            continue
        state, reason = _why(cell, run, tests.get(run.path, []) if run else [])
        if lacking and run and run.finished:
            reason += f"; no test on {', '.join(lacking)}"
        what = f"{cell.label}, {cell.dataset}, {counted(cell.shots, 'shot')}, seed {cell.seed}"
        missing.append(Missing(cell.protocol, what, state, reason, cell.key))
    for run in trainings:
        if run.path in explained:
            continue
        what = f"{run.trainer}, {run.dataset}, {counted(run.shots, 'shot')}, seed {run.seed} ({run.path})"
        protocol = "base2new" if run.classes == "base" else "few_shot"
        if not run.finished:
            missing.append(Missing(protocol, what, "unfinished", run.state))
        elif run.classes == "base" and not any(one.train is run for one in experiments):
            missing.append(Missing(protocol, what, "unfinished", _test_state(tests.get(run.path, []))))
        for test in tests.get(run.path, []):
            if test.finished or run.classes == "base":
                continue
            if test.dataset == run.dataset:
                protocol, where = "base2new_all", f"the {test.classes} classes"
            else:
                protocol, where = _transfer(run, test), test.dataset
            missing.append(Missing(protocol, f"{what}, tested on {where}", "unfinished", test.state))
    return missing


def _cell(run: Run) -> tuple:
    return (run.classes, run.trainer, run.config, run.dataset, run.shots, run.seed)


def _classes(protocol: str) -> str:
    return "base" if protocol == "base2new" else "all"


def _why(cell: Planned, run: Run | None, tests: list[Run]) -> tuple[str, str]:
    """State and reason of a planned cell that gives no result."""
    if cell.status == "failed":
        return "failed", cell.reason or "failed without a word"
    if run is None:
        where = "said to be done, but its run is not here" if cell.status == "done" else "not run yet"
        return "planned", where
    if not run.finished:
        return "unfinished", run.state
    return "unfinished", _test_state(tests) if cell.protocol.startswith("base2new") else "trained"


def _test_state(tests: list[Run]) -> str:
    states = [test.state for test in tests if test.classes == "new" and not test.finished]
    return states[0] if states else "trained, not tested on the new classes yet"
