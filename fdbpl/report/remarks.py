"""Facts about the images of a table's runs that change its numbers and that no cell shows."""

from collections.abc import Iterable

from fdbpl.report.experiments import Experiment, in_order
from fdbpl.report.runs import Run
from fdbpl.runs.results import counted


def remarks_on(experiments: Iterable[Experiment]) -> list[str]:
    """Sentences, in the order of the data sets."""
    runs = {run.path: run for one in experiments for run in (one.train, *one.tests.values())}
    found = []
    for dataset in in_order(run.dataset for run in runs.values()):
        here = [run for run in runs.values() if run.dataset == dataset]
        facts = [*_missing_shots(here), *_left_out(here), *_different_tests(here)]
        found += [f"{dataset}: {fact}." for fact in facts]
    return found


def _missing_shots(runs: list[Run]) -> list[str]:
    """Trainings with fewer images than their number of shots promises."""
    trained = {
        (run.shots, run.train_images)
        for run in runs
        if not run.tested and run.number("parameters") > 0 and 0 < run.train_images < run.shots * run.classes_learned
    }
    return [
        f"{counted(images, 'training image')} in place of {counted(shots, 'shot')} of each class, because classes have "
        "fewer images"
        for shots, images in sorted(trained)
    ]


def _left_out(runs: list[Run]) -> list[str]:
    most = max((run.left_out for run in runs), default=0)
    return [f"{counted(most, 'unreadable image')} left out (DATASET.SKIP_UNREADABLE)"] if most else []


def _different_tests(runs: list[Run]) -> list[str]:
    """Different numbers of test images of the same classes, as after a change of the data."""
    numbers: dict[str, set[int]] = {}
    for run in runs:
        if run.test_images:
            numbers.setdefault(run.classes, set()).add(run.test_images)
    several = [sorted(found) for found in numbers.values() if len(found) > 1]
    return [f"tested on different numbers of images ({', '.join(map(str, found))})" for found in several]
