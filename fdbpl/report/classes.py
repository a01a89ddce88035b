"""Scores, accuracy of each class, calibration, confusion matrices and worst images of each tested data set."""

from collections import Counter, defaultdict
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from fdbpl import scores
from fdbpl.report.experiments import Results
from fdbpl.report.figures import MUTED, STYLE, Chart, Look, choose_looks, new_axes, to_svg
from fdbpl.report.groups import make_groups
from fdbpl.report.predictions import Mistake, Predictions, concatenate, read_mistakes, read_predictions
from fdbpl.report.protocols import PROTOCOL_TITLES, sort_datasets
from fdbpl.report.runs import Run, printable
from fdbpl.runs.results import shots_text

SCORES = {  # columns -> keys of metrics.json, format
    "accuracy %": ("accuracy", ".2f"),
    "balanced accuracy %": ("balanced_accuracy", ".2f"),
    "macro-F1 %": ("macro_f1", ".2f"),
    "ECE %": ("ece", ".2f"),
    "adaptive ECE %": ("adaptive_ece", ".2f"),
    "Brier": ("brier", ".4f"),
    "NLL": ("nll", ".4f"),
}
MAX_CLASSES = 100  # in a table by class and in a confusion matrix
MAX_NAMES = 30  # classes on the axes of a confusion matrix
MAX_MATRICES = 24  # on the page
MAX_MISTAKES = 8
BLUE = LinearSegmentedColormap.from_list("blue", [(0.18, 0.56, 0.8, 0.0), (0.18, 0.56, 0.8, 1.0)])  # for light and dark


@dataclass(frozen=True)
class Tested:
    """Tests of several rows on the images of one data set and half of the classes.

    Attributes:
        scores: by row, the means over runs as texts with their numbers; columns of SCORES.
        rows: whose predictions are stored, in the order of the numbers in `classes`.
        classes: name, number of images and accuracy in percent of each row (None without images), worst first.
        left_out: number of classes that are not in `classes`.
        mistakes: worst images of the run `worst_of`.
    """

    title: str
    scores: list[tuple[str, list[tuple[str, float | None]]]]
    rows: list[str]
    classes: list[tuple[str, int, list[float | None]]]
    left_out: int
    calibration: Chart | None
    matrices: list[Chart]
    mistakes: list[Mistake]
    worst_of: Run | None


def make_tested(results: Results) -> list[Tested]:
    """Tests of all protocols with the most shots of each row, without those that have only an accuracy."""
    found: dict[tuple, dict[str, list[Run]]] = defaultdict(lambda: defaultdict(list))
    looks: dict[str, Look] = {}
    seen = set()
    for group in (group for protocol in PROTOCOL_TITLES for group in make_groups(results, protocol)):
        looks |= choose_looks(zip(group.trainings["row"], group.trainings["trainer"], strict=True))
        most = group.trainings.groupby(["row", "dataset"])["shots"].transform("max") == group.trainings["shots"]
        rows = zip(group.trainings["row"], most, group.experiments, strict=True)
        for row, one in ((row, one) for row, keep, one in rows if keep):
            for run in one.tests.values():
                if run.path not in seen and "ece" in run.numbers:
                    seen.add(run.path)
                    where = f"{run.classes} classes, {shots_text(one.train.shots)}"
                    source = "" if run.dataset == one.train.dataset else f", trained on {one.train.dataset}"
                    found[run.dataset, where + source, group.backbone][row].append(run)
    names = sort_datasets(dataset for dataset, _, _ in found)
    tested, matrices = [], 0
    for key in sorted(found, key=lambda key: (names.index(key[0]), *key)):
        tested.append(_make_tested(key, found[key], looks, len(tested), MAX_MATRICES - matrices))
        matrices += len(tested[-1].matrices)
    return tested


