"""Notes on facts about a table's runs that affect its numbers and that no cell shows."""

from collections.abc import Iterable

from fdbpl.report.experiments import Experiment
from fdbpl.report.protocols import sort_datasets
from fdbpl.report.runs import TEST_IMAGE_FACTS, Run
from fdbpl.report.settings import differing_keys
from fdbpl.runs.results import counted


def remarks_on(experiments: Iterable[Experiment]) -> list[str]:
    """Notes in the order of the data sets."""
    experiments = list(experiments)
    targets = [run for one in experiments if not one.each for run in one.tests.values() if run is not one.train]
    runs = {run.path: run for one in experiments for run in (one.train, *one.tests.values())}
    found = []
    for dataset in sort_datasets(run.dataset for run in runs.values()):
        here = [run for run in runs.values() if run.dataset == dataset]
        tests = [run for run in targets if run.dataset == dataset]
        facts = [*_missing_shots(here), *_left_out(here), *_different_tests(tests), *_collapsed(here)]
        found += [f"{dataset}: {fact}." for fact in facts]
    return found


def _missing_shots(runs: list[Run]) -> list[str]:
    """Trainings with fewer images than shots × classes."""
    trained = set()
    for run in runs:
        images = int(run.numbers.get("protocol.train_images", 0))
        if not run.tested and run.numbers.get("parameters") and 0 < images < run.shots * len(run.classnames):
            trained.add((run.shots, images))
    return [
        f"{counted(images, 'training image')} instead of {counted(shots, 'shot')} per class, because classes have "
        "fewer images"
        for shots, images in sorted(trained)
    ]


def _left_out(runs: list[Run]) -> list[str]:
    most = int(max(run.numbers.get("left_out.count", 0) for run in runs))
    return [f"{counted(most, 'unreadable image')} left out (DATASET.SKIP_UNREADABLE)"] if most else []


def _different_tests(runs: list[Run]) -> list[str]:
    """Tests on different images of the same classes, as after a change of the data."""
    found = []
    for classes in sorted({run.classes for run in runs}):
        here = [run for run in runs if run.classes == classes]
        if differing_keys(({key: run.facts[key] for key in TEST_IMAGE_FACTS} for run in here), unknown="None"):
            numbers = ", ".join(map(str, sorted({run.test_images for run in here if run.test_images})))
            found.append(f"runs were tested on different images of {classes} classes (number of images: {numbers})")
    return found


def _collapsed(runs: list[Run]) -> list[str]:
    return [
        f"the training of {run.trainer} with {counted(run.shots, 'shot')} and seed {run.seed} collapsed, probably "
        f"because of its learning rate (OPTIM.LR {run.config.get('OPTIM.LR', 'unknown')}); its accuracies are "
        "at chance level"
        for run in runs
        if run.metrics.get("collapsed") is True
    ]
