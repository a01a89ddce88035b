"""Assignment of tests to the trainings whose weights they load, and exclusion of runs that are not results."""

from collections import defaultdict
from pathlib import Path

from fdbpl.report.repetitions import repetitions
from fdbpl.report.runs import Problem, Run
from fdbpl.runs.validity import mismatch, tested_on_validation


def link_tests(runs: list[Run]) -> tuple[list[Run], dict[str, list[Run]], list[Problem]]:
    """Assign tests to trainings.

    Returns:
        Trainings; by the path of each its tests, one for each data set and half of the classes; and a problem for each
        run that is not a result, trainings included.
    """
    copies, problems = defaultdict(list), []
    for run in runs:
        if _is_training(run):
            # runs without a seed are different runs unless one is a copy of the other
            started = run.record.get("started", run.path) if run.seed < 0 else ""
            copies[(run.exact, run.key, started) if run.key else (run.path,)].append(run)
    trainings, by_key = [], defaultdict(list)
    for group in copies.values():
        group.sort(key=lambda run: not run.finished)
        train = group[0]  # even if it is a problem: its tests belong to it
        problems += repetitions(group, [run.accuracy for run in group if run.finished])
        if train.finished and (reason := tested_on_validation(train)):
            problems.append(Problem(train.path, reason))
        trainings.append(train)
        by_key[train.exact, train.key].append(train)

    tests = defaultdict(list)
    for run in runs:
        if _is_training(run):
            continue
        candidates = by_key[run.exact, run.tested]
        tested = _select_training(run, candidates) or _similar_foreign_training(run, trainings)
        reason = _invalid(run, tested, len(candidates))
        if tested is None or reason:
            problems.append(Problem(run.path, reason))
        else:
            tests[tested.path].append(run)
    for path, found in tests.items():
        same = defaultdict(list)
        for run in found:
            if run.finished:
                same[run.dataset, run.classes].append(run)
        repeated = [one for group in same.values() for one in repetitions(group, [run.accuracy for run in group])]
        excluded = {problem.path for problem in repeated}
        tests[path] = [run for run in found if run.path not in excluded]
        problems += repeated
    return trainings, tests, problems


def _is_training(run: Run) -> bool:
    """Whether a run is a training, or the log of a test of CLIP itself, as official scripts have it."""
    return not run.tested or (run.tested == "nothing" and run.classes != "new")


def _select_training(test: Run, candidates: list[Run]) -> Run | None:
    """The tested one of the trainings with the same key; several without a seed differ in the folder's name only."""
    if len(candidates) > 1:
        named = Path(test.model_dir).parts
        candidates = [run for run in candidates if named and run.folder.resolve().parts[-len(named) :] == named]
    return candidates[0] if len(candidates) == 1 else None


def _similar_foreign_training(test: Run, trainings: list[Run]) -> Run | None:
    """The training of another code base that a test's log matches, if the folder that it names does not exist."""

    def setting(run: Run) -> tuple:
        return (run.trainer, run.config_name, run.seed, run.dataset)

    similar = [run for run in trainings if not run.exact and run.classes == "base" and setting(run) == setting(test)]
    return next((run for run in similar if test.shots in (-1, run.shots)), None)


def _invalid(test: Run, train: Run | None, candidates: int) -> str:
    """Reason why a test is not in the tables; empty for a valid one."""
    if train is None and candidates:
        return f"tests one of {candidates} runs without a seed, which cannot be told apart by their records"
    if train is None:
        return "tests a run that is not below this folder; copy that run here as well"
    if test.epoch not in (None, train.epochs):
        return f"tests epoch {test.epoch} of {train.epochs}; the tables hold results of the final weights only"
    return mismatch(train, test) or tested_on_validation(test)