def _make_tested(key: tuple, rows: dict[str, list[Run]], looks: dict[str, Look], place: int, matrices: int) -> Tested:
    means = {row: [_mean(runs, *column) for column in SCORES.values()] for row, runs in rows.items()}
    stored: dict[str, Predictions] = {}
    images = np.zeros(0, dtype=int)  # of each class, in the first run
    for row, runs in rows.items():
        parts = [part for part in (read_predictions(run.folder) for run in runs) if part]
        classnames = next(iter([*stored.values(), *parts])).classnames if parts else []
        if same := [part for part in parts if part.classnames == classnames]:
            images = images if stored else np.bincount(same[0].labels, minlength=len(classnames))
            stored[row] = concatenate(same)
    names = next(iter(stored.values())).classnames if stored else []
    confusions = {row: scores.confusion_matrix(part.labels, part.predicted, len(names)) for row, part in stored.items()}
    classes = _by_class([printable(name) for name in names], images, confusions)
    drawn = list(confusions.items())[: matrices if len(names) <= MAX_CLASSES else 0]
    best = max((run for runs in rows.values() for run in runs), key=lambda run: run.accuracy or 0.0)
    mistakes = read_mistakes(best, MAX_MISTAKES)
    return Tested(
        ", ".join(filter(None, key)),
        list(means.items()),
        list(stored),
        classes[:MAX_CLASSES],
        max(len(classes) - MAX_CLASSES, 0),
        _reliability(stored, looks, f"reliability-{place}") if stored else None,
        [_matrix(row, names, one, f"confusion-{place}-{number}") for number, (row, one) in enumerate(drawn)],
        mistakes,
        best if mistakes else None,
    )


def _mean(runs: list[Run], name: str, form: str) -> tuple[str, float | None]:
    values = [run.numbers[name] for run in runs if name in run.numbers]
    return (format(np.mean(values), form), float(np.mean(values))) if values else ("-", None)


def _by_class(
    names: list[str], images: np.ndarray, confusions: dict[str, np.ndarray]
) -> list[tuple[str, int, list[float | None]]]:
    if not confusions:
        return []
    accuracies = np.stack([scores.per_class_accuracy(one) for one in confusions.values()], axis=1)
    lines = [
        (name, int(count), [None if np.isnan(value) else float(value) for value in row])
        for name, count, row in zip(names, images, accuracies, strict=True)
    ]
    return sorted(lines, key=lambda line: sum(101 if value is None else value for value in line[2]))


def _reliability(stored: dict[str, Predictions], looks: dict[str, Look], name: str) -> Chart:
    """Accuracy against confidence in bins of equal width, one line for each row."""
    axes = new_axes(4.2, 3.6, "confidence in %", "accuracy in %")
    axes.plot([0, 100], [0, 100], color=MUTED, linewidth=1, linestyle=":")
    values = []
    for row, part in stored.items():
        bins = scores.calibration_bins(part.confidences.astype(float), part.correct)
        filled = bins.counts > 0
        axes.plot(100 * bins.confidences[filled], 100 * bins.accuracies[filled], **looks[row].line_style(5))
        values.append(f"{row}: expected calibration error {scores.calibration_error(bins):.2f} %")
    axes.set_xlim(0, 102)
    axes.set_ylim(0, 102)
    legend = [(looks[row], row) for row in stored]
    return Chart("Reliability", to_svg(axes.figure, name), f"Accuracy against confidence. {'; '.join(values)}", legend)


def _matrix(row: str, names: list[str], confusion: np.ndarray, name: str) -> Chart:
    """Confusion matrix in shares of the images of each class, with the most frequent confusions in the note."""
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    with matplotlib.rc_context(STYLE):
        axes = Figure(figsize=(4.2, 4.2)).subplots()
        axes.imshow(shares, vmin=0, vmax=1, cmap=BLUE, interpolation="none")
        axes.grid(False)
        axes.set_xlabel("prediction")
        axes.set_ylabel("label")
        ticks = [printable(one)[:20] for one in names] if len(names) <= MAX_NAMES else []
        axes.set_xticks(range(len(ticks)), ticks, rotation=90, size=8)
        axes.set_yticks(range(len(ticks)), ticks, size=8)
    wrong = confusion - np.diag(confusion.diagonal())
    counts = Counter({place: int(wrong[place]) for place in zip(*np.nonzero(wrong), strict=True)})
    most = [f"{printable(names[a])} as {printable(names[b])} ({count})" for (a, b), count in counts.most_common(5)]
    note = f"Most frequent: {', '.join(most)}." if most else "No confusions."
    alternative = f"Confusion matrix of {row}: {confusion.trace()} of {confusion.sum()} images correct"
    return Chart(row, to_svg(axes.figure, name), alternative, note=note)
