"""Assignment of tests to the trainings whose weights they load, and exclusion of runs that are not results."""

from collections import defaultdict
from pathlib import Path

from fdbpl.report.runs import Problem, Run
from fdbpl.report.settings import describe, differing_keys
from fdbpl.runs.validity import mismatch, tested_on_validation


def link_tests(runs: list[Run]) -> tuple[list[Run], dict[str, list[Run]], list[Problem]]:
    """Assign tests to trainings.

    Returns:
        Trainings; by the path of each its tests, one for each data set and half of the classes; and a problem for each
        run that is not a result, trainings included.
    """
    trainings, problems = _without_copies([run for run in runs if not run.tested or _is_zero_shot(run)])
    for run in trainings:
        if run.finished and (reason := tested_on_validation(run.outcome)):
            problems.append(Problem(run.path, reason))
    by_key, tests = defaultdict(list), defaultdict(list)
    for run in trainings:
        by_key[run.exact, run.key].append(run)
    for run in runs:
        if not run.tested or _is_zero_shot(run):
            continue
        candidates = by_key.get((run.exact, run.tested), [])
        train = _select_training(run, candidates) or _similar_foreign_training(run, trainings)
        reason = _invalid(run, train, len(candidates))
        if train is None or reason:
            problems.append(Problem(run.path, reason))
        else:
            tests[train.path].append(run)
    for path, found in tests.items():
        tests[path], repeated = _without_repetitions(found)
        problems += repeated
    return trainings, tests, problems


def _is_zero_shot(run: Run) -> bool:
    """Whether a log is a test of CLIP itself, as official scripts have it; it counts as a training."""
    return run.tested == "nothing" and run.classes != "new"


def _select_training(test: Run, candidates: list[Run]) -> Run | None:
    """The tested one of the trainings with the same key; several without a seed differ in the folder's name only."""
    if len(candidates) > 1:
        named = Path(test.model_dir).parts
        candidates = [run for run in candidates if named and run.folder.resolve().parts[-len(named) :] == named]
    return candidates[0] if len(candidates) == 1 else None


def _similar_foreign_training(test: Run, trainings: list[Run]) -> Run | None:
    """The training of another code base that a test's log matches, if the folder that it names does not exist."""
    for train in trainings:
        same = (train.trainer, train.config, train.seed, train.dataset) == (
            test.trainer, test.config, test.seed, test.dataset
        )  # fmt: skip
        if not train.exact and same and train.classes == "base" and test.shots in (-1, train.shots):
            return train
    return None


def _invalid(test: Run, train: Run | None, candidates: int) -> str:
    """Reason why a test is not in the tables; empty for a valid one."""
    if train is None and candidates:
        return f"tests one of {candidates} runs without a seed, which cannot be told apart by their records"
    if train is None:
        return "tests a run that is not below this folder; copy that run here as well"
    if test.epoch not in (None, train.epochs):
        return f"tests epoch {test.epoch} of {train.epochs}; the tables hold results of the final weights only"
    return mismatch(train.outcome, test.outcome) or tested_on_validation(test.outcome)


# repetitions -------------------------------------------------------------------------------------------------------


def _without_copies(runs: list[Run]) -> tuple[list[Run], list[Problem]]:
    """Keep one of each run. Copies, and repetitions with an equal result, are problems; all repetitions are if their
    results differ. Runs without a seed are different runs unless one is a copy of the other."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs:
        started = run.record.get("started", run.path) if run.seed < 0 else ""
        groups.setdefault((run.exact, run.key, started) if run.key else (run.path,), []).append(run)
    kept, problems = [], []
    for group in groups.values():
        group.sort(key=lambda run: not run.finished)
        kept.append(group[0])  # even if it is a problem: its tests belong to it
        problems += _repetitions(group)
    return kept, problems


def _without_repetitions(tests: list[Run]) -> tuple[list[Run], list[Problem]]:
    """Keep one finished test of each data set and half of the classes; none if their results differ."""
    groups: dict[tuple, list[Run]] = {}
    for test in tests:
        if test.finished:
            groups.setdefault((test.dataset, test.classes), []).append(test)
    problems = [problem for group in groups.values() for problem in _repetitions(group)]
    excluded = {problem.path for problem in problems}
    return [test for test in tests if test.path not in excluded], problems


def _repetitions(runs: list[Run]) -> list[Problem]:
    """All runs if their results differ, else all but the first."""
    if len({run.accuracy for run in runs if run.finished}) > 1:
        return conflicting_repetitions(runs)
    return [Problem(run.path, f"repeats {runs[0].path}, which is in the tables") for run in runs[1:]]


def conflicting_repetitions(runs: list[Run]) -> list[Problem]:
    """A problem for each of several runs of the same thing with different results."""
    keys = differing_keys(run.settings for run in runs)
    texts = {run.path: _result(run, keys) for run in runs}
    return [
        Problem(
            path,
            f"{text}: differs from repetitions with the same seed, "
            + ", ".join(f"{other} ({result})" for other, result in texts.items() if other != path)
            + ". None of them is in the tables; delete all but one",
        )
        for path, text in texts.items()
    ]


def _result(run: Run, keys: list[str]) -> str:
    settings = describe({key: run.settings.get(key) for key in keys})
    result = f"{run.accuracy:.2f}" if run.finished else run.state
    return f"{result} with {settings}" if settings else result
